"""Memory: what clients do not read takes a bounded part of it, and newcomers are shed before it is gone.
The machine's figures are files of the test's own, in a mount namespace.
"""

import contextlib
import os
import subprocess
import tempfile
import time

import tap
from harness import Portd, need, need_root
from process import LIBC
from tap import at_least, at_most, check, equal, for_each, note, slow

MIB = 1 << 20
LIMIT = 512 * MIB
CLONE_NEWNET = 0x40000000
MOUNTS = 'mount --bind "$1/cgroup" /sys/fs/cgroup; mount --bind "$1/meminfo" /proc/meminfo; shift; exec "$@"'
# A network of its own, in which the kernel keeps little of what nobody reads.
NET = 'ip link set lo up; for way in r w; do echo 4096 16384 65536 >/proc/sys/net/ipv4/tcp_${way}mem; done; '
DEAF = 300


class Machine:
    """A machine's memory, as its files say."""

    def __init__(self):
        need_root()
        need("unshare")
        made = subprocess.run(["unshare", "-m", "true"], stderr=subprocess.PIPE, text=True)
        if made.returncode:
            raise tap.Skip(f"no namespaces: {made.stderr.strip()}")
        self.dir = tempfile.TemporaryDirectory(prefix="portd-")
        os.mkdir(f"{self.dir.name}/cgroup")
        self.group(None)
        self.total(24 << 30)

    def write(self, name, text):
        """In place: a mounted file is the same one."""
        with open(f"{self.dir.name}/{name}", "a+", encoding="ascii") as file:
            file.truncate(0)
            file.write(text)

    def group(self, left):
        """left: None: no limit; else of LIMIT, caches aside."""
        self.write("cgroup/memory.max", "max\n" if left is None else f"{LIMIT}\n")
        self.write("cgroup/memory.stat", f"inactive_file {100 * MIB}\n")
        self.write("cgroup/memory.current", f"{LIMIT - (left or 0) + 100 * MIB}\n")

    def total(self, left):
        self.write("meminfo", f"MemTotal: {24 << 20} kB\nMemAvailable: {left >> 10} kB\n")

    def wrapper(self, net=False):
        return ["unshare", "-mn" if net else "-m", "sh", "-euc", (NET if net else "") + MOUNTS, "sh", self.dir.name]


@contextlib.contextmanager
def network_of(portd):
    """The sockets that are made meanwhile are of portd's network."""
    with open("/proc/self/ns/net") as here, open(f"/proc/{portd.pid}/ns/net") as there:
        check(LIBC.setns(there.fileno(), CLONE_NEWNET) == 0, "setns")
        try:
            yield
        finally:
            LIBC.setns(here.fileno(), CLONE_NEWNET)


def test_deaf_clients():
    """Those who send and never read get buffers from one pool; without one they wait, and get what they
    sent all the same, in order. When they have gone portd is as small as before."""
    machine = Machine()
    machine.write("cgroup/memory.max", f"{64 * MIB}\n")
    machine.write("cgroup/memory.current", "0\n")
    with Portd({"timeouts.idle": "0s"}, wrapper=machine.wrapper(True)) as portd, network_of(portd):
        equal(portd.stats()["memory"]["buffers_max"], 16, "buffers for a 64th of the memory")
        crowd, before = portd.crowd(), portd.rss()
        deaf = crowd.connect(DEAF)
        crowd.wait(lambda: all(c.up for c in deaf), 10, "all are connected")
        text = b"".join(b"%07d\n" % number for number in range(64 * 1024))
        for client in deaf:
            client.read(False)
            client.send(text)
        portd.wait_until(lambda s: s["memory"]["buffers"] == s["memory"]["buffers_max"], 10, "all are taken", crowd)
        crowd.run(1)
        grown = portd.rss() - before
        note(f"{portd.stats()['traffic']['bytes_in'] >> 20} MiB came in; portd grew by {grown >> 10} KiB")
        floor = 2 * MIB * max(1, tap.SLOW)
        at_most(grown, MIB + floor, "growth of resident memory")
        good = crowd.connect(20, send=b"good")
        crowd.wait_served(good, 5, "others are served")
        some = deaf[::DEAF // 20]
        for client in some:
            client.read(True)
        crowd.wait(lambda: all(c.received == len(text) for c in some), 30, "who reads gets everything")
        check(all(c.data == text[:len(c.data)] for c in some), "not what was sent")
        crowd.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 0, 10, "all are closed")
        portd.wait_until(lambda s: s["memory"]["buffers"] <= 2, 5, "one buffer a worker is left")
        grown = portd.rss() - before
        note(f"{grown >> 10} KiB more than before are left")
        at_most(grown, floor, "memory that is kept")


