"""One worker stalls at a bad moment; the clients of the others do not, nor does the main thread."""

import contextlib
import os
import re
import socket
import time

import tap
from harness import Portd
from process import Trace
from tap import TABLES, Fail, Lateness, Skip, at_least, at_most, check, equal, for_each, note, slow, spread

STALL = 4  # seconds; a stalled worker is noticed within 2
OPEN = 40
SLOTS = 64  # more than one worker takes before it is the other's turn


def stall(portd, tid, calls, number=1):
    """The thread's next call of one of these names begins STALL seconds late."""
    return Trace(portd, ["-e", f"trace={calls}", "-e",
                         f"inject={calls}:delay_enter={STALL}s:when={number}"], [tid])


def has_begun(trace):
    """Whether the call that stalls has been made: strace writes its name before it delays it."""
    return "(" in trace.text()


def wait_live(portd, crowd):
    """Until every worker turns again."""
    end = time.monotonic() + slow(2 * STALL)
    while portd.request("health live").strip() != "live":
        check(time.monotonic() < end, "it turns again")
        crowd.run(0.05)


def wait_stalled(portd, crowd):
    """Until main has noticed."""
    end = time.monotonic() + slow(2.5)
    while "stalled" not in portd.request("health live"):
        check(time.monotonic() < end, "nobody noticed the stall")
        crowd.run(0.02)


def watched(portd, tid):
    """{number: inode} of what a thread's epoll set has; None if it does not wait with one now."""
    folder = f"/proc/{portd.pid}/task/{tid}"
    with open(f"{folder}/syscall") as file:
        words = file.read().split()  # "running", or the number of the call and its arguments
    number = int(words[1], 16) if len(words) > 6 else -1
    try:
        if os.readlink(f"{folder}/fd/{number}") != "anon_inode:[eventpoll]":
            return None
        with open(f"{folder}/fdinfo/{number}") as file:
            rows = re.findall(r"tfd:\s+(\d+) .* ino:([0-9a-f]+)", file.read())
    except FileNotFoundError:
        return None
    return {int(number): int(inode, 16) for number, inode in rows}


def by_id(portd):
    """{thread: what it watches} of the workers, in the order of their ids, which is that of their
    wake-ups. A sanitizer's own thread is none of them."""
    def wake_up(tid):
        folder = f"/proc/{portd.pid}/task/{tid}/fd"
        return min(n for n in workers[tid] if "eventfd" in os.readlink(f"{folder}/{n}"))
    end = time.monotonic() + slow(5)
    while True:
        workers = {tid: watched(portd, tid) for tid in portd.tids() if tid != portd.pid}
        workers = {tid: seen for tid, seen in workers.items() if seen}
        if len(workers) == int(portd.options["workers.count"]):
            return {tid: workers[tid] for tid in sorted(workers, key=wake_up)}
        check(time.monotonic() < end, "not all workers wait")


def holder_of(portd, crowd):
    """The holder's thread: while portd is full, the only one that watches the listener."""
    with open("/proc/net/tcp") as file:
        listener = next(int(row.split()[9]) for row in file
                        if f":{portd.port:04X} 00000000:0000 0A" in row)
    end = time.monotonic() + slow(2)
    while time.monotonic() < end:
        holders = [tid for tid, seen in by_id(portd).items() if listener in seen.values()]
        if len(holders) == 1:
            return holders[0]
        crowd.run(0.01)
    raise Fail("there is no holder")


class Full:
    """A full portd of two workers; `waiting` clients wait, the first of them held. `holder` and
    `other` are the workers' threads, `of[tid]` the clients that each of them serves."""

    def __init__(self, portd, waiting):
        self.portd = portd
        self.crowd = portd.crowd()
        tids = list(by_id(portd))
        self.of = {tid: [] for tid in tids}
        before = [0, 0]
        for _ in range(portd.stats()["budget"]["max_connections"]):
            client, = self.crowd.connect(send=b"x")
            self.crowd.wait_served([client])
            after = [w["connections"] for w in portd.stats()["workers"]]
            self.of[tids[0 if after[0] > before[0] else 1]].append(client)
            before = after
        self.waiting = []
        for _ in range(waiting):
            self.waiting += self.crowd.connect(send=b"y")
        portd.wait_until(lambda s: s["budget"]["held"] + s["listener"]["queue_depth"] == waiting,
                         2, "all wait", self.crowd)
        self.holder = holder_of(portd, self.crowd)
        self.other, = [tid for tid in tids if tid != self.holder]
        note("open at the holder, at the other:", len(self.of[self.holder]), len(self.of[self.other]))

    def leave(self, tid):
        """A client of this worker leaves. Returns when."""
        self.of[tid].pop().close()
        return time.monotonic()


