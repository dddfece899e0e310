"""Overload: 256 descriptors, 1,000 clients. Every slot is used; all others get the answer that is
configured, when it is due and not before, the oldest first; portd stays quiet meanwhile.
"""

import tap
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

CLIENTS = 1000
MESSAGE = b"busy, try later\r\n"
TICK = 0.010  # the kernel counts the age of a queued client in its clock ticks
FULL_WAIT = {"0s": 0.0, "300ms": 0.3}


def small(options, table):
    """A portd of 256 descriptors: one table of 256, or 256 in all tables together."""
    if table == "shared":
        return Portd(options, table=table, nofile=256)
    return Portd({**options, "budget.fds": "256"}, table=table)


def say(number):
    """Every other client has sent something by the time it is answered."""
    return b"hello" if number % 2 else b""


def check_budget(portd, table):
    budget = portd.stats()["budget"]
    slots = budget["max_connections"]
    equal(budget["fds"], 256, "budget.fds")
    equal(budget["bound_by"], "fds", "budget.bound_by")
    note(f"{slots} slots")
    at_least(slots, 120 if table == "private" else 150, "slots of 256 descriptors")
    return slots


def check_answers(shed, answer):
    for client in shed:
        if answer == "reset":
            equal(client.outcome, "reset", f"client {client.index}")
        elif answer == "message":
            equal(client.data, MESSAGE, f"what client {client.index} was told")
            equal(client.end, "fin", f"how client {client.index} ended")
        elif say(client.index):  # close(2) with unread data resets: both are a close
            check(client.outcome in ("closed", "reset"), client.index, client.outcome)
        else:
            equal(client.outcome, "closed", f"client {client.index}")


def check_times(shed, wait):
    early = [c for c in shed if c.answered_at - c.began < wait - TICK]
    late = sorted(c.answered_at - c.began - wait for c in shed)
    note("answered after queue_timeout:", spread(late))
    equal(len(early), 0, f"clients answered before {wait} s")
    at_most(late[int(0.99 * len(late))], slow(0.25), "lateness, 99th percentile")
    at_most(late[-1], slow(0.5), "lateness of the last")


def check_order(shed, strict):
    """Clients in the order of their connects were answered in that order."""
    orders = [c.order for c in sorted(shed, key=lambda c: c.index)]
    turned = sum(a > b for a, b in zip(orders, orders[1:]))
    note(f"{turned} neighbours of {len(orders)} answered in the wrong order")
    if strict:
        equal(turned, 0, "clients answered before an older one")


@for_each(table=TABLES, answer=("reset", "close", "message"), timeout=tuple(FULL_WAIT))
def test_answer(table, answer, timeout):
    options = {"shed.queue_timeout": timeout, "shed.answer": answer}
    if answer == "message":
        options["shed.message"] = MESSAGE.decode().replace("\r", "\\r").replace("\n", "\\n")
    with small(options, table) as portd:
        lines = len(portd.log_lines())
        slots = check_budget(portd, table)
        crowd = portd.crowd(message=MESSAGE)
        clients = crowd.connect_gently(CLIENTS, say)
        crowd.wait(lambda: crowd.ends >= CLIENTS - slots, 5, "all but the slots are answered")
        crowd.run(0.1)
        open_now = [c for c in clients if c.end is None]
        shed = [c for c in clients if c.end is not None]
        equal(len(open_now), slots, "connections that stay open")
        crowd.ask(open_now)
        check_answers(shed, answer)
        check_times(shed, FULL_WAIT[timeout])
        check_order(shed, strict=timeout != "0s")

        stats = portd.assert_books()
        equal(stats["state"], "full", "state")
        equal(stats["accept"]["accepted"], CLIENTS, "accepted")
        equal(stats["budget"]["connections"], slots, "connections")
        equal(stats["budget"]["connections_peak"], slots, "connections_peak")
        portd.assert_rows("shed", {"full": CLIENTS - slots})
        equal({k: v for k, v in stats["accept"]["errors"].items() if v}, {}, "accept errors")
        at_most(stats["budget"]["fds_in_use"], 256, "fds_in_use")
        said = portd.log_lines()[lines:]
        note("logged:", *said)
        at_most(len(said), 6, "log lines of the overload")


@for_each(table=TABLES, timeout=("60s", "infinity"))
def test_full_and_quiet(table, timeout):
    """Nobody is answered before it is time, and waiting costs nothing."""
    with small({"shed.queue_timeout": timeout}, table) as portd:
        slots = check_budget(portd, table)
        crowd = portd.crowd()
        served = portd.fill(crowd, slots)
        waiting = crowd.connect_gently(CLIENTS - slots, say)
        held = 0 if timeout == "infinity" else 1
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == len(waiting) - held, 2,
                         "the others are in the queue", crowd)
        cpu = portd.cpu()
        before, after, took = portd.watch(2.0, crowd)
        cpu = portd.cpu() - cpu
        equal(sum(c.answered for c in waiting), 0, "clients answered while full")
        equal(after["budget"]["held"], held, "held")
        equal(after["state"], "full", "state")
        turns = sum(w["loops"] for w in after["workers"]) - sum(w["loops"] for w in before["workers"])
        note(f"{turns} turns, {1000 * cpu:.1f} ms of CPU in {took:.2f} s")
        at_most(turns, 20 * took, "turns of the loops")
        at_most(cpu / took, 0.02 * tap.SLOW, "share of one CPU")
        crowd.ask(served[:20])

        portd.assert_books()
        for client in served:
            client.close()
        crowd.wait_served(waiting[1:slots:2], 5, "freed slots go to those who wait longest")
        equal(sum(c.received > 0 for c in waiting[slots + 1:]), 0, "younger clients served first")


@for_each(table=TABLES)
def test_full_without_a_queue_is_quiet(table):
    with small({"shed.queue_timeout": "1s"}, table) as portd:
        crowd = portd.crowd()
        portd.fill(crowd)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full", crowd)
        before, after, took = portd.watch(2.0, crowd)
        turns = sum(w["loops"] for w in after["workers"]) - sum(w["loops"] for w in before["workers"])
        note(f"{turns} turns in {took:.2f} s")
        at_most(turns, 20 * took, "turns of the loops")


@for_each(table=TABLES)
def test_shed_clients_hold_no_slot(table):
    """While 1,000 are told a message and do not close, the next client of a freed slot is served."""
    with small({"shed.queue_timeout": "0s", "shed.answer": "message", "shed.message": "no\\n"},
               table) as portd:
        crowd = portd.crowd(message=b"no\n")
        served = portd.fill(crowd)
        for client in crowd.connect_gently(CLIENTS, say):
            client.read(False)
        portd.wait_until(lambda s: s["shed"]["full"] == CLIENTS, 5, "all are shed", crowd)
        served[0].close()
        portd.wait_until(lambda s: s["budget"]["connections"] == len(served) - 1, 2, "freed", crowd)
        client, = crowd.connect(send=b"x")
        crowd.wait_served([client], 1, "the freed slot serves")
        equal(client.outcome, "served", "the newcomer")


if __name__ == "__main__":
    tap.main()
