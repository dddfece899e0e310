"""Hundreds of thousands of idle, live connections with the default keepalive, for minutes: none is lost. On
loopback, and through a veth pair between two network namespaces. Through the pair some more clients then
die without a word, and are closed within 1.5 times the period in force.

Not part of make check: it takes some twelve minutes, 3 GiB of memory, and root. Speaks TAP.

Environment: SOAK_CONNECTIONS (default 300000), SOAK_SECONDS (180), SOAK_KEEPALIVE (60s), top_builddir.
"""

import json
import os
import resource
import subprocess
import sys
import time

BUILD = os.path.abspath(os.environ.get("top_builddir", os.path.join(os.path.dirname(__file__), "../../build")))
os.environ.setdefault("PORTD", os.path.join(BUILD, "portd"))
os.environ.setdefault("PORTCTL", os.path.join(BUILD, "portctl"))
PORTLOAD = os.environ.get("PORTLOAD", os.path.join(BUILD, "portload"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import tap  # noqa: E402: it needs the path
from harness import Portd, need, need_root  # noqa: E402
from tap import at_most, equal, note  # noqa: E402

COUNT = int(os.environ.get("SOAK_CONNECTIONS", "300000"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
KEEPALIVE = os.environ.get("SOAK_KEEPALIVE", "60s")
DEAD = 40
HERE, THERE = "10.98.8.1", "10.98.8.2"
CLIENTS = "10.99.0.0/16"
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
OPTIONS = {"timeouts.keepalive": KEEPALIVE, "timeouts.idle": "0s", "log.level": "warning",
           "workers.count": str(COUNT * 11 // (HARD * 10) + 2)}

# Opens so many connections, says that they stand, and keeps them for ever.
DYING = """
import socket, sys, time
clients = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) for _ in range(int(sys.argv[3]))]
for client in clients:
    client.sendall(b"x")
    client.recv(1)
print("up", flush=True)
time.sleep(1e6)
"""


def lost_packets():
    """Of all CPUs: what did not fit into net.core.netdev_max_backlog."""
    with open("/proc/net/softnet_stat", encoding="ascii") as file:
        return sum(int(line.split()[1], 16) for line in file)


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def open_all(portd, target, *, wrapper=(), arguments=()):
    """portload, with all of them standing."""
    hold = subprocess.Popen([*wrapper, PORTLOAD, "hold", f"{target}:{portd.port}", "--connections", str(COUNT),
                             "--payload", "4", "--settle", "0s", "--timeout", "120s", "--json", *arguments],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    portd.helpers.append(hold)
    said = json.loads(hold.stdout.readline())
    equal(said["standing"], COUNT, "connections that stand")
    note(f"{COUNT:,} opened in {said['opened_seconds']:.0f} s")
    return hold


def watch(portd, others=0):
    """For SECONDS: nobody is closed. Returns the period in force."""
    began, lost, before = time.monotonic(), lost_packets(), portd.stats()
    cpu = portd.cpu()
    while (passed := time.monotonic() - began) < SECONDS:
        time.sleep(min(10, SECONDS - passed))
        stats = portd.stats()
        note(f"{time.monotonic() - began:4.0f} s: {stats['keepalive']}, closed {sum(stats['closed'].values())}, "
             f"packets lost {lost_packets() - lost}, CPU {portd.cpu() - cpu:.1f} s")
        equal((stats["budget"]["connections"], sum(stats["closed"].values())),
              (COUNT + others, sum(before["closed"].values())), "open, closed")
    return stats["keepalive"]["period_seconds"]


def close_all(portd, hold):
    hold.stdin.close()
    said = json.loads(hold.stdout.read().splitlines()[-1])
    equal(sum(said["lost"].values()), 0, "connections lost while they were held")
    hold.wait(120)
    portd.wait_until(lambda s: s["budget"]["connections"] == 0, 120, "all are closed")


def test_loopback():
    with Portd(OPTIONS, table="private") as portd:
        hold = open_all(portd, "127.0.0.1")
        watch(portd)
        close_all(portd, hold)


def namespace(portd):
    """A namespace of its own, for as long as portd runs; how to run something in it."""
    sleeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo up; exec sleep 1d"], stdout=subprocess.PIPE)
    portd.helpers.append(sleeper)
    sleeper.stdout.readline()
    return sleeper.pid, ["nsenter", f"--net=/proc/{sleeper.pid}/ns/net"]


def cable(here, there, there_pid, name, ours, theirs):
    run(*here, "ip", "link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1", "netns", str(there_pid))
    run(*here, "sh", "-euc", f"ip addr add {ours}/24 dev {name}0; ip link set {name}0 up")
    run(*there, "sh", "-euc", f"ip link set lo up; ip addr add {theirs}/24 dev {name}1; ip link set {name}1 up")


def test_veth():
    need_root()
    need("unshare", "nsenter", "ip")
    options = dict(OPTIONS, **{"listener.address": "0.0.0.0:0"})
    with Portd(options, table="private", wrapper=["unshare", "-n", "sh", "-euc", 'ip link set lo up; exec "$@"', "sh"]) as portd:
        here = ["nsenter", f"--net=/proc/{portd.pid}/ns/net"]
        pid, there = namespace(portd)
        cable(here, there, pid, "soak", HERE, THERE)
        # Each address of the network is the clients' own.
        run(*there, "ip", "route", "add", "local", CLIENTS, "dev", "lo")
        run(*here, "ip", "route", "add", CLIENTS, "via", THERE)
        pid, grave = namespace(portd)
        cable(here, grave, pid, "dead", "10.98.9.1", "10.98.9.2")
        hold = open_all(portd, HERE, wrapper=there, arguments=["--sources", CLIENTS, "--i-own-this-host"])
        dying = subprocess.Popen([*grave, sys.executable, "-c", DYING, "10.98.9.1", str(portd.port), str(DEAD)],
                                 stdout=subprocess.PIPE, text=True)
        portd.helpers.append(dying)
        equal(dying.stdout.readline(), "up\n", "those that are to die")
        period = watch(portd, DEAD)
        run(*here, "ip", "link", "set", "dead0", "down")
        began = time.monotonic()
        portd.wait_until(lambda s: s["closed"]["timeout"] >= DEAD, 1.5 * period + 5, "the dead are closed")
        took = time.monotonic() - began
        note(f"the dead are closed after {took:.0f} s, the period in force is {period} s")
        at_most(took, 1.5 * period, "seconds until the dead are closed")
        equal(portd.stats()["closed"]["timeout"], DEAD, "closed for keepalive")
        close_all(portd, hold)


if __name__ == "__main__":
    tap.LIMIT = 3600
    tap.main()