@for_each(table=TABLES)
def test_with_the_only_wake_up(table):
    """The worker that is woken for a client stalls before it has accepted it: EPOLLEXCLUSIVE has
    woken nobody else. Each worker is the slow one in turn, for it is not known who is woken."""
    with Portd({"workers.count": "2"}, table=table) as portd:
        crowd = portd.crowd()
        waits = []
        for tid in by_id(portd):
            trace = stall(portd, tid, "accept4")
            client = crowd.connect(1, send=b"x")[0]
            crowd.wait_served([client], 3, "the client of a worker that has stalled")
            waits.append(client.first - client.began)
            wait_live(portd, crowd)
            trace.stop()
        note("from connect to service:", spread(waits))


@for_each(table=TABLES)
def test_while_it_lends_its_kept_descriptor(table):
    """At EMFILE a worker stalls between giving its kept descriptor up and accepting in its place.

    It has the lock of those who lend then. Neither main nor the other worker waits for it: the
    control socket answers at once, and the next client is shed as soon as the stall is noticed.
    """
    with Portd({"workers.count": "2", "shed.queue_timeout": "200ms"}, table=table) as portd:
        crowd = portd.crowd()
        _, top = portd.fill_tables(crowd, OPEN)
        old = portd.limit_nofile(top + 1)[0]
        crowd.wait_answered(crowd.connect(4, send=b"y"), 2, "those who find no descriptor are shed")
        holder = holder_of(portd, crowd)
        trace = stall(portd, holder, "accept4")
        first, = crowd.connect(send=b"y")
        crowd.wait(lambda: has_begun(trace), 3, "the holder stalls")
        began = time.monotonic()
        second, = crowd.connect(send=b"y")
        asked, seen = [], []
        while time.monotonic() < began + STALL - 0.5:
            since = time.monotonic()
            seen.append(portd.request("health live", STALL).strip())
            asked.append(time.monotonic() - since)
            crowd.run(0.05)
        note("health --live at EMFILE:", spread(asked))
        at_most(max(asked), slow(0.2), "seconds until health --live answers")
        check(any("stalled" in text for text in seen), "nobody noticed the stall:", set(seen))
        check(second.answered or first.answered, "no client was answered while one worker stalled")
        at_most(min(c.answered_at for c in (first, second) if c.answered) - began, 3,
                "seconds until the next client is answered")
        wait_live(portd, crowd)
        trace.stop()
        crowd.wait_answered([first, second], 2, "both are answered in the end")
        portd.limit_nofile(old)


@for_each(table=TABLES)
def test_while_it_wakes_the_holder(table):
    """A worker has given a slot back, and stalls before the holder knows of it.

    It has marked the holder as woken, so nobody else would wake it for this."""
    with Portd({"workers.count": "2", "budget.max_connections": str(SLOTS),
                "shed.queue_timeout": "60s"}, table=table) as portd:
        full = Full(portd, 2)
        trace = stall(portd, full.other, "write")
        began = full.leave(full.other)
        full.crowd.wait_served(full.waiting[:1], STALL, "the held client gets the slot")
        note(f"from close to service: {full.waiting[0].first - began:.2f} s")
        at_most(full.waiting[0].first - began, STALL - 1, "seconds from close to service")
        check(has_begun(trace), "no worker has stalled")
        wait_live(portd, full.crowd)
        trace.stop()
        equal(full.waiting[1].answered, False, "the next one has an answer")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


def test_while_it_takes_a_passed_client():
    """A held client is passed to the worker that has the slot, and that one stalls as it takes it.

    This client has to wait; the holder goes on with the next one."""
    if "private" not in TABLES:
        raise Skip("PORTD_TABLES has no private tables")
    with Portd({"workers.count": "2", "budget.fds": "110", "shed.queue_timeout": "60s"},
               table="private") as portd:
        full = Full(portd, 3)  # each table to its last place: only who lost a client can take one
        trace = stall(portd, full.other, "recvmsg")
        began = full.leave(full.other)
        full.crowd.wait(lambda: has_begun(trace), 2, "the client is being taken")
        left = full.leave(full.holder)
        full.crowd.wait_served(full.waiting[1:2], 1, "the holder serves the next one")
        note(f"the next one: {full.waiting[1].first - left:.3f} s after a slot was free")
        equal(full.waiting[0].answered, False, "the one on its way has an answer")
        full.crowd.wait_served(full.waiting[:1], STALL + 1, "the passed client arrives")
        note(f"the passed one: {full.waiting[0].first - began:.2f} s after a slot was free")
        wait_live(portd, full.crowd)
        trace.stop()
        equal(full.waiting[2].answered, False, "the last one has an answer")
        full.leave(full.other)
        full.crowd.wait_served(full.waiting, 1, "clients are passed on as before")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


