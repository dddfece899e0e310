"""What portd promises for when it is full: one function a promise, each for both kinds of descriptor
table. What is promised stands in verdict.py."""

import concurrent.futures
import subprocess
import time

import load
from clients import Crowd
from rounds import percentile, ratio, summary
from servers import BareEcho, Portd, PortdPrivate, own

KINDS = (Portd, PortdPrivate)


def delays(seconds):
    """A list of times, as figures in ms."""
    ms = [1000 * one for one in seconds]
    return {"count": len(ms), "min": min(ms), "p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99),
            "max": max(ms)}


def of_rounds(rounds):
    """Of the delays of each round: the median of their p50 and p99, and how far the p99 went. What disturbs
    the machine for a moment then spoils one round."""
    p99 = summary([one["p99"] for one in rounds])
    return {"count": sum(one["count"] for one in rounds), "min": min(one["min"] for one in rounds),
            "p50": summary([one["p50"] for one in rounds])["median"], "p99": p99["median"],
            "p99_rounds": p99, "max": max(one["max"] for one in rounds)}


def wait_idle(server):
    """Until the slot of the client that has seen the server start is back."""
    for _ in range(500):
        if server.stats()["budget"]["connections"] == 0:
            return
        time.sleep(0.01)
    raise load.LoadFailed(f"{server.name} keeps a connection that nobody has")


def fill(server, crowd, count):
    """Takes all slots; each client has been served."""
    wait_idle(server)
    clients = crowd.connect(count, send=b"x")
    if not crowd.run(10, lambda: all(c.received for c in clients)):
        raise load.LoadFailed(f"{server.name} does not serve {count} clients: {crowd.tally()}")
    return clients


def disturbance(seconds):
    """What this machine does to any figure of the kind below, meanwhile: connecting, echoing four bytes
    and closing with the bare loop, from this program, one after the other."""
    took, until = [], time.monotonic() + seconds
    with BareEcho() as server:
        while time.monotonic() < until:
            took.append(server.answer_time(1))
    return delays(took)


def goodput_of(server, held, seconds):
    """Echoes of those admitted alone, and while ten times as many are shed; CPU of one that is shed."""
    def talked(function):
        cpu, stats = server.cpu(), server.stats()["shed"]["full"]
        done = function()
        if not done["echoes"]:
            raise load.LoadFailed(f"{server.name} echoed nothing in {done['seconds']:.2f} s")
        return done["echoes"], server.cpu() - cpu, server.stats()["shed"]["full"] - stats, done

    alone = talked(lambda: load.talk(server, held, seconds))
    wait_idle(server)

    def beside():
        with concurrent.futures.ThreadPoolExecutor() as pool:
            talk = pool.submit(load.talk, server, held, seconds + 0.4)
            time.sleep(0.2)
            load.churn(server, 1000000, held * 10, 0, seconds)
            return talk.result()
    flooded = talked(beside)
    wait_idle(server)
    with Crowd("127.0.0.1", server.port) as crowd:
        fill(server, crowd, held)
        shed_us = load.costed(server, 5000, held * 10)["cpu_us"]
    cpu_left = flooded[1] - flooded[2] * shed_us * 1000
    return {"alone_per_second": alone[0] / alone[3]["seconds"],
            "flooded_per_second": flooded[0] / flooded[3]["seconds"],
            "shed_per_second": flooded[2] / seconds, "shed_us": shed_us,
            "alone_us": alone[1] / alone[0] / 1000, "flooded_us": cpu_left / flooded[0] / 1000,
            "p99_alone_ms": alone[3]["p99"] * 1000, "p99_flooded_ms": flooded[3]["p99"] * 1000}


def goodput(rounds, seconds):
    """How much of a CPU second's echoes is left beside the flood, CPU for shedding taken off."""
    held = 100
    servers = [kind(held, **{"shed.queue_timeout": "0s"}) for kind in KINDS]
    runs = {server.name: [] for server in servers}
    try:
        for server in servers:
            server.start()
        for _ in range(rounds):
            for server in servers:
                wait_idle(server)
                runs[server.name].append(goodput_of(server, held, seconds))
    finally:
        for server in servers:
            server.stop()
    return {name: {"ratio": ratio([one["alone_us"] for one in of], [one["flooded_us"] for one in of]),
                   **{key: summary([one[key] for one in of]) for key in of[0]}}
            for name, of in runs.items()}


