"""portctl stats is true while 15,000 clients come and go, and is quick; the workers share evenly."""

import collections
import random
import time

import tap
from clients import source
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

CLIENTS = 15000
AT_ONCE = 1000
SOURCES = 8  # addresses
BATCH = 64
WORD = b"0123456789"


class Passers:
    """CLIENTS that connect, echo a word and close, AT_ONCE at most; half by a FIN, half by a reset."""

    def __init__(self, crowd):
        self.crowd = crowd
        self.here = collections.deque()
        self.began = 0
        self.gone = {"fin": 0, "reset": 0}
        self.latest = 0.0

    @property
    def done(self):
        return sum(self.gone.values())

    def turn(self):
        """Lets some come, and those go who have been served."""
        for _ in range(min(BATCH, CLIENTS - self.began, AT_ONCE - len(self.here))):
            self.began += 1
            address = source(self.began % SOURCES)
            self.here += self.crowd.connect(1, send=WORD, source=(address, 0))
        self.crowd.turn(0)
        while self.here and (self.here[0].received >= len(WORD) or self.here[0].end):
            client = self.here.popleft()
            equal((client.data, client.end), (WORD, None), f"client {client.index}")
            self.latest = max(self.latest, client.first - client.began)
            by_reset = client.index % 2 == 0
            client.close(reset=by_reset)
            self.gone["reset" if by_reset else "fin"] += 1
            self.crowd.clients[client.index] = None  # its memory


def check_snapshot(stats, passers, before):
    """What must hold at any moment. `before`: (stats, passers.done) of the snapshot before."""
    off = Portd.books(stats)
    inside = stats["budget"]["connections"] + stats["listener"]["queue_depth"]
    at_most(abs(off), AT_ONCE, "the books, while clients come and go, are off by")
    at_most(stats["accept"]["accepted"], passers.began, "accepted")
    at_least(stats["accept"]["accepted"] + stats["listener"]["queue_depth"], passers.done,
             "accepted and waiting")
    at_most(sum(stats["closed"].values()), passers.done, "closed")
    # A client may be seen in the queue and, a moment later, as open. How many have left that
    # portd has not noticed yet depends on how slow it is: only what has closed counts here.
    at_most(inside + sum(stats["closed"].values()), passers.began + AT_ONCE,
            "in the queue, open and closed")
    at_most(stats["budget"]["connections"], stats["budget"]["connections_peak"], "connections")
    at_most(stats["traffic"]["bytes_out"], stats["traffic"]["bytes_in"] + AT_ONCE * len(WORD),
            "bytes_out")
    equal((sum(stats["shed"].values()), sum(stats["accept"]["errors"].values())), (0, 0),
          "shed and errors")
    equal(stats["state"], "open", "state")
    old = before[0]
    for part in ("accept", "traffic", "closed"):
        for name, value in stats[part].items():
            if name != "errors":
                at_least(value, old[part][name], f"{part}.{name}, which never goes back,")
    for worker, former in zip(stats["workers"], old["workers"]):
        at_least(worker["accepted"], former["accepted"], "accepted by a worker")
    return abs(off)


