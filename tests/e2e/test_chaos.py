"""Everything at once, at random: clients of every kind, limits that move, reloads, drains. Afterwards
the books balance, no descriptor and no slot is lost, and portd serves as before.

PORTD_TEST_SEED repeats a run.
"""

import time

import tap
from harness import Portd
from tap import TABLES, for_each, note

SECONDS = tap.soak(5.0, 50.0)
SLOTS = 48

LIVE = {
    "shed.queue_timeout": ("0s", "20ms", "300ms", "10s", "infinity"),
    "shed.answer": ("reset", "close", "message"),
    "shed.low_watermark": ("0%", "50%", "95%", "100%"),
    "timeouts.idle": ("50ms", "1s", "10min"),
    "timeouts.first_byte": ("0s", "30ms", "5s"),
    "budget.max_connections": (str(SLOTS // 4), str(SLOTS), str(SLOTS * 2)),
    "listener.backlog": ("4", "64", "4096"),
}


class Chaos:
    def __init__(self, portd, chance):
        self.portd = portd
        self.chance = chance
        self.crowd = portd.crowd()
        self.live = []
        self.low = portd.top_fd() + 1
        self.old = portd.limit_nofile(self.low + SLOTS)[0]

    def come(self):
        for _ in range(self.chance.choice((1, 5, 40))):
            size = self.chance.choice((0, 1, 1, 100, 100000))
            client, = self.crowd.connect(send=b"c" * size)
            if self.chance.random() < 0.1:
                client.read(False)
            self.live.append(client)

    def go(self):
        self.chance.shuffle(self.live)
        for client in self.live[:self.chance.choice((1, 10, 60))]:
            client.close(reset=self.chance.random() < 0.5)
        self.live = [c for c in self.live if c.end is None]

    def talk(self):
        for client in self.live[:20]:
            if client.end is None and client.up and not client.pending:
                client.send(b"t" * self.chance.choice((1, 5000)))

    def half_close(self):
        for client in self.live[:3]:
            if client.end is None and client.up and not client.pending:
                try:
                    client.shutdown()
                except OSError:
                    pass  # reset meanwhile

    def reload(self):
        key = self.chance.choice(list(LIVE))
        self.portd.write_config({key: self.chance.choice(LIVE[key])})
        answer = self.portd.reload()
        tap.check(answer.startswith("reloaded") or "error: " in answer, "reload said", answer)

    def limit(self):
        self.portd.limit_nofile(self.low + self.chance.choice((0, 4, SLOTS, 1000)))

    def drain(self):
        self.portd.request(self.chance.choice(("drain",) + 4 * ("drain off",)))

    def run(self):
        kinds = ([self.come] * 8 + [self.go] * 6 + [self.talk] * 6 + [self.half_close] * 2
                 + [self.reload, self.limit, self.drain])
        ends, count = time.monotonic() + SECONDS, 0
        while time.monotonic() < ends:
            self.chance.choice(kinds)()
            self.crowd.run(self.chance.choice((0, 0, 0.001, 0.02)))
            count += 1
        return count


@for_each(table=TABLES)
def test_chaos(table):
    options = {"budget.max_connections": str(SLOTS), "workers.count": "3", "shed.message": "no",
               "shed.queue_timeout": "300ms"}
    with Portd(options, table=table) as portd:
        chaos = Chaos(portd, tap.dice("chaos"))
        steps = chaos.run()
        stats = portd.stats()
        note(f"{steps} steps, {stats['accept']['accepted']} accepted;",
             {k: v for k, v in {**stats["shed"], **stats["closed"]}.items() if v})
        portd.request("drain off")
        portd.limit_nofile(chaos.old)
        portd.write_config({"shed.queue_timeout": "10s", "timeouts.idle": "10min",
                            "timeouts.first_byte": "0s", "listener.backlog": "4096",
                            "budget.max_connections": str(SLOTS)})
        tap.check(portd.reload().startswith("reloaded"), "the last reload")
        chaos.crowd.close()
        portd.assert_no_leak(5)
        portd.assert_books()
        after = portd.crowd()
        portd.fill(after, SLOTS)
        next_one, = after.connect(send=b"x")
        after.run(0.2)
        tap.equal(next_one.received, 0, "bytes served beyond the slots")
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 2, "the next one is held", after)


if __name__ == "__main__":
    tap.main()
