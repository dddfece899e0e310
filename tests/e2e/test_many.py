"""More connections on one port than a port has numbers: 100,000, in tables of their own; and none of
them is lost while all are idle.

portload has the clients, in processes enough. The million is `make million`; 300,000 for minutes are
tests/soak/keepalive.py's.
"""

import json
import os
import resource
import select
import signal
import subprocess
import time

import tap
from harness import PORTD, Portd
from tap import Skip, at_least, at_most, check, equal, note, plain, slow

PORTLOAD = os.environ.get("PORTLOAD", os.path.join(os.path.dirname(PORTD), "portload"))
MANY = 100000
SAMPLE = MANY // 100
IDLE = 30  # seconds that all of them are


def line_of(process, seconds):
    """A line that it prints, within so many seconds."""
    ready = select.select([process.stdout], [], [], slow(seconds))[0]
    check(ready, f"portload has said nothing for {slow(seconds):.0f} s")
    return json.loads(process.stdout.readline())


@plain
def test_many():
    """All stand, a sample of them echoes, all are listed once, all are probed and alive, all are
    closed; the books balance."""
    if not os.access(PORTLOAD, os.X_OK):
        raise Skip(f"{PORTLOAD} is not there")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    workers = MANY * 11 // (hard * 10) + 2
    if workers > 64:
        raise Skip(f"RLIMIT_NOFILE is {hard}")
    signal.setitimer(signal.ITIMER_REAL, slow(tap.LIMIT + 2 * IDLE))  # they take more than their opening
    with Portd({"workers.count": str(workers), "timeouts.keepalive": "10s"}, table="private") as portd:
        rss = portd.rss()
        hold = subprocess.Popen([PORTLOAD, "hold", f"127.0.0.1:{portd.port}", "--connections", str(MANY),
                                 "--payload", "4", "--sample", str(SAMPLE), "--settle", "0s",
                                 "--timeout", "30s", "--json"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        portd.helpers.append(hold)
        said = line_of(hold, 45)
        equal(said["standing"], MANY, "connections that stand")
        equal(said["sample"]["echoed"], SAMPLE, "of the sample have echoed")
        idle = time.monotonic()
        stats = portd.stats()
        equal(stats["budget"]["connections"], MANY, "connections")
        spread = [worker["connections"] for worker in stats["workers"]]
        note(f"opened in {said['opened_seconds']:.1f} s; sample: max {said['sample']['seconds']['max']:.3f} s; "
             f"by worker {min(spread)} to {max(spread)}")
        each = (portd.rss() - rss) / MANY
        note(f"{each:.0f} bytes of portd's each")
        at_most(each, 140, "bytes of portd's own memory each, its first pages included")

        began = time.monotonic()
        text = portd.request("conns", 60)
        note(f"listed in {time.monotonic() - began:.2f} s")
        lines = text.splitlines()
        equal((lines[0], lines[-1]), (f"open {MANY}", f"end {MANY}"), "first and last line")
        names = {tuple(line.split()[:2]) for line in lines[1:-1]}
        equal((len(lines), len(names)), (MANY + 2, MANY), "lines, clients that are different")
        at_least(len({address for address, _ in names}), MANY // 9000, "addresses")

        time.sleep(max(0, idle + IDLE - time.monotonic()))
        stats = portd.wait_until(lambda s: s["keepalive"]["probes"] >= MANY, IDLE, "all are probed")
        note(f"idle for {time.monotonic() - idle:.0f} s: {stats['keepalive']}")
        equal((stats["budget"]["connections"], sum(stats["closed"].values())), (MANY, 0), "open, closed")

        hold.stdin.close()
        said = json.loads(hold.stdout.read().splitlines()[-1])
        equal(sum(said["lost"].values()), 0, "connections lost while they were held")
        equal(hold.wait(slow(30)), 0, "exit status of portload")
        stats = portd.wait_until(lambda s: s["budget"]["connections"] == 0, 30, "all are closed")
        equal((stats["accept"]["accepted"], sum(stats["shed"].values()), sum(stats["closed"].values())),
              (MANY, 0, MANY), "accepted, shed, closed")


if __name__ == "__main__":
    tap.main()
