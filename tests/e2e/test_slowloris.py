"""Slowloris: clients that say nothing, or a byte now and then, so as to keep the slots. first_byte
and evict_idle end them, while good clients are served, and those that talk are left alone.
"""

import time

import tap
from clients import source
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

SLOTS = 100
SECONDS = 3.0  # of attack
FIRST_BYTE = slow(0.3)
EVICT = slow(0.5)
BEAT = 0.05  # of a connection that is never idle


def ms(seconds):
    return f"{round(1000 * seconds)}ms"


class Talkers:
    """Connections that echo every BEAT. gap: the longest that one of them kept still."""

    def __init__(self, portd, count):
        self.crowd = portd.crowd()
        self.clients = portd.fill(self.crowd, count)
        self.last = time.monotonic()
        self.gap = 0.0

    def beat(self):
        now = time.monotonic()
        if now - self.last < BEAT:
            return
        self.gap = max(self.gap, now - self.last)
        self.last = now
        for client in self.clients:
            if client.end is None and not client.pending:
                client.send(b"t")
        self.crowd.turn(0)

    def assert_alive(self, evict):
        self.gap = max(self.gap, time.monotonic() - self.last)
        note(f"talkers kept still for {1000 * self.gap:.0f} ms at most")
        tap.only_within(time.monotonic() - self.gap, evict, "the talkers")
        ended = [c.end for c in self.clients if c.end]
        equal(ended, [], "ends of connections that talked")
        self.crowd.ask(self.clients)


class Attack:
    """silent: clients that never say a word. slow: those that say a byte a second. Each comes back
    when it was thrown out."""

    def __init__(self, portd, silent, drip):
        self.crowd = portd.crowd()
        self.wanted = {"silent": silent, "drip": drip}
        self.now = {"silent": [], "drip": []}
        self.ends = {"silent": 0, "drip": 0}
        self.number = 0
        self.said = {}

    def turn(self):
        now = time.monotonic()
        for kind, clients in self.now.items():
            alive = [c for c in clients if c.end is None]
            self.ends[kind] += len(clients) - len(alive)
            for _ in range(min(20, self.wanted[kind] - len(alive))):
                self.number += 1
                alive += self.crowd.connect(1, send=b"" if kind == "silent" else b"x",
                                            source=(source(self.number), 0))
                self.said[alive[-1]] = now
            self.now[kind] = alive
        for client in self.now["drip"]:
            if now - self.said[client] >= slow(1.0) and client.up and not client.pending:
                client.send(b"x")
                self.said[client] = now
        self.crowd.turn(0)


@for_each(table=TABLES)
def test_good_clients_are_served_beside_slowloris(table):
    options = {"budget.max_connections": str(SLOTS), "timeouts.first_byte": ms(FIRST_BYTE),
               "shed.evict_idle": ms(EVICT), "shed.queue_timeout": "30s"}
    with Portd(options, table=table) as portd:
        talkers = Talkers(portd, 10)
        attack = Attack(portd, 200, 200)
        good, done = portd.crowd(), []
        end = time.monotonic() + slow(SECONDS)
        current = []
        while time.monotonic() < end:
            attack.turn()
            talkers.beat()
            current = [c for c in current if not c.received or done.append(c) or c.close()]
            current += good.connect(5 - len(current), send=b"hello")
            good.run(0.005)
        stats = portd.stats()
        attack.wanted = {"silent": 0, "drip": 0}
        attack.turn()
        waited = [c.first - c.began for c in done]
        note(f"{len(done)} good clients served after", spread(waited))
        note("attackers ended:", attack.ends, {k: v for k, v in stats["closed"].items() if v})
        equal([c.end for c in good if c.end not in (None, "we")], [], "good clients turned away")
        at_least(len(done), 10, "good clients served")
        # 400 attackers come before a good one, at SLOTS in first_byte or evict_idle.
        at_most(max(waited), 400 / (SLOTS - 10) * (FIRST_BYTE + EVICT) + slow(1), "the longest wait")
        at_least(stats["closed"]["first_byte"], 200, "closed for first_byte")
        at_least(stats["closed"]["evicted"], 100, "closed for evict_idle")
        talkers.assert_alive(EVICT)
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


