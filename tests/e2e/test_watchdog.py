"""The watchdog: pings come in time while every worker turns, whatever else is short; a worker that
stalls stops them, and is told of.
"""

import re
import time

import tap
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

WAITS = "epoll_wait,epoll_pwait,epoll_pwait2"


def pings_since(portd, since):
    """When they came."""
    with portd.notify.news:
        return [at for at, text in portd.notify.messages
                if at >= since and "WATCHDOG=1" in text.splitlines()]


def watch_pings(portd, seconds, interval, what):
    began = time.monotonic()
    time.sleep(seconds)  # this is the time that is measured
    pings = [began] + pings_since(portd, began) + [time.monotonic()]
    gaps = [b - a for a, b in zip(pings, pings[1:])]
    note(f"{what}: {len(pings) - 2} pings, gaps", spread(gaps))
    at_most(max(gaps), slow(interval), f"the longest gap of pings, {what}")


@for_each(table=TABLES)
def test_watchdog(table):
    """Idle, and while the descriptors are used up, pings come in time."""
    with Portd({"workers.count": "4", "shed.queue_timeout": "infinity"}, table=table,
               env={"WATCHDOG_USEC": "1000000"}) as portd:
        watch_pings(portd, 1.5, 0.6, "idle")
        crowd = portd.crowd()
        served, top = portd.fill_tables(crowd, 200)
        start = len(portd.notify.messages)
        old, _ = portd.limit_nofile(top + 1)
        waiting = crowd.connect(8, send=b"x")
        portd.wait_until(lambda s: s["accept"]["errors"]["EMFILE"] > 0, 3, "EMFILE", crowd)
        watch_pings(portd, 1.5, 0.6, "at EMFILE")
        equal(sum(c.answered for c in waiting), 0, "answered")
        portd.hup()  # for a new STATUS=
        check(portd.notify.wait_match("STATUS=full: .*, EMFILE [1-9].*", 2, start),
              "no STATUS= that tells:", portd.notify.lines(start))
        crowd.ask(served)
        portd.limit_nofile(old)
        crowd.wait_served(waiting, 2)


@for_each(usec=("0", "other process", "none"))
def test_no_watchdog(usec):
    env = {"0": {"WATCHDOG_USEC": "0"}, "none": {},
           "other process": {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"}}[usec]
    with Portd(env=env) as portd:
        check(portd.notify.wait("WATCHDOG=1", 1.2) is None, "a ping that nobody asked for")


@for_each(table=TABLES)
def test_stalled_worker(table):
    """One of four does not turn: no ping, a line in the log, health --live says so, others serve."""
    stall, usec = slow(3.5), {"shared": "2000000", "private": "1000000"}[table]
    with Portd({"workers.count": "4"}, table=table, env={"WATCHDOG_USEC": usec}) as portd:
        crowd = portd.crowd()
        lines = len(portd.log_lines())
        tid = portd.worker_tids()[1]
        began = time.monotonic()
        trace = portd.strace("-e", "trace=" + WAITS, "-e",
                             f"inject={WAITS}:delay_enter={int(stall * 1e6)}:when=1", tids=[tid])
        latest = time.monotonic()  # it stands still from the first wake-up on
        stalled = lambda: [l for l in portd.log_lines(lines) if "stalled" in l and "error" in l]
        while not stalled():
            check(time.monotonic() - latest < 2.5, "nothing was logged within 2 s")
            time.sleep(0.005)
        logged = time.monotonic()
        note(f"logged after {logged - began:.2f} s: {stalled()[0]}")
        at_most(logged - latest, 2.0, "seconds until it was logged")
        number = re.search(r"worker (\d)", stalled()[0])[1]

        result = portd.portctl("health", "--live")
        equal((result.returncode, result.stdout), (1, ""), "health --live")
        equal(result.stderr, f"portctl: error: worker {number} has stalled\n", "what it says")
        result = portd.portctl("health")
        equal((result.returncode, result.stdout), (0, "open\n"), "health")

        clients = crowd.connect(200, send=b"x")
        crowd.wait_served(clients, 1, "200 clients are served by three workers")
        note("200 clients:", spread([c.first - c.began for c in clients]))
        check(len(stalled()) == 1, "it turned again too early for this test")
        while not [l for l in portd.log_lines(lines) if "turns again" in l]:
            crowd.run(0.01)
            check(time.monotonic() - began < stall + slow(3), "it never turned again")
        resumed = portd.notify.wait("WATCHDOG=1", 2, len(portd.notify.messages) - 1)
        check(resumed is not None, "pings do not resume")
        trace.stop()

        pings = pings_since(portd, began)
        gap, since = max((b - a, a) for a, b in zip([began] + pings, pings))
        note(f"no ping for {gap:.2f} s, from {since - began:.2f} s on")
        at_least(gap, stall - int(usec) / 1e6 / 2, "seconds without a ping")
        result = portd.portctl("health", "--live")
        equal((result.returncode, result.stdout), (0, "live\n"), "health --live afterwards")
        watch_pings(portd, 1.0, int(usec) / 1e6 * 0.6, "afterwards")
        crowd.ask(clients)


def test_all_stalled():
    """Nobody is served, whatever the state: health fails and says why. drain does its work all the same."""
    with Portd({"workers.count": "2"}) as portd:
        trace = portd.strace("-e", "trace=" + WAITS, "-e",
                             f"inject={WAITS}:delay_enter={int(slow(5) * 1e6)}:when=1", tids=portd.worker_tids())
        portd.crowd().connect(2, send=b"x")
        deadline = time.monotonic() + slow(5)
        while (result := portd.portctl("health")).returncode == 0:
            equal(result.stdout, "open\n", "health before it is noticed")
            check(time.monotonic() < deadline, "health does not fail")
            time.sleep(0.02)
        equal((result.returncode, result.stdout), (1, ""), "health")
        equal(result.stderr, "portctl: error: every worker has stalled (2 of 2)\n", "what it says")
        equal(portd.stats()["state"], "open", "state")
        equal(portd.request("drain"), "draining\n", "drain")
        equal(portd.request("drain off"), "open\n", "drain off")
        deadline = time.monotonic() + slow(20)
        while portd.portctl("health").stdout != "open\n":
            check(time.monotonic() < deadline, "it never turned again")
            time.sleep(0.02)
        trace.stop()


if __name__ == "__main__":
    tap.main()
