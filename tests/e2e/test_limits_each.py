"""Each limit alone, with real clients: who is refused, under which reason, and that the port is as
open as before once the cause has gone.
"""

import time

import tap
from clients import source
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow

LONG = {"shed.queue_timeout": "1min"}


def outcomes(crowd, clients, seconds=5):
    crowd.wait_answered(clients, seconds)
    return crowd.tally(clients)


@for_each(table=TABLES)
def test_source_limit(table):
    with Portd({"source.max_connections": "3", "source.prefix4": "24"}, table=table) as portd:
        crowd = portd.crowd()
        mine = crowd.connect(3, send=b"x", source=("127.0.1.1", 0))
        crowd.wait_served(mine)
        more = crowd.connect(4, send=b"x", source=("127.0.1.77", 0))
        equal(outcomes(crowd, more), {"reset": 4}, "the same /24")
        others = crowd.connect(3, send=b"x", source=("127.0.2.1", 0))
        crowd.wait_served(others)
        portd.assert_rows("shed", {"source_limit": 4})
        mine[0].close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 5, 2, "one has gone")
        again = crowd.connect(1, send=b"x", source=("127.0.1.200", 0))
        crowd.wait_served(again)
        portd.write_config({"source.max_connections": "4"})
        equal(portd.reload().splitlines()[0], "reloaded", "reload")
        crowd.wait_served(crowd.connect(1, send=b"x", source=("127.0.1.9", 0)))
        refused = crowd.connect(1, send=b"x", source=("127.0.1.9", 0))
        equal(outcomes(crowd, refused), {"reset": 1}, "above the new limit")


