"""All limits together, in random configurations that change while clients come and go: the books
balance, nothing leaks, and once the cause has gone the port is as open as at first.
"""


import tap
from harness import Portd
from tap import TABLES, check, equal, for_each, note

CHOICES = {
    "budget.max_connections": ("1", "3", "20"),
    "budget.priority": ("0", "2", "16"),
    "budget.rate": ("0", "0", "50"),
    "budget.burst": ("0", "1", "20"),
    "shed.queue_timeout": ("0s", "50ms", "infinity"),
    "shed.answer": ("reset", "close"),
    "shed.evict_idle": ("infinity", "infinity", "1ms", "50ms"),
    "shed.start_at": ("0%", "50%", "100%", "100%"),
    "shed.low_watermark": ("0%", "95%", "100%"),
    "shed.gate": ("off", "on"),
    "shed.gate_after": ("0s", "50ms"),
    "shed.dry_run": ("no", "no", "no", "yes"),
    "source.max_connections": ("0", "0", "2"),
    "source.rate": ("0", "0", "5"),
    "source.prefix4": ("8", "24", "32"),
    "source.deny": ("", "127.0.9.0/24"),
    "source.priority": ("", "127.0.7.0/24"),
    "timeouts.first_byte": ("0s", "100ms"),
    "timeouts.idle": ("10min", "200ms"),
    "timeouts.lifetime": ("0s", "0s", "300ms"),
}
OPEN = {"budget.rate": "0", "source.rate": "0", "shed.start_at": "100%", "shed.queue_timeout": "1s",
        "source.max_connections": "0", "timeouts.lifetime": "0s"}


def pick(dice):
    return {key: dice.choice(values) for key, values in CHOICES.items()}


def come_and_go(dice, crowd):
    """One of the things that clients do."""
    what = dice.randrange(6)
    address = (f"127.0.{dice.choice((1, 2, 7, 9))}.{dice.randrange(1, 5)}", 0)
    inside = [c for c in crowd if c.end is None]
    if what <= 2:
        crowd.connect(dice.randrange(1, 8), send=dice.choice((b"", b"x")), source=address)
    elif what == 3:
        for client in dice.sample(inside, min(len(inside), 3)):
            client.close(reset=dice.random() < 0.5)
    elif what == 4:
        for client in dice.sample(inside, min(len(inside), 3)):
            if client.up and not client.pending:
                client.send(b"y")
    crowd.run(dice.choice((0, 0.01, 0.05)))


@for_each(table=TABLES, seed=range(1, tap.soak(9, 101)))
def test_random(table, seed):
    dice = tap.dice(seed)
    with Portd({**pick(dice), "workers.count": dice.choice(("1", "2", "4"))}, table=table) as portd:
        crowd = portd.crowd()
        for turn in range(60):
            come_and_go(dice, crowd)
            if turn % 20 == 19:
                portd.write_config(pick(dice))
                answer = portd.reload()
                check(answer.startswith("reloaded"), "reload:", answer)
        seen = portd.stats()
        note(f"accepted {seen['accept']['accepted']}, shed "
             f"{ {name: n for name, n in seen['shed'].items() if n} }, would have "
             f"{sum(seen['would_shed'].values())}, closed "
             f"{ {name: n for name, n in seen['closed'].items() if n} }, gates "
             f"{seen['listener']['gates']}")
        for client in list(crowd):
            client.close()
        portd.assert_no_leak(5)
        portd.assert_books()
        # The cause has gone: whatever the limits are, full and gate end by themselves.
        stats = portd.wait_until(lambda s: s["state"] in ("open", "shedding"), 3, "not full")
        equal(stats["listener"]["gate"], "open", "the gate")
        equal(stats["sources"]["open"], 0, "sources with open connections")
        equal(stats["budget"]["priority_connections"], 0, "priority slots taken")
        portd.write_config(OPEN)
        check(portd.reload().startswith("reloaded"), "reload")
        last = crowd.connect(1, send=b"x", source=("127.0.2.1", 0))
        crowd.wait_served(last)


if __name__ == "__main__":
    tap.main()
