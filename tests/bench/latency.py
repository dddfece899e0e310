"""How long an answer takes under load: against a rising rate, and at half of the rate that still works."""

import time

import load
import report
from rounds import spread, summary
from servers import WAITING, Portd, started

RATES = (250, 500, 1000, 2000, 4000, 8000, 12000, 16000, 20000, 24000, 28000)
AT_ONCE = 4000  # so many may wait for an answer: fewer than the backlog takes
KNEE_SERVED, KNEE_P99 = 0.98, 0.05


def point(server, rate, seconds):
    """One rate for so long, in the few words that a plot needs."""
    cpu, began = server.cpu(), time.monotonic()
    done = load.churn(server, int(rate * seconds), AT_ONCE, rate, seconds)
    busy = (server.cpu() - cpu) / 1e9 / (time.monotonic() - began)
    first = done["first_byte_seconds"]
    return {"offered": rate, "attempted": done["attempted"],
            "answers": done["outcomes"]["served"] / max(done["seconds"], seconds),
            "outcomes": done["outcomes"], "server_busy": busy, "load_busy": done["load_busy"], **{k: first.get(k) for k in ("p50", "p99", "p999", "max")}}


def limited_by_load(one):
    """Whether it was the load that could not do more, on its CPU, while the server could have."""
    return not works(one) and one["load_busy"] > max(0.85, one["server_busy"])


def works(one):
    """Whether a server keeps up with this rate."""
    return (one["answers"] >= KNEE_SERVED * one["offered"] and one["p99"] is not None
            and one["p99"] <= KNEE_P99)


def knee(points):
    """The highest rate that still works."""
    return max([one["offered"] for one in points if works(one)], default=0)


def ended(points):
    """What had no more CPU beyond the knee."""
    beyond = [one for one in points if not works(one)]
    if not beyond:
        return "nothing"
    return "the load" if limited_by_load(beyond[0]) else "the server"


def sweep(servers, seconds, rates):
    """{name: [points]}; a server that has failed at two rates is not asked for more."""
    points = {server.name: [] for server in servers}
    for rate in rates:
        for server in servers:
            if sum(not works(one) for one in points[server.name]) < 2:
                one = point(server, rate, seconds)
                # What disturbs the machine for a moment is no knee: whoever fails may try again.
                if not works(one):
                    one = max(one, point(server, rate, seconds), key=lambda p: (works(p), p["answers"]))
                points[server.name].append(one)
    return points


def fixed(servers, points, rounds, seconds):
    """All at half of portd's knee; those who cannot, at half of their own."""
    half = knee(points[Portd.name]) // 2
    runs = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            mine = min(half, knee(points[server.name]) // 2)
            if mine:
                runs[server.name].append(point(server, mine, seconds))
    return {name: {"rate": of[0]["offered"],
                   **{k: summary([one[k] for one in of]) for k in ("p50", "p99", "p999") if of[0][k]}}
            for name, of in runs.items() if of}


def measure(rounds, seconds, kinds=WAITING, rates=RATES):
    servers = started(kinds, report.say)
    try:
        points = sweep(servers, seconds, rates)
        at_half = fixed(servers, points, rounds, seconds)
    finally:
        for server in servers:
            server.stop()
    ms = lambda one, key: spread({k: v * 1000 if k != "rounds" else v for k, v in one[key].items()})
    report.table(f"Latency, connect to first byte, in ms ({rounds} rounds of {seconds:g} s)",
                 ["server", "knee /s", "beyond it at its end", "at rate", "p50", "p99", "p99.9"],
                 [[name, knee(points[name]), ended(points[name]), one["rate"], ms(one, "p50"),
                   ms(one, "p99"), ms(one, "p999")] for name, one in at_half.items()])
    for of in points.values():
        for one in of:
            one["limited_by_load"] = limited_by_load(one)
    return {"points": points, "knee": {name: knee(of) for name, of in points.items()}, "at_half": at_half}