@for_each(table=TABLES, what=("source", "budget"))
def test_rate(table, what):
    options = {f"{what}.rate": "20", f"{what}.burst": "10"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        reason = "source_rate" if what == "source" else "rate"
        began = time.monotonic()
        clients = crowd.connect(50, send=b"x", source=("127.0.3.1", 0))
        crowd.wait_answered(clients)
        took = time.monotonic() - began
        served = crowd.tally(clients).get("served", 0)
        at_least(served, 10, "the burst")
        at_most(served, 10 + 20 * took + 1, "no more than burst + rate * t")
        portd.assert_rows("shed", {reason: 50 - served})
        portd.wait_until(lambda s: time.monotonic() > began + took + slow(0.2), 2, "tokens come")
        crowd.wait_served(crowd.connect(2, send=b"x", source=("127.0.3.1", 0)))
        if what == "source":
            crowd.wait_served(crowd.connect(10, send=b"x", source=("127.0.4.1", 0)))


@for_each(table=TABLES)
def test_allow_and_deny(table):
    options = {"source.allow": "127.0.0.0/16 127.9.9.9", "source.deny": "127.0.5.0/24"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        cases = (("127.0.1.1", "served"), ("127.0.5.7", "reset"), ("127.1.0.1", "reset"),
                 ("127.9.9.9", "served"))
        for address, outcome in cases:
            clients = crowd.connect(1, send=b"x", source=(address, 0))
            equal(outcomes(crowd, clients), {outcome: 1}, address)
        portd.assert_rows("shed", {"denied": 2})
        portd.write_config({"source.allow": "", "source.deny": ""})
        equal(portd.reload().splitlines()[0], "reloaded", "reload")
        for address, _ in cases:
            crowd.wait_served(crowd.connect(1, send=b"x", source=(address, 0)))


@for_each(table=TABLES, timeout=("0s", "1min", "infinity"))
def test_priority_when_full(table, timeout):
    options = {"budget.max_connections": "4", "budget.priority": "2", "source.priority": "127.0.7.0/24",
               "shed.queue_timeout": timeout}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 4)
        began = time.monotonic()
        friends = crowd.connect(2, send=b"x", source=("127.0.7.1", 0))
        crowd.wait_served(friends)
        note("served after", tap.spread([c.first - began for c in friends]))
        stats = portd.assert_books()
        equal(stats["budget"]["connections"], 6, "connections")
        third = crowd.connect(1, send=b"x", source=("127.0.7.2", 0))
        if timeout == "0s":
            equal(outcomes(crowd, third), {"reset": 1}, "beyond the priority slots")
        else:
            crowd.run(0.05)
            equal(third[0].outcome, "up", "beyond the priority slots")
            friends[0].close()
            crowd.wait_served(third)
        inside[0].close()
        portd.wait_until(lambda s: s["budget"]["held"] == 0, 2, "nobody waits")


class Talker:
    """A client that is not idle: it echoes at each say()."""

    def __init__(self, crowd, client, evict):
        self.crowd, self.client, self.evict = crowd, client, evict
        self.said = time.monotonic()

    def say(self):
        before, self.said = self.said, time.monotonic()
        try:
            self.crowd.ask([self.client])
        except tap.Fail:
            tap.only_within(before, self.evict, "the talker")
            raise


@for_each(table=TABLES, timeout=("0s", "1min", "infinity"))
def test_evict_idle(table, timeout):
    evict = slow(0.3)
    options = {"budget.max_connections": "4", "shed.evict_idle": f"{round(1000 * evict)}ms",
               "shed.queue_timeout": timeout}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = []
        for _ in range(4):  # one after the other, so that it is known who is idle longest
            inside += portd.fill(crowd, 1)
            crowd.run(0.02)
        talker = Talker(crowd, inside[2], evict)
        end = time.monotonic() + evict + 0.1
        while time.monotonic() < end:
            talker.say()
            crowd.run(0.02)
        late = crowd.connect(1, send=b"x")
        crowd.wait_served(late)
        crowd.run(slow(1), lambda: inside[0].end is not None)
        check(inside[0].end is not None, "the one idle longest is still there")
        talker.say()
        late += crowd.connect(2, send=b"x")
        crowd.wait_served(late)
        talker.say()
        equal(portd.assert_books()["closed"]["evicted"], 3, "evicted")
        # Now nobody is idle for long enough.
        talked = time.monotonic()
        crowd.ask(inside[2:3] + late)
        loser = crowd.connect(1, send=b"x")
        if timeout == "0s":
            crowd.wait_answered(loser)
            if loser[0].outcome != "reset":
                at_least(loser[0].answered_at - talked, evict, "somebody was evicted after")
        else:
            crowd.wait_served(loser, what="in time somebody is idle for long enough")


@for_each(table=TABLES)
def test_nobody_evicts_a_priority_client(table):
    options = {"budget.max_connections": "1", "budget.priority": "3", "source.priority": "127.0.7.0/24",
               "shed.evict_idle": "100ms", "shed.queue_timeout": "0s"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        first = portd.fill(crowd, 1)
        friends = crowd.connect(3, send=b"x", source=("127.0.7.1", 0))
        crowd.wait_served(friends)
        crowd.run(0.2)
        late = crowd.connect(1, send=b"x")
        crowd.wait_served(late)
        crowd.ask(friends)
        equal(portd.assert_books()["closed"]["evicted"], 1, "evicted")
        check(first[0].end is not None, "the ordinary one is still there")


@for_each(table=TABLES)
def test_one_is_evicted_for_one(table):
    """Short of descriptors: what one eviction frees is looked for before there is another."""
    options = {"shed.evict_idle": "100ms", "shed.queue_timeout": "1s", "workers.count": "1"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = crowd.connect(60, send=b"x")
        crowd.wait_served(inside)
        crowd.run(0.2)
        top = portd.top_fd()
        old, _ = portd.limit_nofile(top + 1)
        late = crowd.connect(1, send=b"x")
        crowd.wait_served(late)
        at_most(portd.assert_books()["closed"]["evicted"], 3, "evicted for one client")
        portd.limit_nofile(old)


@for_each(table=TABLES)
def test_priority_clients_keep_nobody_out(table):
    """When the ordinary slots are free the spell is over, and the gate open, whoever stays."""
    options = {"budget.max_connections": "4", "budget.priority": "8", "source.priority": "127.0.7.0/24",
               "shed.gate": "on", "shed.gate_after": "100ms", **LONG}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 4)
        friends = crowd.connect(8, send=b"x", source=("127.0.7.1", 0))
        crowd.wait_served(friends)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 3, "the gate closes", crowd)
        for client in inside:
            client.close()
        portd.wait_until(lambda s: (s["state"], s["listener"]["gate"]) == ("open", "open"), 3, "open")
        crowd.ask(friends)
        crowd.wait_served(crowd.connect(4, send=b"x"))


def test_a_single_slot_under_pressure():
    with Portd({"budget.max_connections": "1", "shed.start_at": "50%"}) as portd:
        crowd = portd.crowd()
        first = crowd.connect(1, send=b"x")
        crowd.wait_served(first)
        equal(outcomes(crowd, crowd.connect(2, send=b"x")), {"reset": 2}, "when it is taken")
        portd.assert_rows("shed", {"pressure": 2})


def test_who_is_gone_uses_up_no_token():
    with Portd({"budget.rate": "1", "budget.burst": "10", "workers.count": "1"}) as portd:
        crowd = portd.crowd()
        portd.pause()
        for client in crowd.connect(50):
            client.close()
        portd.resume()
        crowd.wait_served(crowd.connect(5, send=b"x"))
        portd.assert_rows("shed", {"aborted": 50})


def test_drain_opens_the_gate():
    options = {"budget.max_connections": "2", "shed.gate": "on", "shed.gate_after": "100ms", **LONG}
    with Portd(options) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 2)
        crowd.connect(1)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 3, "the gate closes", crowd)
        equal(portd.request("drain").strip(), "draining", "drain")
        equal(portd.stats()["listener"]["gate"], "open", "the gate while draining")
        clients = crowd.connect(3, send=b"x")
        equal(outcomes(crowd, clients), {"reset": 3}, "newcomers")
        equal(portd.request("drain off").strip(), "full", "drain off")


