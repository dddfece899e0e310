"""portctl explain: rule by rule what would become of a client, and why earlier ones were shed.

What it says is held against what then becomes of a client from there.
"""

import calendar
import json
import re
import time

import tap
from harness import Portd
from tap import TABLES, Fail, at_most, check, equal, for_each, slow

REASONS = ("aborted", "denied", "draining", "source_limit", "source_rate", "rate", "pressure",
           "memory", "fds", "full", "backlog")


class Answer:
    """What portctl explain ADDRESS --json says."""

    def __init__(self, portd, address):
        result = portd.portctl("explain", address, "--json")
        equal((result.returncode, result.stderr), (0, ""), f"portctl explain {address} --json")
        self.all = json.loads(result.stdout)
        equal(tuple(rule["reason"] for rule in self.all["rules"]), REASONS, "the order of the rules")
        self.rules = {rule["reason"]: rule for rule in self.all["rules"]}
        self.verdict = self.all["verdict"]
        self.outcome = self.verdict["outcome"]
        self.reason = self.verdict["reason"]
        self.earlier = self.all["earlier"]

    def holds(self):
        """The rules that do."""
        return [name for name, rule in self.rules.items() if rule["holds"] in ("yes", "some")]


def verdict(portd, address, outcome, reason=None, holds=None):
    answer = Answer(portd, address)
    equal((answer.outcome, answer.reason), (outcome, reason), f"{address}: {answer.all}")
    if holds is not None:
        equal(answer.holds(), holds, f"rules that hold for {address}")
    return answer


def try_it(portd, crowd, address):
    """Connects from there. Returns the client and the one reason that has counted, None if served."""
    before = portd.stats()["shed"]
    [client] = crowd.connect(1, send=b"x", source=(address, 0))
    crowd.wait_answered([client])
    if client.received:
        return client, None
    rows = lambda s: {name: n - before[name] for name, n in s["shed"].items() if n > before[name]}
    seen = rows(portd.wait_until(rows, 2, "somebody is counted"))
    equal(sum(seen.values()), 1, f"counted: {seen}")
    return client, next(iter(seen))


def shed_as_said(portd, crowd, address, reason, holds=None):
    answer = verdict(portd, address, "shed", reason, holds)
    equal(try_it(portd, crowd, address)[1], reason, f"what becomes of {address}")
    return answer


def served_as_said(portd, crowd, address, outcome="served"):
    verdict(portd, address, outcome)
    client, reason = try_it(portd, crowd, address)
    equal(reason, None, f"what becomes of {address}")
    return client


@for_each(table=TABLES)
def test_nothing_is_configured(table):
    with Portd(table=table) as portd:
        answer = verdict(portd, "203.0.113.7", "served", None, [])
        states = {name: rule["holds"] for name, rule in answer.rules.items()}
        off = ("denied", "source_limit", "source_rate", "rate", "pressure")
        equal(states, {**dict.fromkeys(REASONS, "no"), **dict.fromkeys(off, "off"),
                       "aborted": "unknown", "memory": "unknown"}, "rules")
        equal(answer.all["network"], "203.0.113.7", "source network")
        equal(answer.earlier["of_address"] + answer.earlier["of_network"], [], "earlier ones")


@for_each(table=TABLES)
def test_lists(table):
    options = {"source.allow": "127.0.0.0/16", "source.deny": "127.0.5.0/24"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        served_as_said(portd, crowd, "127.0.1.1")
        equal(Answer(portd, "127.0.1.1").rules["denied"]["words"],
              "not in [source] deny; 127.0.0.0/16 is in allow", "words")
        for address, words in (("127.0.5.7", "127.0.5.0/24 is in [source] deny"),
                               ("127.1.0.1", "not in [source] allow")):
            answer = shed_as_said(portd, crowd, address, "denied", ["denied"])
            equal(answer.rules["denied"]["words"], words, "words")
        portd.request("drain")
        shed_as_said(portd, crowd, "127.0.5.7", "denied", ["denied", "draining"])
        shed_as_said(portd, crowd, "127.0.1.1", "draining", ["draining"])
        portd.request("drain off")
        served_as_said(portd, crowd, "127.0.1.1")


@for_each(table=TABLES)
def test_source_limit(table):
    with Portd({"source.max_connections": "3", "source.prefix4": "24"}, table=table) as portd:
        crowd = portd.crowd()
        mine = [served_as_said(portd, crowd, "127.0.1.1") for _ in range(3)]
        answer = shed_as_said(portd, crowd, "127.0.1.77", "source_limit", ["source_limit"])
        rule = answer.rules["source_limit"]
        equal((rule["open"], rule["max"], rule["words"]), (3, 3, "3 of 3 open from 127.0.1.0/24"),
              "numbers")
        served_as_said(portd, crowd, "127.0.2.1")
        mine[0].close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 3, 2, "one has gone")
        equal(Answer(portd, "127.0.1.77").rules["source_limit"]["open"], 2, "after it")
        served_as_said(portd, crowd, "127.0.1.77")