@for_each(where=("group", "total"))
def test_short(where):
    """Near the limit newcomers are shed, whoever is open goes on; with memory again all are served."""
    machine = Machine()
    getattr(machine, where)(400 * MIB)
    with Portd(wrapper=machine.wrapper()) as portd:
        crowd = portd.crowd()
        early = portd.fill(crowd, 5)
        memory = portd.wait_until(lambda s: s["memory"]["limit_bytes"], 3, "it has looked")["memory"]
        equal((memory["left_bytes"], memory["short"]), (400 * MIB, 0), "left, short")
        getattr(machine, where)(memory["reserve_bytes"] - MIB)
        portd.wait_until(lambda s: s["memory"]["short"], 3, "memory is short", crowd)
        shed = crowd.connect(5, send=b"x")
        crowd.wait(lambda: all(c.end for c in shed), 5, "newcomers are turned away")
        stats = portd.stats()
        equal((stats["shed"]["memory"], stats["state"]), (5, "shedding"), "shed, state")
        line, = [text for text in portd.log_lines() if "memory is short" in text]
        check({"group": "memory.max", "total": "the machine"}[where] in line and "max_connections" in line, line)
        check("too little left" in portd.request("explain 127.0.0.1"), "explain does not say so")
        crowd.ask(early)
        getattr(machine, where)(400 * MIB)
        portd.wait_until(lambda s: not s["memory"]["short"], 3, "there is memory again", crowd)
        crowd.wait_served(crowd.connect(5, send=b"x"))
        at_least(portd.stats()["memory"]["left_bytes"], 400 * MIB, "left")


@for_each(mib=(12, 16))
def test_small(mib):
    """A control group of a few MiB is there to be used: newcomers are served as long as most of it is left."""
    machine = Machine()
    machine.write("cgroup/memory.max", f"{mib * MIB}\n")
    machine.write("cgroup/memory.current", f"{2 * MIB}\n")
    machine.write("cgroup/memory.stat", "inactive_file 0\n")
    with Portd({"budget.max_connections": "100"}, wrapper=machine.wrapper()) as portd:
        memory = portd.wait_until(lambda s: s["memory"]["limit_bytes"], 3, "it has looked")["memory"]
        equal(memory, {**memory, "limit_bytes": mib * MIB, "reserve_bytes": mib * MIB // 4, "short": 0}, "memory")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(10, send=b"x"))
        machine.write("cgroup/memory.current", f"{(mib - 2) * MIB}\n")
        portd.wait_until(lambda s: s["memory"]["short"], 3, "memory is short", crowd)
        shed, = crowd.connect(1, send=b"x")
        crowd.wait(lambda: shed.end, 5, "it is turned away")
        portd.assert_rows("shed", {"memory": 1})


def test_short_and_nobody_comes():
    """The state is shedding, and health fails, for as long as newcomers would be shed; nobody has to be."""
    machine = Machine()
    machine.group(400 * MIB)
    with Portd(wrapper=machine.wrapper()) as portd:
        crowd = portd.crowd()
        machine.group(MIB)
        portd.wait_until(lambda s: s["memory"]["short"], 3, "memory is short")
        shed, = crowd.connect(1, send=b"x")
        crowd.wait(lambda: shed.end, 5, "it is turned away")
        check(portd.notify.wait_match("STATUS=shedding: .*; memory is short", 5), portd.notify.lines())
        time.sleep(6)  # longer than a shed counts
        result = portd.portctl("health")
        equal((result.returncode, result.stdout), (1, "shedding\n"), "health")
        check("shedding: memory is short" in portd.request("stats"), portd.request("stats"))
        machine.group(400 * MIB)
        portd.wait_until(lambda s: s["state"] == "open", 3, "there is memory again")
        equal(portd.portctl("health").returncode, 0, "health afterwards")


def test_short_in_a_dry_run():
    """No limit of the configuration's is in force; this one is none."""
    machine = Machine()
    machine.group(MIB)
    with Portd({"shed.dry_run": "yes"}, wrapper=machine.wrapper()) as portd:
        portd.wait_until(lambda s: s["memory"]["short"], 3, "memory is short")
        crowd = portd.crowd()
        client, = crowd.connect(1, send=b"x")
        crowd.wait(lambda: client.end, slow(5), "it is turned away")
        portd.assert_rows("shed", {"memory": 1})


if __name__ == "__main__":
    tap.main()