def waiting(rounds, seconds, crowds=(4000, 3000)):
    """CPU and turns of the loops while clients wait, and nothing else happens: as many as the queue
    takes where nobody is ever shed, and as many as may wait before some are shed to make room."""
    del rounds
    found = {}
    for kind in KINDS:
        for timeout, count in zip(("infinity", "30s"), crowds):
            server = kind(100, **{"shed.queue_timeout": timeout, "workers.count": 2})
            with server, Crowd("127.0.0.1", server.port) as crowd:
                fill(server, crowd, 100)
                clients = crowd.connect_gently(count)
                crowd.run(10, lambda: all(c.up for c in clients))  # pylint: disable=cell-var-from-loop
                crowd.run(seconds / 3)
                loops = lambda: sum(w["loops"] for w in server.stats()["workers"])
                cpu, turns, began = server.cpu(), loops(), time.monotonic()
                time.sleep(seconds)
                cpu, took = server.cpu() - cpu, time.monotonic() - began
                found[f"{kind.name}, {timeout}"] = {
                    "waiting": server.stats()["listener"]["queue_depth"], "loops_per_second":
                    (loops() - turns) / took, "cpu_percent": cpu / 1e7 / took}
    return found


def shed_delay(rounds, count):
    """From the end of queue_timeout to the client's answer."""
    found = {}
    for kind in KINDS:
        each = []
        for _ in range(rounds):
            server = kind(10, **{"shed.queue_timeout": "300ms", "workers.count": 2})
            with server, Crowd("127.0.0.1", server.port) as crowd:
                fill(server, crowd, 10)
                clients = []
                for _ in range(count // 4):
                    clients += crowd.connect(4, send=b"x")
                    crowd.run(0.008)
                crowd.run(5, lambda: all(c.answered for c in clients))  # pylint: disable=cell-var-from-loop
                each.append(delays([c.ended - c.began - 0.3 for c in clients if c.ended]))
        found[kind.name] = of_rounds(each)
    return found


def handover(rounds, count):
    """From a slot given back to the next waiting client's first byte."""
    found = {}
    for kind in KINDS:
        for timeout in ("30s", "infinity"):
            each = []
            for _ in range(rounds):
                took, server = [], kind(50, **{"shed.queue_timeout": timeout, "workers.count": 2})
                with server, Crowd("127.0.0.1", server.port) as crowd:
                    clients = fill(server, crowd, 50)
                    clients += crowd.connect_gently(count, send=lambda _: b"x")
                    crowd.run(0.2)
                    for number in range(count):
                        began, next_one = time.monotonic(), clients[50 + number]
                        clients[number].close()
                        crowd.run(2, lambda: next_one.received)  # pylint: disable=cell-var-from-loop
                        took.append((next_one.first or time.monotonic()) - began)
                each.append(delays(took))
            found[f"{kind.name}, {timeout}"] = of_rounds(each)
    return found


def stats_full(rounds, count):
    """portctl stats, the whole command, and the same asked of the socket, while no slot is free."""
    found = {}
    for kind in KINDS:
        server = kind(count)
        with server, Crowd("127.0.0.1", server.port) as crowd:
            wait_idle(server)
            clients = crowd.connect_gently(count)
            crowd.run(10, lambda: server.stats()["budget"]["connections"] == count)
            command, asked = [], []
            for number in range(rounds * 40):
                if number % 40 == 0:
                    command.append([])
                began = time.monotonic()
                subprocess.run([own("portctl"), "-s", server.control, "stats"], check=True,
                               stdout=subprocess.DEVNULL)
                command[-1].append(time.monotonic() - began)
                began = time.monotonic()
                state = server.stats()["state"]
                asked.append(time.monotonic() - began)
            found[kind.name] = {"open": len(clients), "state": state, "request_ms": delays(asked),
                                "command_ms": of_rounds([delays(of) for of in command])}
    return found


def balance(rounds, count):
    """Connections that stay, of the fullest worker to the emptiest."""
    found = {}
    for kind in KINDS:
        for workers in (2, 4):
            ratios = []
            for _ in range(rounds):
                server = kind(**{"workers.count": workers})
                with server, Crowd("127.0.0.1", server.port) as crowd:
                    crowd.connect_gently(count, send=lambda _: b"x")
                    crowd.run(10, lambda: crowd.answers == count)  # pylint: disable=cell-var-from-loop
                    each = [w["connections"] for w in server.stats()["workers"]]
                ratios.append(max(each) / max(1, min(each)))
            found[f"{kind.name}, {workers} workers"] = summary(ratios)
    return found
