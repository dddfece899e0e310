"""What a connection costs: CPU to serve one and to shed one, connections a second; memory while it idles."""

import load
import report
from clients import Crowd
from rounds import ratio, spread, summary
from servers import ALL, WAITING, BareEcho, BareShed, Portd, PortdPrivate, started

WIDTH = 32


class Full:
    """A portd of one slot, which is taken: it sheds everybody else at once."""

    def __init__(self, kind, answer="reset"):
        self.server = kind(1, **{"shed.queue_timeout": "0s", "shed.answer": answer})
        self.crowd = None

    def start(self):
        self.server.start()
        self.crowd = Crowd("127.0.0.1", self.server.port)
        # The slot of the client that has seen it start may still be on its way back.
        for _ in range(1000):
            client, = self.crowd.connect(1, send=b"x")
            self.crowd.run(1, lambda: client.answered)  # pylint: disable=cell-var-from-loop
            if client.received:
                return self.server
        raise load.LoadFailed("portd gives its one slot to nobody")

    def stop(self):
        if self.crowd:
            self.crowd.close()
        self.server.stop()


def compare(servers, rounds, count):
    """{name: [result of a round]}, in turn, after a part of it to warm up."""
    results = {server.name: [] for server in servers}
    for server in servers:
        load.churn(server, max(100, count // server.slow // 4), WIDTH)
        server.settle()
    for _ in range(rounds):
        for server in servers:
            results[server.name].append(load.costed(server, max(100, count // server.slow), WIDTH))
    return results


def serve(rounds, count, kinds=ALL):
    servers = started(kinds, report.say)
    try:
        results = compare(servers, rounds, count)
    finally:
        for server in servers:
            server.stop()
    bare = [one["cpu_us"] for one in results[BareEcho.name]]
    found, rows = {}, []
    for server in servers:
        runs = results[server.name]
        served = sum(one["outcomes"]["served"] for one in runs)
        found[server.name] = {
            "about": server.about, "cpu_us": summary([one["cpu_us"] for one in runs]),
            "of_bare": ratio([one["cpu_us"] for one in runs], bare),
            "per_second": summary([one["rate"] for one in runs]),
            "busy_percent": summary([one["cpu_us"] * one["rate"] / 1e4 for one in runs]),
            "waited_percent": summary([100 * one["waited"] for one in runs]),
            "connections": sum(one["attempted"] for one in runs), "served": served}
        mine = found[server.name]
        rows.append([server.name, spread(mine["cpu_us"], "{:.1f}"), spread(mine["of_bare"], "{:.2f}"),
                     spread(mine["per_second"], "{:.0f}"),
                     f"{mine['busy_percent']['median']:.0f}", f"{mine['waited_percent']['median']:.0f}", f"{100 * served / mine['connections']:.1f} %"])
    report.table(f"CPU to serve one connection: connect, 4 bytes, an answer, close ({rounds} rounds of "
                 f"{count}, {WIDTH} at once)",
                 ["server", "us CPU", "x bare echo", "connections/s", "% busy", "% kept waiting", "served"], rows)
    return found


def shed(rounds, count):
    """portd with its slot taken, beside the loop that does nothing but shed."""
    fulls = [Full(Portd), Full(PortdPrivate)]
    bare = BareShed()
    try:
        servers = [full.start() for full in fulls]
        bare.start()
        servers.append(bare)
        results = compare(servers, rounds, count)
    finally:
        for full in fulls:
            full.stop()
        bare.stop()
    floor = [one["cpu_us"] for one in results[bare.name]]
    found, rows = {}, []
    for server in servers:
        runs = results[server.name]
        shed_all = sum(one["outcomes"]["reset"] for one in runs)
        total = sum(one["attempted"] for one in runs)
        mine = found[server.name] = {"cpu_us": summary([one["cpu_us"] for one in runs]),
                                     "of_bare": ratio([one["cpu_us"] for one in runs], floor),
                                     "connections": total, "reset": shed_all}
        rows.append([server.name, spread(mine["cpu_us"], "{:.1f}"), spread(mine["of_bare"], "{:.2f}"),
                     f"{100 * shed_all / total:.1f} %"])
    report.table(f"CPU to shed one connection ({rounds} rounds of {count}, {WIDTH} at once)",
                 ["server", "us CPU", "x bare shed", "reset"], rows)
    return found


def steady(server, crowd, seconds=20):
    """Memory, as soon as it no longer grows."""
    last = server.memory()
    for _ in range(int(seconds / 0.2)):
        crowd.run(0.2)
        now = server.memory()
        if now - last <= last / 200:
            return now
        last = now
    return last


def idle(count, kinds=WAITING):
    """Memory for each connection that is open and silent."""
    found, rows = {}, []
    for server in started(kinds, report.say):
        held = min(count, server.idle_max)
        try:
            with Crowd("127.0.0.1", server.port) as crowd:
                before = server.memory()
                clients = crowd.connect_gently(held)
                crowd.run(10, lambda: all(c.up for c in clients))  # pylint: disable=cell-var-from-loop
                after = steady(server, crowd)
                sample = clients[::max(1, held // 100)]
                for client in sample:
                    client.send(server.payload.encode())
                crowd.run(5, lambda: all(c.answered for c in sample))  # pylint: disable=cell-var-from-loop
                answered = sum(c.received > 0 for c in sample)
        finally:
            server.stop()
        mine = found[server.name] = {"held": held, "bytes": (after - before) / held,
                                     "bytes_before": before, "sample": len(sample), "answered": answered}
        rows.append([server.name, held, f"{mine['bytes']:.0f}", f"{before / 1048576:.1f}",
                     f"{answered} of {len(sample)}"])
    report.table("Memory of an idle connection: growth of the process's share of memory (PSS)",
                 ["server", "held", "bytes each", "MiB before", "sample answered"], rows)
    return found
