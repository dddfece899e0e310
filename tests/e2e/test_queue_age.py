"""How long a client has waited is told by the queue, not by what the client sends meanwhile."""

import random
import socket
import time

import tap
from harness import Portd
from tap import TABLES, at_least, at_most, equal, for_each, note, slow, spread

TIMEOUT = 0.5
EARLY = 0.012  # the kernel tells ages in its ticks, of up to 10 ms


def full(table, **options):
    keys = {"budget.max_connections": "2", "shed.queue_timeout": f"{int(TIMEOUT * 1000)}ms"}
    keys.update({name.replace("__", "."): value for name, value in options.items()})
    return Portd(keys, table=table)


def renew(client, way):
    """Sends what makes the kernel's figures of this client new."""
    if client.sock is None:
        return
    try:
        client.sock.send(b"d" * 1000 if way == "data" else b"u")
    except OSError:
        pass  # it was answered meanwhile


def wait_for_all(crowd, renewing, clients, way, seconds):
    """Until all are answered; those that renew their age do so each 25 ms."""
    until = time.monotonic() + seconds
    while not all(c.answered for c in clients) and time.monotonic() < until:
        for client in renewing:
            renew(client, way)
        crowd.run(0.025)


@for_each(way=("data", "urgent"), table=TABLES)
def test_clients_that_renew_their_age(way, table):
    """Ten of them, and a silent one behind: all are answered in time, and none too early."""
    with full(table) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 2)
        renewing = crowd.connect(10)
        if way == "urgent":
            for client in renewing:
                client.sock.send(b"!", socket.MSG_OOB)
        portd.wait_until(lambda s: s["budget"]["held"] + s["listener"]["queue_depth"] == 10, 2,
                         "ten wait", crowd)
        [silent] = crowd.connect()
        clients = renewing + [silent]
        wait_for_all(crowd, renewing, clients, way, slow(10))
        took = [c.answered_at - c.began for c in clients if c.answered]
        note("from connect to answer:", spread(took))
        equal(len(took), 11, "answered")
        at_most(max(took), slow(3 * TIMEOUT), "the longest wait")
        at_least(min(took), TIMEOUT - EARLY, "the shortest wait")
        stats = portd.assert_rows("shed", {"full": 11})
        wait = stats["queue_wait_seconds"]
        at_least(wait["sum"], 11 * (TIMEOUT - EARLY), "the histogram's sum")


def test_histogram_without_a_timeout():
    """queue_timeout = infinity: nobody is held, and each who gets a slot has waited for long."""
    with full("shared", shed__queue_timeout="infinity") as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 2)
        before = portd.stats()["queue_wait_seconds"]
        waiting = crowd.connect(2)
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 2, 2, "two wait")
        wait_for_all(crowd, waiting, waiting, "data", 3.0)
        for client in inside:
            client.close()
        crowd.wait_served(waiting)
        after = portd.stats()["queue_wait_seconds"]
        equal(after["count"] - before["count"], 2, "clients in the histogram")
        # Counted in the queue once a second at least.
        at_least(after["sum"] - before["sum"], 2 * 1.8, "what they have waited")


@for_each(table=TABLES)
def test_nobody_is_answered_early(table):
    """Bursts, gaps, resets in the queue, slots that come and go, in four workers."""
    chance = random.Random(11)
    with full(table, workers__count="4", budget__max_connections="8",
              shed__queue_timeout="200ms") as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 8)
        clients, served = [], 0
        until = time.monotonic() + 3
        while time.monotonic() < until:
            new = crowd.connect(chance.choice((0, 1, 1, 5, 40)), send=chance.choice((b"", b"x")))
            for client in new:
                if chance.random() < 0.3:
                    client.close()
            clients += [c for c in new if c.end is None or c.end != "we"]
            inside += [c for c in clients if c.received and c.end is None and c not in inside]
            if inside and chance.random() < 0.5:
                inside.pop(chance.randrange(len(inside))).close()
                served += 1
            crowd.run(chance.choice((0, 0, 0.01, 0.05)))
        crowd.run(0.5)
        turned_away = [c.ended - c.began for c in clients if c.end == "reset" and not c.received]
        note(f"{served} slots were given back; from connect to a reset:", spread(turned_away))
        at_least(len(turned_away), 20, "clients that were turned away")
        at_least(min(turned_away), 0.2 - EARLY, "the shortest wait of these")
        equal(portd.assert_books()["shed"]["backlog"], 0, "shed for the backlog")


if __name__ == "__main__":
    tap.main()
