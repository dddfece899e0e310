"""Behaviour at the limit: each server may have LIMIT connections, and ten times as many clients come."""

import time

import report
from clients import Crowd
from rounds import spread, summary
from servers import WAITING, started

LIMIT = 100
TIMES = 10
PATIENCE = 2.0  # seconds after which a client without an answer counts as hanging
WORDS = ("served", "message", "closed", "reset", "refused", "hanging")


def became(server, client):
    """What a client of the flood got."""
    if client.received:
        return "served" if server.answer in client.data else "message"
    return {None: "hanging", "fin": "closed"}.get(client.end, client.end)


def recover(server, began, seconds=15):
    """Seconds from the end of the flood until somebody is served again; None if nobody is."""
    while time.monotonic() - began < seconds:
        try:
            server.answer_time(0.25)
            return time.monotonic() - began
        except OSError:
            time.sleep(0.002)
    return None


def flood(server, patience):
    """One flood; the server is idle before and after it."""
    crowd = Crowd("127.0.0.1", server.port)
    with crowd:
        log = server.log_bytes()
        holders = crowd.connect_gently(LIMIT)
        # All are connected, and accepted; the rest is for a server that forks or starts a thread.
        crowd.run(5, lambda: all(c.up for c in holders) and not server.queue())
        crowd.run(0.3)
        cpu, began = server.cpu(), time.monotonic()
        clients = crowd.connect_gently(LIMIT * TIMES, send=lambda _: server.payload.encode())
        crowd.run(patience)
        took = time.monotonic() - began
        cpu = server.cpu() - cpu
        tally = dict.fromkeys(WORDS, 0)
        for client in clients:
            word = became(server, client)
            tally[word] = tally.get(word, 0) + 1
        for client in holders:
            client.send(server.payload.encode())
        crowd.run(1, lambda: all(c.answered for c in holders))
        held = sum(server.answer in c.data for c in holders)
    back = recover(server, time.monotonic())
    return {"clients": tally, "holders_served": held, "cpu_share": cpu / 1e9 / took,
            "log_bytes": server.log_bytes() - log, "recover_seconds": back}


def measure(rounds, kinds=WAITING, patience=PATIENCE):
    servers = started(kinds, report.say, LIMIT)
    floods = {server.name: [] for server in servers}
    try:
        for _ in range(rounds):
            for server in servers:
                floods[server.name].append(flood(server, patience))
                server.settle()
    finally:
        for server in servers:
            server.stop()
    found, rows = {}, []
    for name, of in floods.items():
        share = summary([100 * one["cpu_share"] for one in of])
        back = [one["recover_seconds"] for one in of]
        mine = found[name] = {
            "floods": of, "cpu_percent": share,
            "clients": {w: summary([one["clients"][w] for one in of])["median"] for w in WORDS},
            "holders_served": min(one["holders_served"] for one in of),
            "log_bytes": summary([one["log_bytes"] for one in of]),
            "recover_ms": None if None in back else summary([1000 * one for one in back])}
        rows.append([name, f"{mine['holders_served']}"] + [f"{mine['clients'][w]:g}" for w in WORDS]
                    + [spread(share, "{:.1f}"), f"{mine['log_bytes']['median']:g}",
                       spread(mine["recover_ms"], "{:.1f}") if mine["recover_ms"] else "> 15 s"])
    report.table(f"At the limit: {LIMIT} connections allowed and held, {LIMIT * TIMES} more clients; "
                 f"after {patience:g} s ({rounds} rounds)",
                 ["server", "holders served", *WORDS, "% CPU", "log bytes", "ms to recover"], rows)
    return found
