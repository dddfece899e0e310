"""The load: the one place that knows which program makes it. All of it runs on the CPU that no server has."""

import json
import resource
import subprocess
import time

from servers import LOAD_CPU, own


class LoadFailed(Exception):
    """The load generator could not do what was asked of it; the reason is its text."""


def spent():
    """Seconds of CPU of all loads so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(*command):
    """What it prints, with "load_busy": its share of its CPU, which is all that it can have."""
    cpu, began = spent(), time.monotonic()
    done = subprocess.run(["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(LOAD_CPU), *command],
                          capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise LoadFailed(f"{command[0]}: exit status {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1]) | {"load_busy": (spent() - cpu) / (time.monotonic() - began)}


def churn(server, connections, width=32, rate=0, seconds=0):
    """Connects, sends, waits for the first bytes, closes. `connections` of them in all, at most `width` at
    once; at `rate` a second, for at most `seconds`, where these are not 0. Returns what portload(1) prints
    with --json."""
    command = [own("portload"), "churn", f"127.0.0.1:{server.port}", "--json", "--processes", "1",
               "--count", str(connections), "--connections", str(width), "--rate", str(rate),
               "--duration", f"{round(seconds * 1000) or 60000}ms", "--timeout", "2s",
               "--payload", server.payload]
    return run(*command, "--sources", "127.0.0.1/32" if server.one_source else "64")


def talk(server, connections, seconds):
    """Connections that stay and send four bytes again as soon as these have come back."""
    return run(own("tests/bench/talk"), str(server.port), str(connections), str(seconds))


def costed(server, connections, width=32):
    """As churn, as fast as possible, with "cpu_us": of the server, for each connection; "waited": how long
    others kept it from its CPU, for each second that it had it."""
    cpu, waited = server.cpu(), server.kept_waiting()
    done = churn(server, connections, width)
    waited = server.kept_waiting() - waited
    server.settle()
    cpu = server.cpu() - cpu
    if cpu <= 0:
        raise LoadFailed(f"{server.name} has used no CPU for {done['attempted']} connections: {done['outcomes']}")
    return done | {"cpu_us": cpu / 1000 / done["attempted"], "waited": max(0, waited) / cpu}