def shed_by_rate(portd, crowd, address, reason):
    """Connects until the tokens are used up, as was said of each. Returns the last answer."""
    for _ in range(50):
        asked = time.monotonic()
        answer = Answer(portd, address)
        seen = try_it(portd, crowd, address)[1]
        if answer.outcome == "served":
            equal(seen, None, "said to be served")
            continue
        equal((answer.outcome, answer.reason, answer.holds()), ("shed", reason, [reason]), answer.all)
        if seen is not None:
            equal(seen, reason, "said to be shed")
            return answer
        # A token may come after the answer, but none before the time that it told.
        at_most(answer.rules[reason]["wait_seconds"], time.monotonic() - asked, "said until a token")
    raise Fail("nobody was shed")


@for_each(table=TABLES, what=("source", "budget"))
def test_rate(table, what):
    with Portd({f"{what}.rate": "1", f"{what}.burst": "5", "source.priority": "127.0.7.0/24"},
               table=table) as portd:
        crowd = portd.crowd()
        reason = "source_rate" if what == "source" else "rate"
        equal(verdict(portd, "127.0.3.1", "served").rules[reason]["tokens"], 5, "at rest")
        for _ in range(20):
            Answer(portd, "127.0.3.1")
        equal(Answer(portd, "127.0.3.1").rules[reason]["tokens"], 5, "asking takes no token")
        answer = shed_by_rate(portd, crowd, "127.0.3.1", reason)
        check(0 < answer.rules[reason]["wait_seconds"] <= 1, answer.rules[reason])
        equal(answer.rules[reason]["tokens"], 0, "tokens")
        equal(Answer(portd, "127.0.7.1").rules[reason]["holds"], "exempt", "a priority source")
        served_as_said(portd, crowd, "127.0.7.1")
        others = Answer(portd, "127.0.4.1")
        # Of portd's own tokens one may be back by now; those of another source are all there.
        equal(others.outcome, "served" if others.rules[reason]["tokens"] else "shed", "others")
        if what == "source":
            equal(others.rules[reason]["tokens"], 5, "tokens of another source")


def test_pressure():
    # Each worker sheds its share of those that come to it: with one it is known of how many.
    with Portd({"budget.max_connections": "10", "shed.start_at": "50%", "workers.count": "1",
                "source.priority": "127.0.7.0/24"}) as portd:
        crowd = portd.crowd()
        for _ in range(5):
            served_as_said(portd, crowd, "127.0.1.1")
        seen, clients = set(), 0
        while (answer := Answer(portd, "127.0.1.1")).outcome != "shed":
            rule = answer.rules["pressure"]
            opened = portd.stats()["budget"]["connections"]
            equal(rule["percent"], 20 * (opened - 5), f"with {opened} open")
            equal(answer.outcome, "served" if opened == 5 else "shed_some", rule)
            if opened > 5:
                equal((answer.reason, rule["holds"]), ("pressure", "some"), rule)
            seen.add(try_it(portd, crowd, "127.0.1.1")[1])
            clients += 1
            at_most(clients, 200, "clients until all slots are taken")
        equal(seen, {None, "pressure"}, "what became of them")
        shed_as_said(portd, crowd, "127.0.1.1", "pressure")
        equal(Answer(portd, "127.0.7.1").rules["pressure"]["holds"], "exempt", "a priority source")


