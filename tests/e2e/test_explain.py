"""portctl explain: rule by rule what would become of a client, and why earlier ones were shed."""

import re
import time

import tap
from harness import Portd
from tap import TABLES, check, equal, for_each, slow


def explain(portd, address):
    """({rule: (yes or no, words)}, verdict, the lines about earlier ones)."""
    result = portd.portctl("explain", address)
    equal((result.returncode, result.stderr), (0, ""), f"portctl explain {address}")
    head, *lines = result.stdout.splitlines()
    check(head.startswith(f"a client from {address}, of the source network "), head)
    rules = dict(re.fullmatch(r"  (\w+) +(yes|no): +(.*)", line).group(1, 2) for line in lines[:9])
    verdict = lines[9].removeprefix("verdict: ")
    return rules, verdict, lines[10:]


@for_each(table=TABLES)
def test_each_rule(table):
    options = {"source.max_connections": "2", "source.prefix4": "24", "source.deny": "127.0.9.0/24",
               "source.priority": "127.0.7.1", "budget.max_connections": "6", "budget.rate": "1",
               "budget.burst": "6", "shed.queue_timeout": "30s"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        rules, verdict, earlier = explain(portd, "127.0.1.1")
        equal(set(rules.values()), {"no"}, "rules at rest")
        equal(verdict, "it would be served", "verdict")
        equal(earlier, ["shed before, of 127.0.1.0/24: none that is remembered"], "earlier ones")
        equal(explain(portd, "127.0.9.3")[1], "it would be shed: denied", "a denied one")

        crowd.wait_served(crowd.connect(2, send=b"x", source=("127.0.1.1", 0)))
        refused = crowd.connect(3, source=("127.0.1.9", 0))
        crowd.wait_answered(refused)
        rules, verdict, earlier = explain(portd, "127.0.1.200")
        equal((rules["source_limit"], verdict), ("yes", "it would be shed: source_limit"), "a third")
        equal(earlier[0], "shed before, of 127.0.1.0/24: source_limit 3", "counted")
        equal(len(earlier), 4, "told one by one")
        seen = re.fullmatch(r"  (\S+)  127\.0\.1\.9  source_limit", earlier[1])
        at = time.mktime(time.strptime(seen[1][:19], "%Y-%m-%dT%H:%M:%S"))
        check(abs(time.time() - at) <= slow(5), "the time", seen[1])
        equal(explain(portd, "127.0.2.1")[2][0].split(": ")[1], "none that is remembered", "others")

        for number in range(2, 4):
            crowd.wait_served(crowd.connect(2, send=b"x", source=(f"127.0.{number}.1", 0)))
        rules, verdict, _ = explain(portd, "127.0.5.1")
        equal((rules["full"], rules["rate"]), ("yes", "yes"), "full, and no token left")
        equal(verdict, "it would be shed: rate", "the one that counts")
        rules, verdict, _ = explain(portd, "127.0.7.1")
        equal((rules["priority"], rules["rate"], verdict), ("yes", "no", "it would be served"),
              "a priority client")
        before = portd.stats()
        for _ in range(20):
            explain(portd, "127.0.6.1")
        equal(portd.stats()["sources"]["used"], before["sources"]["used"], "asking makes no entry")
        equal(portd.request("drain").strip(), "draining", "drain")
        equal(explain(portd, "127.0.5.1")[1], "it would be shed: draining", "while draining")
        portd.request("drain off")


def test_wait_and_top():
    """Full without a rate: it would wait; and the end of the spell names who was shed most."""
    with Portd({"budget.max_connections": "2", "shed.queue_timeout": "100ms"}) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 2)
        equal(explain(portd, "127.0.1.1")[1], "it would wait for a slot, for 100ms at most", "full")
        crowd.wait_answered(crowd.connect(5, source=("127.0.3.1", 0)) +
                            crowd.connect(2, source=("127.0.4.1", 0)))
        for client in inside:
            client.close()
        portd.wait_until(lambda s: s["state"] == "open", 3, "not full")
        deadline = time.monotonic() + slow(3)
        while "no longer full" not in portd.log() and time.monotonic() < deadline:
            time.sleep(0.02)
        check("; most of them from 127.0.3.1 (5), 127.0.4.1 (2)" in portd.log(), portd.log())


def test_hostile():
    with Portd() as portd:
        for words, status in ((("explain",), 64), (("explain", "a\nreload"), 64),
                              (("explain", "\x1b[2J"), 64), (("explain", "1" * 65), 64),
                              (("explain", "1.2.3"), 1), (("explain", "1.2.3.4", "5"), 64),
                              (("explain", "::ffff:127.0.0.1"), 0), (("explain", "::1"), 0)):
            result = portd.portctl(*words)
            equal(result.returncode, status, words)
            check("\x1b" not in result.stdout + result.stderr, words)
        answer = portd.request("explain \x1b[2J")
        check(answer.startswith("error: '\\x1b[2J' is no address; allowed: "), answer)


if __name__ == "__main__":
    tap.main()
