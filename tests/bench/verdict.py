"""What was promised, and whether this run has reached it."""

import report
from servers import PEERS_THAT_WAIT, Nginx, PortdTuple

SHARED, PRIVATE = "portd", "portd private"


def median(value):
    return value["median"] if isinstance(value, dict) else value


def worst(found, pick):
    """The worst of the variants of each kind of table: (shared, private)."""
    of = lambda private: [pick(v) for k, v in found.items() if (PRIVATE in k) == private
                          and k.startswith(SHARED)]
    return max(of(False)), max(of(True))


def cheapest(found):
    """The peer with the lowest median of CPU for a connection: (name, us)."""
    peers = [(found[kind.name]["cpu_us"]["median"], kind.name) for kind in PEERS_THAT_WAIT if kind.name in found]
    return min(peers)[::-1] if peers else None


def of_serve(found):
    of = lambda key: median(found[key]["of_bare"])
    yield "CPU a connection, x bare epoll loop", "<=", 1.05, of(SHARED), of(PRIVATE)
    peer = cheapest(found)
    if peer:
        us = lambda key: found[key]["cpu_us"]["median"] / peer[1]
        yield f"CPU a connection, x the cheapest peer ({peer[0]})", "<=", 1.0, us(SHARED), us(PRIVATE)
    if PortdTuple.name in found and Nginx.name in found:
        us = found[PortdTuple.name]["cpu_us"]["median"] / found[Nginx.name]["cpu_us"]["median"]
        yield f"CPU of service tuple, x {Nginx.name}", "<=", 1.0, us, us


def of_shed(found):
    yield ("CPU to shed one, x bare accept4, SO_LINGER, close", "<=", 1.1,
           *worst(found, lambda one: median(one["of_bare"])))


def of_idle(found):
    yield "bytes of memory for an idle connection", "<=", 128, *worst(found, lambda one: one["bytes"])


def of_goodput(found):
    yield ("goodput while 10 x are shed, x without, CPU for shedding off", ">=", 0.9,
           *(median(found[key]["ratio"]) for key in (SHARED, PRIVATE)))


def of_waiting(found):
    yield "% of a core while full and thousands wait", "<=", 2, *worst(found, lambda o: o["cpu_percent"])
    yield "turns of the loops a second, meanwhile", "<=", 20, *worst(found, lambda o: o["loops_per_second"])


def of_shed_delay(found):
    yield "ms from queue_timeout to the answer, p99", "<=", 50, *worst(found, lambda one: one["p99"])


def of_handover(found):
    yield "ms from a free slot to the next one served, p99", "<=", 5, *worst(found, lambda one: one["p99"])


def of_stats(found):
    yield "ms for portctl stats when full, p99", "<=", 10, *worst(found, lambda o: o["command_ms"]["p99"])


def of_balance(found):
    yield "open connections, fullest to emptiest worker", "<=", 1.1, *worst(found, median)


def of_noise(found):
    report.say()
    report.say(f"This machine, meanwhile: the bare loop's own connect and echo took p50 {found['p50']:.2f}, "
               f"p99 {found['p99']:.2f}, at most {found['max']:.2f} ms")
    return ()


ROWS = {"noise": of_noise, "serve": of_serve, "shed": of_shed, "idle": of_idle, "goodput": of_goodput,
        "waiting": of_waiting, "shed_delay": of_shed_delay, "handover": of_handover,
        "stats": of_stats, "balance": of_balance}


def judge(results):
    """One row a promise of what was measured; printed, and returned for the file."""
    rows = []
    for name, promises in ROWS.items():
        if name not in results:
            continue
        for what, sign, wanted, *seen in promises(results[name]):
            good = [value <= wanted if sign == "<=" else value >= wanted for value in seen]
            rows.append({"what": what, "wanted": f"{sign} {wanted:g}", "shared": seen[0],
                         "private": seen[1], "reached": all(good)})
    if rows:
        report.table("What portd is to reach: medians, of several variants the worst",
                     ["promise", "wanted", "shared", "private", ""],
                     [[row["what"], row["wanted"], f"{row['shared']:.2f}", f"{row['private']:.2f}",
                       "reached" if row["reached"] else "MISSED"] for row in rows])
    return rows