@for_each(table=TABLES)
def test_full_at_once(table):
    options = {"budget.max_connections": "4", "budget.priority": "1", "source.priority": "127.0.7.0/24",
               "shed.queue_timeout": "0s"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 4)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full")
        answer = shed_as_said(portd, crowd, "127.0.1.1", "full", ["full"])
        equal((answer.rules["full"]["used"], answer.rules["full"]["max"]), (4, 4), "slots")
        served_as_said(portd, crowd, "127.0.7.1", "served_priority")
        equal(Answer(portd, "127.0.7.1").all["priority"]["words"],
              "127.0.7.0/24 is in [source] priority; 1 of 1 priority slots taken", "words")
        shed_as_said(portd, crowd, "127.0.7.1", "full")
        inside[0].close()
        portd.wait_until(lambda s: s["state"] != "full", 2, "not full")
        served_as_said(portd, crowd, "127.0.1.1")


@for_each(table=TABLES, timeout=("300ms", "1min", "infinity"))
def test_full_waits(table, timeout):
    options = {"budget.max_connections": "4", "shed.queue_timeout": timeout,
               "source.deny": "127.0.9.0/24"}
    behind = ", behind 7 in the queue; then "
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 4)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full")
        if timeout == "infinity":
            answer = verdict(portd, "127.0.9.1", "waits_then_shed", "denied")
            equal(answer.verdict["words"], "would wait until a slot is free; then shed: denied", "words")
        elif timeout == "1min":
            shed_as_said(portd, crowd, "127.0.9.1", "denied")
        waiting = crowd.connect(7, send=b"x", source=("127.0.2.1", 0)) if timeout != "300ms" else []
        if waiting:
            portd.wait_until(lambda s: s["budget"]["held"] + s["listener"]["queue_depth"] == 7, 2, "7")
        answer = verdict(portd, "127.0.1.1", "waits", "full", ["full"])
        words = answer.verdict["words"]
        if timeout == "infinity":
            equal(words, "would wait for a slot, however long, behind 7 in the queue", "words")
            answer = verdict(portd, "127.0.9.1", "waits_then_shed", "denied", ["denied", "full"])
            equal(answer.verdict["words"], f"would wait for its turn, however long{behind}shed: denied",
                  "words")
        elif timeout == "1min":
            equal(words, "would wait for a slot, up to 60s, behind 7 in the queue; then shed: full",
                  "words")
            answer = verdict(portd, "127.0.9.1", "waits_then_shed", "denied", ["denied", "full"])
            equal(answer.verdict["words"], f"would wait for its turn, up to 60s{behind}shed: denied",
                  "words")
            waiting += crowd.connect(1, source=("127.0.9.1", 0))
        else:
            equal(words, "would wait for a slot, up to 300ms; then shed: full", "words")
            equal(try_it(portd, crowd, "127.0.1.1")[1], "full", "what becomes of it")
            shed_as_said(portd, crowd, "127.0.9.1", "denied")
        for client in inside:
            client.close()
        crowd.wait_served(waiting[:4])
        if timeout == "1min":
            equal(waiting[7].end, None, "who was denied is not looked at yet")
            for client in waiting[:4]:
                client.close()
            crowd.wait_served(waiting[4:7])
            crowd.wait_answered(waiting[7:])
            portd.wait_until(lambda s: s["shed"]["denied"] == 2, 2, "denied when it was its turn")


@for_each(timeout=("1min", "infinity"))
def test_priority_behind_others(timeout):
    """One is held, and nobody looks at who comes after it."""
    options = {"budget.max_connections": "1", "budget.priority": "1", "source.priority": "127.0.7.1",
               "shed.queue_timeout": timeout}
    with Portd(options) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 1)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full")
        verdict(portd, "127.0.7.1", "served_priority")
        held = crowd.connect(1, send=b"x", source=("127.0.2.1", 0))
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 2, "one is held")
        answer = verdict(portd, "127.0.7.1", "waits_priority")
        long = "however long" if timeout == "infinity" else "up to 60s"
        equal(answer.verdict["words"], f"would wait for its turn, {long}, behind 1 in the queue; then "
              "served in a priority slot", "words")
        friend = crowd.connect(1, send=b"x", source=("127.0.7.1", 0))
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 1, 2, "it waits")
        inside[0].close()
        crowd.wait_served(held + friend)
        equal(portd.stats()["budget"]["priority_connections"], 1, "in a priority slot")