@for_each(table=TABLES, timeout=("60s", "1s"))
def test_holder_that_comes_back(table, timeout):
    """The holder stalls with a client in hand. Another takes over; when the first turns again, its
    client gets a slot like any other, or its answer if the time was up meanwhile."""
    with Portd({"workers.count": "2", "budget.max_connections": str(SLOTS),
                "shed.queue_timeout": "60s"}, table=table) as portd:
        full = Full(portd, 3)
        held, second, third = full.waiting
        began = time.monotonic()
        trace = stall(portd, full.holder, "epoll_wait,epoll_pwait,epoll_pwait2")
        wait_stalled(portd, full.crowd)
        portd.wait_until(lambda s: s["budget"]["held"] == 2, 1, "there is a new holder", full.crowd)
        full.leave(full.other)
        full.crowd.wait_served([second], 1, "the new holder serves the next one")
        check(held.answered is False and third.answered is False, "served by whom?")
        if timeout == "1s":
            portd.write_config({"shed.queue_timeout": timeout})
            portd.reload()
            full.crowd.wait(lambda: third.end, 1.5, "the new holder sheds by the new timeout")
            full.crowd.wait(lambda: held.end, STALL + 1, "the first one sheds its own")
            note(f"after {held.ended - began:.2f} s: the client of the one that stalled")
            wait_live(portd, full.crowd)
            shed = {"full": 2}
        else:
            wait_live(portd, full.crowd)
            equal(held.answered, False, "the held one has an answer, without a slot")
            for tid in full.of:
                full.leave(tid)
            full.crowd.wait_served([held, third], 2, "both holders serve theirs")
            shed = {}
        trace.stop()
        portd.assert_rows("shed", shed)
        full.leave(full.holder)
        full.leave(full.other)
        later = full.crowd.connect(2, send=b"z")
        full.crowd.wait_served(later, 2, "all is as before")


def test_lingering_descriptor_of_another_worker():
    """One descriptor is left for all, and each client that was served keeps it for 0.5 s. The next
    one is served as soon as it is free, at whichever worker that was."""
    if "shared" not in TABLES:
        raise Skip("PORTD_TABLES has no shared table")
    for _ in range(20):
        with Portd({"workers.count": "3", "service.type": "tuple", "shed.queue_timeout": "60s"},
                   table="shared") as portd, contextlib.ExitStack() as clients:
            with Lateness() as late:
                times = serve_one_after_the_other(portd, clients)
        if times:
            gaps = [b - a for a, b in zip(times, times[1:])]
            note("seconds between two that were served:", *(f"{gap:.3f}" for gap in gaps))
            late.only_below(0.05, "seconds between two")
            at_least(min(gaps), 0.45, "seconds between two")
            at_most(max(gaps), 0.5 + slow(0.06), "seconds between two")
            return
    raise Fail("the first client was always served by the worker that became the holder")


def serve_one_after_the_other(portd, clients):
    """When each of four clients was served, or None if the first was the holder's own."""
    connect = lambda: clients.enter_context(  # and stays, so that its answer lingers
        socket.create_connection((portd.host, portd.port), slow(3)))

    def served(client):
        check(client.recv(100).startswith(b"tcp "), "what it got")
        return time.monotonic()

    old = portd.limit_nofile(portd.free_fd() + 1)[0]
    try:
        first = served(connect())
        accepted = [w["accepted"] for w in portd.stats()["workers"]]
        equal(sorted(accepted), [0, 0, 1], "accepted by each")
        waiting = [connect() for _ in range(3)]
        if holder_of(portd, portd.crowd()) == list(by_id(portd))[accepted.index(1)]:
            return None
        return [first] + [served(client) for client in waiting]
    finally:
        portd.limit_nofile(old)


if __name__ == "__main__":
    tap.main()
