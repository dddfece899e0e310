"""The held client: while portd is full, the oldest waits for the next slot, and nobody is lost."""

import random
import time

import tap
from harness import Portd
from tap import TABLES, Skip, at_most, equal, for_each, note, slow, spread

SLOTS = 16


def full(table, **options):
    """A portd of SLOTS slots."""
    keys = {"budget.max_connections": str(SLOTS), "shed.queue_timeout": "60s"}
    keys.update({name.replace("__", "."): value for name, value in options.items()})
    return Portd(keys, table=table)


def waits(portd, crowd, count, send=b"y"):
    """count clients that wait, in order."""
    clients = crowd.connect(count, send=send)
    seen = lambda s: s["listener"]["queue_depth"] + s["budget"]["held"] == count
    portd.wait_until(seen, 2, f"{count} wait", crowd)
    return clients


@for_each(table=TABLES, timeout=("60s", "infinity"))
def test_freed_slot_goes_to_the_next(table, timeout):
    with full(table, shed__queue_timeout=timeout) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        waiting = waits(portd, crowd, 60)
        took = []
        for number, next_client in enumerate(waiting[:50]):
            # The newest now and then: a slot is a slot, in whichever worker it comes free.
            leaving = served.pop(0 if number % 3 else -1)
            began = time.monotonic()
            leaving.close()
            crowd.wait_served([next_client], 2, "the next client gets the freed slot")
            took.append(next_client.first - began)
            served.append(next_client)
            equal(sum(c.answered for c in waiting[number + 1:]), 0, "younger clients answered")
        note("from close to service:", spread(took))
        at_most(sorted(took)[len(took) // 2], slow(0.01), "the median")
        at_most(max(took), slow(0.1), "the longest")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


@for_each(workers=("2", "4"), timeout=("60s", "infinity"))
def test_freed_slot_in_any_table(workers, timeout):
    """Each private table is full to its last place; the client goes where the place is."""
    if "private" not in TABLES:
        raise Skip("PORTD_TABLES has no private tables")
    with Portd({"workers.count": workers, "budget.fds": str(100 * int(workers)),
                "shed.queue_timeout": timeout}, table="private") as portd:
        crowd, chance = portd.crowd(), random.Random(7)
        served = portd.fill(crowd)
        waiting = waits(portd, crowd, 100)
        took = []
        for next_client in waiting:
            leaving = served.pop(chance.randrange(len(served)))
            began = time.monotonic()
            leaving.close(reset=chance.random() < 0.5)
            crowd.wait_served([next_client], 2, "the next client gets the freed slot")
            took.append(next_client.first - began)
            served.append(next_client)
        note("from close to service:", spread(took))
        at_most(sorted(took)[len(took) // 2], slow(0.01), "the median")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


@for_each(table=TABLES)
def test_slot_that_comes_free_during_accept(table):
    """queue_timeout = 0s: who may not wait at all gets the slot that came free while the kernel
    handed him over, in whichever worker."""
    with full(table, budget__max_connections="4", shed__queue_timeout="0s",
              workers__count="2") as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd, 4)
        while min(w["connections"] for w in portd.stats()["workers"]) == 0:
            served.pop(0).close()  # who accepts next is chance; a slot for it is free
            portd.wait_until(lambda s: s["budget"]["connections"] == 3, 2, "a slot", crowd)
            served += portd.fill(crowd, 1)
        trace = portd.strace("-e", "trace=accept4", "-e", "inject=accept4:delay_exit=300ms",
                             tids=[tid for tid in portd.tids() if tid != portd.pid])
        late = crowd.connect(1, send=b"x")
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 0, 2, "it is being accepted")
        for client in served:
            client.close()
        crowd.wait_answered(late, 2)
        trace.stop()
        equal(late[0].outcome, "served", "who came last")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


@for_each(table=TABLES)
def test_spell_lasts_to_the_low_watermark(table):
    """20 slots, 50 %: full from the 20th to the 10th, and newcomers are served at once meanwhile."""
    with full(table, budget__max_connections="20", shed__low_watermark="50%") as portd:
        lines = len(portd.log_lines())
        crowd = portd.crowd()
        served = portd.fill(crowd, 20)
        portd.wait_until(lambda s: s["state"] == "full", 1, "full when the last slot is taken", crowd)

        def leave(count, left):
            for client in [served.pop() for _ in range(count)]:
                client.close()
            return portd.wait_until(lambda s: s["budget"]["connections"] == left, 2, "closed", crowd)

        leave(5, 15)
        newcomer, = crowd.connect(send=b"n")
        crowd.wait_served([newcomer], 1, "a slot is free")
        at_most(newcomer.first - newcomer.began, slow(0.1), "the newcomer's wait")
        equal(portd.stats()["state"], "full", "state at 16 of 20")
        newcomer.close()
        leave(4, 11)
        crowd.run(0.3)
        equal(portd.stats()["state"], "full", "state at 11 of 20")
        leave(1, 10)
        stats = portd.wait_until(lambda s: s["state"] == "open", 0.5, "open at the watermark", crowd)
        at_most(0.3, stats["time_in_state_seconds"]["full"], "time in the state full")
        served += crowd.connect(9, send=b"z")
        crowd.wait_served(served)
        crowd.run(0.2)
        equal(portd.stats()["state"], "open", "state at 19 of 20, without a new spell")
        said = portd.log_lines()[lines:]
        note("logged:", *said)
        at_most(len(said), 4, "log lines of one spell")


@for_each(table=TABLES)
def test_no_slot_is_lost(table):
    """Five rounds of overload, whose clients end in every way."""
    with full(table, budget__max_connections="40", shed__queue_timeout="50ms") as portd:
        crowd = portd.crowd()
        for number in range(5):
            clients = crowd.connect_gently(300, lambda n: b"x" * (n % 3))
            crowd.wait(lambda: sum(c.end is not None for c in clients) == 260, 5,
                       f"round {number}: all but 40 are answered")
            equal(portd.stats()["budget"]["connections"], 40, f"round {number}: open")
            for client in clients:
                client.close(reset=client.index % 2 == 0)
            portd.wait_until(lambda s: s["budget"]["connections"] == 0 and s["budget"]["held"] == 0,
                             2, f"round {number}: all slots are back", crowd)
            portd.assert_books()
        portd.fill(crowd, 40)
        late, = crowd.connect(send=b"x")
        crowd.wait(lambda: late.end, 2, "the 41st is shed")
        at_most(late.received, 0, "bytes served to the 41st")


@for_each(table=TABLES)
def test_churn_sheds_nobody(table):
    """Short connections, more at once than slots: with time enough everyone is served."""
    with full(table, shed__queue_timeout="20s") as portd:
        crowd = portd.crowd()
        clients = crowd.connect_gently(600, lambda n: b"c")
        done = set()

        def finished():
            for client in clients:
                if client.received and client.index not in done:
                    done.add(client.index)
                    client.close(reset=client.index % 2 == 0)
            return len(done) == len(clients)

        began = time.monotonic()
        crowd.wait(finished, 15, "all are served")
        note(f"{len(clients) / (time.monotonic() - began):.0f} clients a second over {SLOTS} slots")
        portd.wait_until(lambda s: sum(s["closed"].values()) == 600, 2, "all are closed", crowd)
        portd.assert_rows("shed", {})


@for_each(table=TABLES)
def test_held_client_that_leaves(table):
    """The held one resets: it is aborted, and its place goes to the next."""
    with full(table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        waiting = waits(portd, crowd, 5)
        waiting[0].close()
        portd.wait_until(lambda s: s["shed"]["aborted"] == 1, 1, "the held one is gone", crowd)
        served[0].close()
        crowd.wait_served([waiting[1]], 1, "the next one is served")
        equal(sum(c.answered for c in waiting[2:]), 0, "others answered")


@for_each(table=TABLES)
def test_held_client_that_half_closes(table):
    """Its request and its FIN came while it waited: it is alive, and is served."""
    with full(table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        waiting = waits(portd, crowd, 3, send=b"request")
        for client in waiting:
            client.shutdown()
        crowd.run(0.2)
        equal(portd.stats()["shed"]["aborted"], 0, "aborted")
        for client in served[:3]:
            client.close()
        crowd.wait(lambda: all(c.end for c in waiting), 2, "all three are served")
        for client in waiting:
            equal((client.data, client.end), (b"request", "fin"), "what it got")


@for_each(table=TABLES)
def test_reload_of_queue_timeout(table):
    """A new queue_timeout counts for those who wait already."""
    with full(table, shed__queue_timeout="infinity") as portd:
        crowd = portd.crowd()
        portd.fill(crowd)
        first = waits(portd, crowd, 20)
        crowd.run(0.3)
        equal(sum(c.answered for c in first), 0, "answered under infinity")
        portd.write_config({"shed.queue_timeout": "200ms"})
        equal(portd.reload().splitlines()[0], "reloaded", "the verdict")
        crowd.wait_answered(first, 1, "those who waited too long are shed")
        portd.write_config({"shed.queue_timeout": "60s"})
        portd.reload()
        second = waits(portd, crowd, 20)
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 1, "one is held", crowd)
        portd.write_config({"shed.queue_timeout": "infinity"})
        portd.reload()
        crowd.run(0.5)
        equal(sum(c.answered for c in second), 0, "answered under infinity again")
        portd.assert_books()
        portd.write_config({"shed.queue_timeout": "0s"})
        portd.reload()
        crowd.wait_answered(second, 1, "0s sheds all who wait")
        equal(portd.assert_books()["shed"]["full"], 40, "shed for full")


@for_each(table=TABLES)
def test_reload_of_max_connections(table):
    """More slots serve those who wait; fewer close nobody, and count at the next close."""
    with full(table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        waiting = waits(portd, crowd, 10)
        portd.write_config({"budget.max_connections": str(SLOTS + 8)})
        equal(portd.reload().splitlines()[0], "reloaded", "the verdict")
        crowd.wait_served(waiting[:8], 1, "new slots serve those who wait")
        equal(sum(c.answered for c in waiting[8:]), 0, "answered without a slot")
        portd.write_config({"budget.max_connections": "8"})
        portd.reload()
        crowd.ask(served)
        for client in served:
            client.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 8, 2, "8 are left", crowd)
        crowd.run(0.3)
        equal(sum(c.answered for c in waiting[8:]), 0, "answered with 8 of 8 slots taken")
        waiting[0].close()
        crowd.wait_served([waiting[8]], 1, "the ninth slot is the next one's")


@for_each(table=TABLES, workers=("2", "4"))
def test_worker_that_cannot_accept_strands_nobody(table, workers):
    """accept4 fails with EMFILE in one worker only; epoll wakes that one first, again and again."""
    with Portd({"workers.count": workers, "shed.queue_timeout": "10s"}, table=table) as portd:
        crowd = portd.crowd()
        took = []
        for tid in portd.worker_tids()[:2]:
            trace = portd.strace("-e", "trace=accept4", "-e", "inject=accept4:error=EMFILE",
                                 tids=[tid])
            for _ in range(50):  # one by one: each wakes one worker, often the lame one
                client, = crowd.connect(send=b"x")
                crowd.wait_served([client], 2, "one client")
                took.append(client.first - client.began)
            burst = crowd.connect(50, send=b"x")
            crowd.wait_served(burst, 2, "fifty clients at once")
            took += [c.first - c.began for c in burst]
            trace.stop()
            note(f"worker {tid}: {trace.injected()} calls failed")
        note("from connect to service:", spread(took))
        at_most(max(took), slow(1.0), "the longest wait")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


if __name__ == "__main__":
    tap.main()