def test_the_queue_is_full():
    """Three quarters: the oldest go. More than all: no answer to a SYN."""
    with Portd({"budget.max_connections": "1", "shed.queue_timeout": "infinity",
                "listener.backlog": "2"}) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 1)
        verdict(portd, "127.0.1.1", "waits", "full")
        equal(Answer(portd, "127.0.1.1").rules["backlog"]["holds"], "off", "with infinity")
        crowd.connect(3)
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 3, 2, "the queue is full", crowd)
        answer = verdict(portd, "127.0.1.1", "unanswered")
        equal(answer.verdict["words"], "would get no answer to its SYN: the queue is full", "words")


def test_the_gate():
    with Portd({"budget.max_connections": "1", "shed.queue_timeout": "1min", "shed.gate": "on",
                "shed.gate_after": "50ms"}) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 1)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 3, "the gate closes", crowd)
        crowd.connect(1)
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 2, "one is held", crowd)
        crowd.connect(1)
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 1, 2, "one is queued", crowd)
        answer = verdict(portd, "127.0.1.1", "unanswered")
        equal(answer.verdict["words"], "would get no answer to its SYN: the gate is closed", "words")
        equal(answer.rules["backlog"]["gate"], "closed", "gate")


@for_each(table=TABLES)
def test_evict(table):
    with Portd({"budget.max_connections": "2", "shed.evict_idle": "300ms",
                "shed.queue_timeout": "0s"}, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 2)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full")
        early = Answer(portd, "127.0.1.1")
        check(early.outcome == "shed" or time.monotonic() - inside[0].first > 0.29, early.all)
        crowd.run(0.35)
        answer = verdict(portd, "127.0.1.1", "served_evict")
        check("[shed] evict_idle is 300ms" in answer.rules["full"]["words"], answer.rules["full"])
        equal(try_it(portd, crowd, "127.0.1.1")[1], None, "what becomes of it")


@for_each(table=TABLES)
def test_short_of_descriptors(table):
    with Portd({"workers.count": "1", "shed.queue_timeout": "0s"}, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 20)
        top = portd.top_fd()
        old, _ = portd.limit_nofile(top + 1)
        equal(try_it(portd, crowd, "127.0.1.1")[1], "fds", "the first")
        shed_as_said(portd, crowd, "127.0.1.1", "fds", ["fds"])
        portd.limit_nofile(old)
        inside[0].close()
        portd.wait_until(lambda s: s["state"] == "open" or s["shed"]["fds"], 2, "descriptors")
        end = time.monotonic() + slow(3)
        while Answer(portd, "127.0.1.1").outcome != "served":
            check(time.monotonic() < end, "it stays short")
            crowd.run(0.02)
        served_as_said(portd, crowd, "127.0.1.1")


def test_dry_run():
    """Nobody is shed; what it would have been is said."""
    options = {"source.deny": "127.0.5.0/24", "budget.max_connections": "2", "shed.dry_run": "yes",
               "source.priority": "127.0.7.1", "budget.priority": "1"}
    with Portd(options) as portd:
        crowd = portd.crowd()
        answer = verdict(portd, "127.0.5.1", "served", None, ["denied"])
        equal(answer.verdict["would_shed"], "denied", "denied")
        for would in (None, None, "full"):
            equal(Answer(portd, "127.0.1.1").verdict["would_shed"], would, "slots")
            equal(try_it(portd, crowd, "127.0.1.1")[1], None, "what becomes of it")
        for would in (None, "full"):
            answer = Answer(portd, "127.0.7.1")
            equal(answer.verdict["would_shed"], would, "a priority slot")
            equal(answer.outcome, "served" if would else "served_priority", "outcome")
            equal(try_it(portd, crowd, "127.0.7.1")[1], None, "what becomes of it")
        equal(portd.stats()["would_shed"]["full"], 2, "counted")
        equal(portd.stats()["budget"]["priority_connections"], 1, "in a priority slot")
        portd.portctl("drain")
        shed_as_said(portd, crowd, "127.0.5.1", "draining")
        portd.portctl("drain", "--off")
        check("; a dry run: counted as would_shed denied" in portd.portctl("explain", "127.0.5.1").stdout,
              "in words")


