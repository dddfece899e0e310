"""Clients that are gone before they are accepted: ten thousand that reset while portd stands still or
is full. Each counts as aborted, none costs a descriptor, a slot, or a place in the books of its source.
"""

import tap
from clients import source
from harness import Portd
from tap import TABLES, at_most, equal, for_each, note, slow

CLIENTS = 10000
BATCH = 2500  # the backlog queue has room for 4096


def come_and_go(crowd, count, addresses=50):
    """Connects, and resets at once; every other one has said something."""
    clients = []
    for number in range(count):
        clients += crowd.connect(1, send=b"hello" if number % 2 else b"",
                                 source=(source(number % addresses), 0))
        clients[-1].close()
    return clients


def gone_while_paused(portd, crowd, count):
    accepted = portd.stats()["accept"]["accepted"]
    portd.pause()
    try:
        come_and_go(crowd, count)
    finally:
        portd.resume()
    portd.wait_until(lambda s: s["accept"]["accepted"] == accepted + count
                     and portd.books(s) == 0, 10, f"{count} more are accepted", crowd)


@for_each(table=TABLES)
def test_ten_thousand_gone_while_portd_stands_still(table):
    with Portd({"budget.max_connections": "500"}, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 3)
        fds = portd.assert_books()["budget"]["fds_in_use"]
        for _ in range(CLIENTS // BATCH):
            gone_while_paused(portd, crowd, BATCH)
            crowd.ask(inside)
        stats = portd.assert_rows("shed", {"aborted": CLIENTS})
        equal(sum(stats["closed"].values()), 0, "services started for them, and closed")
        equal(stats["listener"]["kernel_drops"], 0, "dropped by the kernel")
        at_most(stats["budget"]["fds_in_use"], fds, "descriptors")
        equal(stats["state"], "open", "state: they are nobody's refusal")
        crowd.wait_served(crowd.connect(100, send=b"x"))


@for_each(table=TABLES, timeout=("0s", "100ms", "10s", "infinity"))
def test_gone_while_full(table, timeout):
    """They wait in the queue, or one of them is held, when they go."""
    with Portd({"budget.max_connections": "10", "shed.queue_timeout": timeout}, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 10)
        gone_while_full = come_and_go(crowd, BATCH)
        crowd.run(slow(0.05))
        inside[0].close()
        late = crowd.connect(1, send=b"x")
        seen = 1 + len(inside) + len(gone_while_full)
        stats = portd.wait_until(lambda s: s["accept"]["accepted"] == seen and portd.books(s) == 0, 5,
                                 "all are accepted", crowd)
        rows = {name: n for name, n in stats["shed"].items() if n}
        note("shed", rows)
        if timeout != "0s":  # else some are shed while they are still there
            equal(rows.pop("aborted", 0) + rows.get("full", 0), BATCH, "aborted, or their time was up")
            if timeout != "100ms":
                equal(rows, {}, "shed for anything else")
        if timeout in ("10s", "infinity"):
            crowd.wait_served(late)
        crowd.ask(inside[1:])


LIMITS = {"source.max_connections": "2", "source.rate": "3", "budget.rate": "50", "shed.start_at": "10%"}


@for_each(table=TABLES)
def test_limits_do_not_count_who_is_gone(table):
    """Who is gone is aborted, whatever else speaks against it, and uses up nobody's limit."""
    options = {**LIMITS, "budget.max_connections": "500", "source.deny": source(7)}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        gone_while_paused(portd, crowd, 1000)
        portd.assert_rows("shed", {"aborted": 1000})
        # A moment after it was counted, the last one leaves the books of its source.
        portd.wait_until(lambda s: s["sources"]["open"] == 0, 2, "no source has open connections")
        # Each source has all its tokens, and portd its own.
        mine = crowd.connect(2, send=b"x", source=(source(3), 0))
        crowd.wait_served(mine)


@for_each(table=TABLES)
def test_a_dry_run_does_not_count_them_either(table):
    options = {**LIMITS, "budget.max_connections": "500", "source.deny": source(7), "shed.dry_run": "yes"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        gone_while_paused(portd, crowd, 1000)
        stats = portd.assert_rows("shed", {"aborted": 1000})
        equal({name: n for name, n in stats["would_shed"].items() if n}, {}, "would_shed")


@for_each(table=TABLES, answer=("reset", "close", "message"))
def test_gone_while_draining(table, answer):
    options = {"shed.answer": answer, "shed.message": "busy"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        portd.request("drain")
        gone_while_paused(portd, crowd, 1000)
        portd.assert_rows("shed", {"aborted": 1000})
        portd.request("drain off")
        portd.wait_until(lambda s: s["state"] != "draining", 2, "no longer draining")
        crowd.wait_served(crowd.connect(5, send=b"x"))


if __name__ == "__main__":
    tap.main()