@for_each(table=TABLES)
def test_while_clients_come_and_go(table):
    with Portd({"workers.count": "2"}, table=table) as portd:
        crowd = portd.crowd()
        passers = Passers(crowd)
        began, asked, took, offs = time.monotonic(), 0.0, [], []
        before = (portd.stats(), 0)
        while passers.done < CLIENTS:
            passers.turn()
            now = time.monotonic()
            check(now - began < slow(25), f"only {passers.done} have come and gone")
            if now - asked >= 0.01:
                asked, done = now, passers.done
                stats = portd.stats()
                took.append(time.monotonic() - asked)
                offs.append(check_snapshot(stats, passers, before))
                before = (stats, done)
        spent = time.monotonic() - began
        note(f"{CLIENTS / spent:.0f} clients a second, {len(took)} snapshots;",
             f"books off by {max(offs)} at most, {sum(o == 0 for o in offs)} exact")
        note("stats answered within", spread(took),
             f"; the longest wait of a client: {1000 * passers.latest:.0f} ms")
        at_least(len(took), 10, "snapshots")
        at_most(sorted(took)[len(took) // 2], slow(0.1), "the median answer of stats")
        at_most(max(took), slow(1.0), "the slowest answer of stats")

        portd.wait_until(lambda s: s["budget"]["connections"] == 0, 2, "all have gone")
        stats = portd.assert_books()
        equal(stats["accept"]["accepted"], CLIENTS, "accepted")
        equal(sum(w["accepted"] for w in stats["workers"]), CLIENTS, "accepted by all workers")
        equal({k: v for k, v in stats["closed"].items() if v},
              {"client": passers.gone["fin"], "reset": passers.gone["reset"]}, "closed")
        equal((stats["traffic"]["bytes_in"], stats["traffic"]["bytes_out"]),
              (CLIENTS * len(WORD), CLIENTS * len(WORD)), "traffic")
        equal((stats["budget"]["held"], stats["listener"]["kernel_drops"]), (0, 0), "held and drops")
        at_most(stats["budget"]["connections_peak"], AT_ONCE + BATCH, "connections_peak")
        at_least(stats["budget"]["connections_peak"], 2, "connections_peak")
        at_least(stats["accept"]["calls"], CLIENTS, "calls")
        at_least(stats["queue_wait_seconds"]["count"], CLIENTS // 16 // 2, "samples of the queue wait")
        at_most(stats["queue_wait_seconds"]["count"], CLIENTS // 16 * 2, "samples of the queue wait")


@for_each(table=TABLES)
def test_while_most_are_shed(table):
    """Eight slots and 3,000 clients: at rest each of them is in exactly one row."""
    with Portd({"budget.max_connections": "8", "shed.queue_timeout": "0s"}, table=table) as portd:
        crowd = portd.crowd()
        everyone, offs = [], []
        for number in range(3000):
            everyone += crowd.connect(1, send=WORD, source=(source(number % SOURCES), 0))
            crowd.turn(0)
            if number % 8 == 7:
                for client in everyone[-8:]:
                    if client.received and not client.end:
                        client.close(reset=False)
            if number % 100 == 99:
                offs.append(abs(Portd.books(portd.stats())))
        crowd.wait_answered(everyone, 5)
        for client in everyone:
            client.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 0, 2, "all have gone", crowd)
        stats = portd.assert_books()
        served = sum(c.received > 0 for c in everyone)
        shed = sum(stats["shed"].values())
        note(f"{served} served, {shed} shed; books off by {max(offs)} at most")
        equal(stats["accept"]["accepted"], len(everyone), "accepted")
        equal((sum(stats["closed"].values()), shed), (served, len(everyone) - served),
              "closed and shed")
        equal(set(k for k, v in stats["shed"].items() if v) - {"full", "aborted"}, set(), "reasons")
        equal(stats["budget"]["connections_peak"], 8, "connections_peak")
        at_least(stats["shed"]["full"], 100, "shed for full")


@for_each(table=TABLES, how=("one by one", "in a burst"))
def test_workers_share_evenly(table, how):
    """1,000 connections that stay, on 4 workers: the fullest has at most 1.1 of the emptiest."""
    with Portd({"workers.count": "4"}, table=table) as portd:
        crowd = portd.crowd()
        if how == "in a burst":
            clients = crowd.connect(1000, send=b"x")
        else:
            clients = crowd.connect_gently(1000, lambda n: b"x")
        crowd.wait_served(clients, 10)
        stats = portd.assert_books()
        shares = sorted(w["connections"] for w in stats["workers"])
        note(f"shares {shares}, accepted {[w['accepted'] for w in stats['workers']]}")
        equal(sum(shares), 1000, "connections of all workers")
        # Where everything is slower a peer may come too late to take its share.
        at_most(shares[-1] / max(shares[0], 1), 1.1 if tap.SLOW <= 1 else 3, "fullest to emptiest")


@for_each(table=TABLES, workers=("4", "16"))
def test_workers_share_evenly_again(table, workers):
    """2,000 stay, half of them leave at random, as many come again: the emptier workers get more of them."""
    with Portd({"workers.count": workers}, table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect_gently(2000, lambda n: b"x")
        crowd.wait_served(clients, 20)
        random.Random(f"leave {table} {workers}").shuffle(clients)
        for client in clients[:1000]:
            client.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 1000, 10, "half have left", crowd)
        left = sorted(w["connections"] for w in portd.stats()["workers"])
        newcomers = crowd.connect_gently(1000, lambda n: b"x")
        crowd.wait_served(newcomers, 20)
        shares = sorted(w["connections"] for w in portd.assert_books()["workers"])
        note(f"left {left}, then {shares}")
        equal(sum(shares), 2000, "connections of all workers")
        at_most(shares[-1] / max(shares[0], 1), 1.25 if tap.SLOW <= 1 else 3, "fullest to emptiest")


if __name__ == "__main__":
    tap.main()
