"""make million: a million open connections on one port of one portd, and how cost grows on the way there.

Opens 1,000, 10,000, 100,000 and 1,000,000 connections with portload, each against a portd of its own
with echo, fd_table = private and as many workers as the descriptors ask for; with the last of them
everything that README.md claims is measured while all are open. Loopback only. Says before it begins
where the machine does not allow it. Exit status 0: all was reached; 1: something was not, or cannot be.

Environment: MILLION (connections, default 1000000), MILLION_SAMPLE (10000), MILLION_JSON (a file for the
figures).
"""
import json
import os
import random
import re
import resource
import socket
import subprocess
import sys
import time

BUILD = os.path.abspath(os.environ.get("top_builddir", "."))
os.environ.setdefault("PORTD", os.path.join(BUILD, "portd"))
os.environ.setdefault("PORTCTL", os.path.join(BUILD, "portctl"))
PORTLOAD = os.environ.get("PORTLOAD", os.path.join(BUILD, "portload"))
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from harness import PORTCTL, Portd  # noqa: E402: it needs the environment
from tap import Fail  # noqa: E402

COUNT = int(os.environ.get("MILLION", "1000000"))
SAMPLE = int(os.environ.get("MILLION_SAMPLE", "10000"))
BYSTANDERS = 100
KERNEL_BYTES = 12 * 1024  # of the kernel for a connection, both ends and their files: to ask before
WORKERS = -(-COUNT * 11 // (HARD * 10)) + 1  # a tenth to spare
STEPS = sorted({step for step in (1000, 10000, 100000) if step < COUNT} | {COUNT})


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def meminfo(name):
    return 1024 * int(re.search(rf"^{name}: +(\d+)", read("/proc/meminfo"), re.M)[1])


def tcp_memory():
    return os.sysconf("SC_PAGESIZE") * int(re.search(r"^TCP:.* mem (\d+)", read("/proc/net/sockstat"), re.M)[1])


def memory(pid):
    """Its resident memory, and that part of it that it has allocated: the rest is of files."""
    text = read(f"/proc/{pid}/smaps_rollup")
    return [1024 * int(re.search(rf"^{name}: +(\d+)", text, re.M)[1]) for name in ("Rss", "Pss_Anon")]


def tracked():
    """How many connections the kernel tracks, and may; None where it tracks none at all."""
    try:
        return (int(read("/proc/sys/net/netfilter/nf_conntrack_count")),
                int(read("/proc/sys/net/netfilter/nf_conntrack_max")))
    except OSError:
        return None


def obstacles():
    """What of this machine does not allow it, in words."""
    found = []
    if not os.access(PORTLOAD, os.X_OK):
        found.append(f"{PORTLOAD} is not there")
    if HARD < 1024:
        found.append(f"RLIMIT_NOFILE is {HARD}: that would take {WORKERS} workers")
    if WORKERS > 512:
        found.append(f"{WORKERS} tables of {HARD} descriptors are more than the 512 workers of a portd "
                     f"(raise RLIMIT_NOFILE: ulimit -Hn)")
    files = read("/proc/sys/fs/file-nr").split()
    if int(files[2]) - int(files[0]) < 2.1 * COUNT:
        found.append(f"fs.file-max is {files[2]}, {files[0]} in use: both ends of {COUNT:,} connections "
                     f"are {2 * COUNT:,} files (sysctl fs.file-max={int(2.2 * COUNT)})")
    free = meminfo("MemAvailable")
    if free < COUNT * KERNEL_BYTES:
        found.append(f"{free / 2**30:.1f} GiB of memory are available: the kernel takes about "
                     f"{COUNT * KERNEL_BYTES / 2**30:.1f} GiB for both ends")
    before = tracked()
    if before:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            now = tracked()
        if now[0] > before[0] and now[1] - now[0] < COUNT:
            found.append(f"loopback is tracked, and nf_conntrack_max is {now[1]}")
    return found


class Ask:
    """What was asked and what was measured; a row each."""

    def __init__(self):
        self.rows = []

    def __call__(self, what, asked, measured, good):
        self.rows.append((what, asked, measured, good))

    def print(self):
        widths = [max(len(row[i]) for row in self.rows) for i in range(3)]
        for what, asked, measured, good in self.rows:
            print(f"  {what:{widths[0]}}  {asked:>{widths[1]}}  {measured:>{widths[2]}}  "
                  f"{'reached' if good else 'MISSED'}")


def milliseconds(seconds):
    ms = sorted(1000 * value for value in seconds)
    pick = lambda share: ms[min(len(ms) - 1, int(share * len(ms)))]
    return {"n": len(ms), "p50": pick(0.5), "p99": pick(0.99), "max": ms[-1]}


def in_words(times):
    return f"p50 {times['p50']:.2f}, p99 {times['p99']:.2f}, max {times['max']:.1f} ms"


class Hold:
    """portload, holding so many connections from the moment that this is made."""

    def __init__(self, portd, count, sample):
        command = [PORTLOAD, "hold", f"127.0.0.1:{portd.port}", "--connections", str(count), "--payload",
                   "4", "--timeout", "60s", "--json"]
        if sample:
            command += ["--sample", str(sample)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        portd.helpers.append(self.process)
        line = self.process.stdout.readline()
        if not line:
            raise Fail(f"portload ended: exit status {self.process.wait()}")
        self.said = json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.said = json.loads(self.process.stdout.readlines()[-1])
        self.process.wait(60)


class Bystanders:
    """Clients of our own among the others, that echo one after the other."""

    def __init__(self, portd):
        self.socks = []
        for number in range(BYSTANDERS):
            sock = socket.socket()
            sock.bind((f"127.250.0.{1 + number}", 0))
            sock.connect(("127.0.0.1", portd.port))
            self.socks.append(sock)
        self.ask(BYSTANDERS)

    def ask(self, least, until=None):
        """Times of echoes: at least so many, and until this holds."""
        took = []
        while len(took) < least or (until and not until()):
            sock = random.choice(self.socks)
            began = time.monotonic()
            sock.sendall(b"ping")
            if sock.recv(4) == b"":
                raise Fail("a bystander was closed")
            took.append(time.monotonic() - began)
        return took

    def close(self):
        for sock in self.socks:
            sock.close()


def open_portd():
    return Portd({"workers.count": str(WORKERS), "timeouts.idle": "0s", "log.level": "warning",
                  "listener.backlog": "65535"}, table="private")


def look_at_all(portd, hold, people, ask, figures):
    """With all of them open."""
    stats = portd.stats()
    standing = hold.said["standing"]
    ask("open connections", f"{COUNT:,}", f"{standing:,}", standing >= COUNT)
    here = stats["budget"]["connections"]
    ask("counted by portctl stats", f"{COUNT + BYSTANDERS:,}", f"{here:,}", here == COUNT + BYSTANDERS)
    sample = hold.said["sample"]
    slowest = 1000 * sample["seconds"]["max"]
    ask(f"echo of {SAMPLE:,} of them, at random", "each <= 100 ms",
        f"{sample['echoed']:,} echoed; p50 {1000 * sample['seconds']['p50']:.2f}, "
        f"p99 {1000 * sample['seconds']['p99']:.2f}, max {slowest:.1f} ms",
        sample["echoed"] == SAMPLE and slowest <= 100)
    figures["sample"] = sample

    took = []
    for _ in range(50):
        began = time.monotonic()
        portd.request("stats json")
        took.append(time.monotonic() - began)
    figures["stats"] = times = milliseconds(took)
    ask("stats, 50 times", "<= 10 ms", in_words(times), times["max"] <= 10)
    took = []
    for _ in range(20):
        began = time.monotonic()
        subprocess.run([PORTCTL, "-s", portd.control, "stats"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.monotonic() - began)
    figures["portctl_stats"] = times = milliseconds(took)
    ask("portctl stats, the whole process, 20 times", "each <= 10 ms", in_words(times), times["max"] <= 10)

    alone = milliseconds(people.ask(20000))
    figures["echo_alone"] = alone
    ask(f"echo of {BYSTANDERS} bystanders", "", in_words(alone), True)
    for limit in ("20", "0"):
        began, cpu = time.monotonic(), portd.cpu()
        with open(os.path.join(portd.dir, "listing"), "w+", encoding="ascii") as file:
            listing = subprocess.Popen([PORTCTL, "-s", portd.control, "conns", "--limit", limit], stdout=file)
            times = milliseconds(people.ask(1, lambda: listing.poll() is not None))
            took = time.monotonic() - began
            file.seek(0)
            rows = sum(1 for _ in file)
            file.seek(0)
            last = file.readlines()[-1].strip()
        wanted = COUNT + BYSTANDERS
        rows_wanted = min(int(limit) or wanted, wanted) + 2
        shown = f"of {wanted:,} connections shown"
        figures[f"conns_limit_{limit}"] = {"seconds": took, "cpu_seconds": portd.cpu() - cpu, "echo": times}
        ask(f"portctl conns --limit {limit}", f"all {wanted:,} told", f"{rows - 2:,} rows in {took:.1f} s",
            listing.returncode == 0 and rows == rows_wanted and shown in last)
        ask("  echo of bystanders meanwhile", "each <= 100 ms", in_words(times), times["max"] <= 100)
    spread = [worker["connections"] for worker in stats["workers"]]
    figures["workers"] = {"least": min(spread), "most": max(spread)}
    ask("open, fullest to emptiest worker", "<= 1.1", f"{max(spread):,} to {min(spread):,}, "
        f"{max(spread) / max(1, min(spread)):.3f}", max(spread) <= 1.1 * min(spread))


def close_all(portd, hold, people, ask):
    before = portd.stats()
    lost = {name: n for name, n in before["closed"].items() if n}
    ask("closed while they were to stay open", "none", ", ".join(f"{name} {n:,}" for name, n in lost.items())
        or "none", not lost)
    began = time.monotonic()
    hold.close()
    people.close()
    stats = portd.wait_until(lambda s: s["budget"]["connections"] == 0, 120, "all are closed")
    took = time.monotonic() - began
    ask("closed again", "all", f"in {took:.1f} s", True)
    shed, closed = sum(stats["shed"].values()), sum(stats["closed"].values())
    ask("the books", "balance", f"{stats['accept']['accepted']:,} accepted = {stats['budget']['held']} held + "
        f"{stats['budget']['connections']} open + {shed} shed + {closed:,} closed", Portd.books(stats) == 0)
    ask("kernel drops of SYNs", "", f"{stats['listener']['kernel_drops']:,}", True)


def step(count, ask):
    """One row of the table of growth. The last one looks closer."""
    last = count == COUNT
    with open_portd() as portd:
        time.sleep(0.2)
        mine, kernel, tcp, free = memory(portd.pid), meminfo("Slab"), tcp_memory(), meminfo("MemAvailable")
        cpu = portd.cpu()
        hold = Hold(portd, count, SAMPLE if last else 0)
        spent = portd.cpu() - cpu
        rss, own = (now - before for now, before in zip(memory(portd.pid), mine))
        figures = {"connections": count, "standing": hold.said["standing"],
                   "opened_seconds": hold.said["opened_seconds"],
                   "cpu_microseconds": 1e6 * spent / count,
                   "portd_bytes": own / count, "portd_rss_bytes": rss / count,
                   "portd_rss_at_start": mine[0],
                   "slab_bytes": (meminfo("Slab") - kernel) / count,
                   "tcp_bytes": (tcp_memory() - tcp) / count,
                   "machine_bytes": (free - meminfo("MemAvailable")) / count,
                   "limited_by": hold.said["limited_by"]}
        if last:
            ask("portd's own memory a connection", "<= 128 bytes",
                f"{figures['portd_rss_bytes']:.1f} bytes of RSS", figures["portd_rss_bytes"] <= 128)
            people = Bystanders(portd)
            look_at_all(portd, hold, people, ask, figures)
            close_all(portd, hold, people, ask)
        else:
            hold.close()
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 60, "all are closed")
    print(f"  {count:>9,}  {figures['opened_seconds']:>7.2f} s  {count / figures['opened_seconds']:>8,.0f}/s"
          f"  {figures['cpu_microseconds']:>9.1f} us  {figures['portd_bytes']:>9.1f}"
          f"  {figures['slab_bytes']:>9,.0f}  {figures['machine_bytes']:>9,.0f}", flush=True)
    return figures


def machine():
    model = re.search(r"^model name\s*: (.*)", read("/proc/cpuinfo"), re.M)
    return (f"{len(os.sched_getaffinity(0))} CPUs ({model[1] if model else os.uname().machine}), "
            f"{meminfo('MemTotal') / 2**30:.1f} GiB, Linux {os.uname().release}, RLIMIT_NOFILE {HARD:,}")


def main():
    found = obstacles()
    if found:
        print(f"make million: this machine does not allow {COUNT:,} connections:")
        for obstacle in found:
            print(f"  - {obstacle}")
        return 1
    print(f"one portd, {WORKERS} workers with a descriptor table each, echo; {machine()}")
    print("each connection: connect, say 4 bytes, hear them again, stay. Memory in bytes a connection; slab")
    print("and machine are of both ends, the machine's with all programs")
    print("  open         opened in       rate   portd's CPU     portd       slab    machine")
    ask, rows = Ask(), []
    for count in STEPS:
        rows.append(step(count, ask))
    print(f"\n{COUNT:,} at once: asked, measured")
    ask.print()
    if rows[-1]["limited_by"]:
        print(f"while they were opened the load's bottleneck was {rows[-1]['limited_by']}")
    if os.environ.get("MILLION_JSON"):
        with open(os.environ["MILLION_JSON"], "w", encoding="ascii") as file:
            json.dump({"machine": machine(), "workers": WORKERS, "steps": rows,
                       "asked": [dict(zip(("what", "asked", "measured", "reached"), row))
                                 for row in ask.rows]}, file, indent=1)
    return 0 if all(row[3] for row in ask.rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Fail as failed:
        print(f"make million: {failed}")
        sys.exit(1)