def test_dry_run_without_descriptors():
    """Then clients are shed indeed: not counted as would_shed, and what binds is not the limit that is
    tried out."""
    options = {"budget.fds": "100", "budget.max_connections": "10", "shed.dry_run": "yes",
               "shed.queue_timeout": "0s"}
    with Portd(options) as portd:
        crowd = portd.crowd()
        crowd.wait_answered(crowd.connect(60, send=b"x"))
        stats = portd.wait_until(lambda s: s["shed"]["full"] > 0, 2, "full indeed")
        inside = stats["budget"]["connections"]
        equal((inside + stats["shed"]["full"], stats["would_shed"]["full"]), (60, inside - 10), "counts")
        answer = verdict(portd, "127.0.1.1", "shed", "full")
        equal(answer.verdict["would_shed"], None, "would_shed")
        full = [e for e in map(json.loads, portd.request("events json").splitlines())
                if e["event"] == "full"][0]
        equal((full["bound_by"], full["max_connections"]), ("fds", inside), "the event")
        check(f"of {inside} connections" in portd.log() and "no slot left (fds)" in portd.log(), portd.log())
        check(portd.notify.wait_match(r"STATUS=full: .*; no slot left \(fds\); .*", 2), "STATUS=")


def test_stopping():
    with Portd({"timeouts.drain": "30s"}) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 1)
        portd.process.terminate()
        check(portd.notify.wait("STOPPING=1", 2) is not None, "no STOPPING=1")
        verdict(portd, "127.0.1.1", "refused")
        [late] = crowd.connect(1)
        crowd.wait_answered([late])
        equal(late.end, "refused", "what becomes of it")
        inside[0].close()
        portd.expect_exit(0)
        portd.process = None


@for_each(table=TABLES)
def test_earlier_ones(table):
    """Why was 127.0.1.9 shed, and when? Newest first, of all workers, of its network too."""
    with Portd({"source.max_connections": "1", "source.prefix4": "24",
                "source.deny": "127.0.1.66"}, table=table) as portd:
        crowd = portd.crowd()
        began = time.time()
        crowd.wait_served(crowd.connect(1, send=b"x", source=("127.0.1.1", 0)))
        mine, theirs = [], []
        for number in range(25):
            [client] = crowd.connect(1, source=("127.0.1.9", 0))
            mine.append(client.sock.getsockname()[1])
            crowd.wait_answered([client])
            if number < 3:
                [client] = crowd.connect(1, source=("127.0.1.66", 0))
                theirs.append(client.sock.getsockname()[1])
                crowd.wait_answered([client])
        crowd.wait_answered(crowd.connect(1, source=("127.0.2.1", 0), send=b"x"))
        portd.wait_until(lambda s: sum(s["shed"].values()) == 28, 2, "all are counted")
        earlier = Answer(portd, "127.0.1.9").earlier
        rows = earlier["of_address"]
        equal([row["port"] for row in rows], mine[:-21:-1], "the last twenty, the newest first")
        equal({(row["address"], row["reason"]) for row in rows}, {("127.0.1.9", "source_limit")}, "why")
        times = [calendar.timegm(time.strptime(row["time"][:19], "%Y-%m-%dT%H:%M:%S")) for row in rows]
        check(times == sorted(times, reverse=True), "times", times)
        check(began - 2 <= times[-1] <= times[0] <= time.time() + 1, "when", times)
        equal([(r["address"], r["reason"], r["port"]) for r in earlier["of_network"]],
              [("127.0.1.66", "denied", port) for port in theirs[::-1]], "from elsewhere in its network")
        equal({name: n for name, n in earlier["counted"].items() if n},
              {"denied": 3, "source_limit": 25}, "counted")
        equal(Answer(portd, "127.0.3.1").earlier["of_network"], [], "of another network")
        text = portd.portctl("explain", "127.0.1.9", "--utc").stdout
        check(re.search(r"^shed before, from 127\.0\.1\.9:\n  \S+Z source_limit  127\.0\.1\.9:"
                        rf"{mine[-1]}\n", text, re.M), text)
        check("counted for 127.0.1.0/24: denied 3, source_limit 25\n" in text, text)