def test_a_reload_without_gate_opens_it():
    options = {"budget.max_connections": "2", "shed.gate": "on", "shed.gate_after": "0s", **LONG}
    with Portd(options) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 2)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 3, "the gate closes", crowd)
        portd.write_config({"shed.gate": "off"})
        equal(portd.reload().strip(), "reloaded", "reload")
        equal(portd.stats()["listener"]["gate"], "open", "the gate after the verdict")


@for_each(table=TABLES)
def test_lifetime(table):
    lifetime = slow(0.3)
    with Portd({"timeouts.lifetime": f"{round(1000 * lifetime)}ms"}, table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(3, send=b"x")
        crowd.wait_served(clients)
        deadline = time.monotonic() + slow(5)
        while not all(c.end for c in clients):
            check(time.monotonic() < deadline, "they live on:", crowd.tally())
            for client in (c for c in clients if not c.end):
                client.send(b"y")  # its end may come instead of an echo
            crowd.run(0.02)
        for client in clients:
            at_least(client.received, 2, "it talked until then")
            lived = client.ended - client.began
            check(lifetime - 0.01 <= lived <= lifetime + slow(0.3), lived)
        portd.assert_rows("closed", {"lifetime": 3})


@for_each(table=TABLES)
def test_start_at(table):
    options = {"budget.max_connections": "100", "shed.start_at": "50%"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        shed = 0
        for _ in range(400):
            client = crowd.connect(1, send=b"x")
            crowd.wait_answered(client)
            shed += client[0].outcome == "reset"
        stats = portd.assert_rows("shed", {"pressure": shed})
        note(f"{stats['budget']['connections']} open after 400, {shed} shed")
        at_least(stats["budget"]["connections"], 51, "open")
        at_most(stats["budget"]["connections"], 100, "open")
        # A newcomer has the last slot while it is judged: who looks then finds portd full.
        check(stats["state"] in ("shedding", "full"), stats["state"])


@for_each(table=TABLES)
def test_gate(table):
    options = {"budget.max_connections": "2", "shed.gate": "on", "shed.gate_after": "500ms", **LONG}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 2)
        waiting = crowd.connect(3, send=b"x")
        stats = portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 3, "the gate closes", crowd)
        equal(stats["listener"]["backlog_effective"], 0, "backlog while it is closed")
        crowd.ask(inside)
        for client in inside + waiting:
            client.close()
        stats = portd.wait_until(lambda s: s["listener"]["gate"] == "open", 3, "the gate opens")
        equal(stats["listener"]["backlog_effective"], 4096, "backlog")
        equal(stats["listener"]["gates"], 1, "times")
        crowd.wait_served(crowd.connect(2, send=b"x"))


@for_each(table=TABLES)
def test_dry_run(table):
    options = {"budget.max_connections": "4", "budget.rate": "1", "budget.burst": "10",
               "source.max_connections": "2", "source.deny": "127.0.5.1", "shed.dry_run": "yes"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3, send=b"x", source=("127.0.5.1", 0)))
        crowd.wait_served(crowd.connect(4, send=b"x", source=("127.0.6.1", 0)))
        stats = portd.assert_books()
        equal(sum(stats["shed"].values()), 0, "shed")
        would = {name: n for name, n in stats["would_shed"].items() if n}
        # As without the dry run: the first three would not have been there to fill it up.
        equal(would, {"denied": 3, "source_limit": 2}, "would_shed")


@for_each(table=TABLES)
def test_dry_run_sheds_nobody(table):
    """Also with private tables, and the dead count as aborted only."""
    options = {"budget.max_connections": "4", "source.deny": "127.0.5.1", "shed.dry_run": "yes",
               "shed.queue_timeout": "0s", "workers.count": "2"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(12, send=b"x"))
        portd.pause()
        for client in crowd.connect(5, source=("127.0.5.1", 0)):
            client.close()
        portd.resume()
        stats = portd.assert_rows("shed", {"aborted": 5})
        would = {name: n for name, n in stats["would_shed"].items() if n}
        equal(would, {"full": 8}, "would_shed")


def test_dry_run_of_start_at():
    options = {"budget.max_connections": "10", "shed.start_at": "50%", "shed.dry_run": "yes"}
    with Portd(options) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect_gently(20, lambda number: b"x"))
        stats = portd.assert_books()
        at_least(stats["would_shed"]["pressure"], 8, "would_shed.pressure")
        equal(sum(stats["shed"].values()), 0, "shed")


if __name__ == "__main__":
    tap.main()