@for_each(table=TABLES)
def test_evict_idle_leaves_active_ones_alone(table):
    """A flood that stays, each idle after its first word: for every newcomer somebody is evicted."""
    options = {"budget.max_connections": "40", "shed.evict_idle": ms(EVICT),
               "shed.queue_timeout": "infinity"}
    with Portd(options, table=table) as portd:
        talkers = Talkers(portd, 20)
        crowd = portd.crowd()
        flood = crowd.connect_gently(1000, lambda number: b"x")
        began = time.monotonic()
        while time.monotonic() - began < slow(SECONDS):
            talkers.beat()
            crowd.run(0.01)
        stats = portd.assert_books()
        # It goes on meanwhile: who was counted by then is told of it, who is told by then is counted.
        counted = stats["closed"]["evicted"]
        crowd.wait(lambda: sum(c.end is not None for c in flood) >= counted, 2, "they are told")
        ended = [c for c in flood if c.end]
        portd.wait_until(lambda s: s["closed"]["evicted"] >= len(ended), 2, "they are counted")
        note(f"{len(ended)} evicted in {slow(SECONDS):.1f} s after", spread([c.ended - c.first for c in ended]))
        at_least(len(ended), 20 * (SECONDS / 0.5 - 2), "evicted: the flood goes on")
        # What this process saw late, it saw late for some only.
        idle = sorted(c.ended - c.first for c in ended)
        at_least(idle[len(idle) // 2], EVICT - 0.010, "idle before it was evicted")
        talkers.assert_alive(EVICT)
        equal(sum(stats["shed"].values()), 0, "shed")


@for_each(table=TABLES)
def test_a_pause_of_portd_evicts_no_active_one(table):
    """portd itself stands still for longer than evict_idle: what has been sent to it meanwhile waits
    unread in the kernel, and who has sent it was not idle."""
    evict = slow(0.2)
    options = {"budget.max_connections": "1000", "shed.evict_idle": ms(evict), "shed.queue_timeout": "30s"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        talkers = portd.fill(crowd, 1000)
        for _ in range(3):
            portd.pause()
            try:
                crowd.run(evict + 0.05)
                want = [c.received + 1 for c in talkers]
                newcomer = crowd.connect(1, send=b"x")
                for client in talkers:
                    client.send(b"t")
            finally:
                portd.resume()
            heard = lambda: all(c.end or c.received >= n for c, n in zip(talkers, want))
            crowd.run(evict / 2, heard)
            equal([c.end for c in talkers if c.end], [], "ends of connections that talked")
            newcomer[0].close()
            portd.wait_until(lambda s: s["budget"]["held"] == 0, 2, "nobody waits")
            crowd.ask(talkers)
        equal(portd.assert_books()["closed"]["evicted"], 0, "evicted")


@for_each(table=TABLES)
def test_first_byte_alone_ends_the_silent(table):
    """Without eviction: the port is open again after first_byte, however many are silent."""
    options = {"budget.max_connections": "50", "timeouts.first_byte": ms(FIRST_BYTE),
               "shed.queue_timeout": "30s"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        silent = crowd.connect(300)
        good = crowd.connect(1, send=b"x")
        crowd.wait_served(good, 300 / 50 * FIRST_BYTE + 2)
        note("the good one was served after", spread([good[0].first - good[0].began]))
        # The silent ones before it took the 50 slots six times.
        at_least(good[0].first - good[0].began, 5 * FIRST_BYTE, "it waited its turn")
        crowd.wait(lambda: all(c.end for c in silent), 2, "the silent ones are ended")
        equal(crowd.tally(silent), {"closed": 300}, "how they ended")
        portd.assert_rows("closed", {"first_byte": 300})
        check(portd.stats()["state"] == "open", "state", portd.stats()["state"])


if __name__ == "__main__":
    tap.main()