def test_how_long_it_remembers():
    """The last 1,024 of each worker; and it says from when on that is all."""
    with Portd({"workers.count": "1", "source.deny": "127.0.0.0/8"}) as portd:
        crowd = portd.crowd()
        crowd.wait_answered(crowd.connect(1, source=("127.0.1.1", 0)))
        first = Answer(portd, "127.0.1.1").earlier
        equal(len(first["of_address"]), 1, "remembered")
        for _ in range(4):
            crowd.wait_answered(crowd.connect(256, source=("127.0.2.1", 0)))
        portd.wait_until(lambda s: s["shed"]["denied"] == 1025, 2, "all are counted")
        later = Answer(portd, "127.0.1.1").earlier
        equal(later["of_address"], [], "forgotten")
        check(later["since"] >= first["of_address"][0]["time"] > first["since"], first, later)
        equal(later["counted"]["denied"], 1, "but counted")


def test_asking_changes_nothing():
    with Portd({"source.rate": "1", "budget.rate": "1", "source.max_connections": "1"}) as portd:
        before = portd.stats()
        for number in range(300):
            portd.request(f"explain 10.{number % 250}.0.1")
            portd.request(f"explain json 2001:db8:{number:x}::1")
        after = portd.stats()
        for table in ("sources", "shed", "would_shed", "accept", "closed"):
            equal(after[table], before[table], table)


def test_addresses():
    """What is an address, how it is understood, and what is none."""
    with Portd({"source.prefix4": "24", "source.prefix6": "48", "source.deny": "192.0.2.0/24"}) as portd:
        for address, shown, network in (
                ("::ffff:192.0.2.5", "192.0.2.5", "192.0.2.0/24"),
                ("::FFFF:C000:205", "192.0.2.5", "192.0.2.0/24"),
                ("2001:db8:0:0::7", "2001:db8::7", "2001:db8::/48"),
                ("fe80::1%7", "fe80::1%7", "fe80::/48"), ("::", "::", "::/48"),
                ("fe80::1%lo", "fe80::1%lo", "fe80::/48"),
                ("0.0.0.0", "0.0.0.0", "0.0.0.0/24"), ("255.255.255.255",) * 2 + ("255.255.255.0/24",)):
            answer = Answer(portd, address)
            equal((answer.all["address"], answer.all["network"]), (shown, network), address)
            equal(answer.outcome, "shed" if "192" in shown else "served", address)
        for words in ((), ("",), ("1.2.3",), ("1.2.3.4:80",), ("[::1]:80",), ("[::1]",), ("1.2.3.0/24",),
                      ("localhost",), ("fe80::1%l o",), ("::ffff:1.2.3.4%1",), ("1.2.3.4 json",),
                      (" 1.2.3.4",), ("1.2.3.4\nreload",), ("01.2.3.4",), ("\x1b[2J",), ("1" * 5000,),
                      ("::" * 2000,), ("1.2.3.4", "5.6.7.8"), ("1.2.3.4", "--off"), ("--json",)):
            result = portd.portctl("explain", *words)
            equal((result.returncode, result.stdout), (64, ""), repr(words)[:80])
            if len(words) == 1 and words[0].isprintable() and words[0][:1] not in "- ":
                check(f"'{words[0][:64]}" in result.stderr, result.stderr)
            check("\x1b" not in result.stderr, result.stderr)
            check("\x1b" not in result.stderr and len(result.stderr) < 6000, repr(words)[:80])
        for word in ("1.2.3", "x" * 200, "\x1b[2J", "1.2.3.4%1", "\x80\xff", "'", "json"):
            answer = portd.request(f"explain {word}")
            check(answer.startswith("error: '") and answer.count("\n") == 1, repr(answer))
            check(answer.isascii() and "\x1b" not in answer and len(answer) < 500, repr(answer))
        for line in ("explain", "explain 1.2.3.4 json", "explain json 1.2.3.4 5", "explain x 1.2.3.4",
                     "explain json\0 1.2.3.4"):
            check(portd.request(line).startswith("error: unknown request"), repr(line))


if __name__ == "__main__":
    tap.main()
