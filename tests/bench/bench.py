"""make bench: portd beside its peers and beside bare loops of the same shape, in one run.

This file is the table of contents: what is measured, in which order. Each server has the first CPU, the
load and this program the last; rounds go in turn; loopback only; what is started is ended by its pid.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "e2e")]

# pylint: disable=wrong-import-position
import cost
import latency
import limit
import plot
import promises
import report
import verdict
from servers import BUILD, CPUS, LOAD_CPU, BareEcho, Portd, PortdPrivate

SHORT_KINDS = (Portd, PortdPrivate, BareEcho)
SECTIONS = {
    # name: (in full, in short), each called with the number of rounds
    "serve": (lambda n: cost.serve(4 * n, 1500), lambda n: cost.serve(n, 500, SHORT_KINDS)),
    "shed": (lambda n: cost.shed(4 * n, 1500), lambda n: cost.shed(n, 500)),
    "idle": (lambda n: cost.idle(9000), lambda n: cost.idle(500, SHORT_KINDS)),
    "latency": (lambda n: latency.measure(min(n, 3), 0.5),
                lambda n: latency.measure(n, 0.2, SHORT_KINDS, (250, 500, 1000))),
    "limit": (lambda n: limit.measure(min(n, 2)), lambda n: limit.measure(1, SHORT_KINDS, 1.5)),
    "noise": (lambda n: promises.disturbance(2), lambda n: promises.disturbance(0.2)),
    "goodput": (lambda n: promises.goodput(min(n, 5), 0.7), lambda n: promises.goodput(1, 0.6)),
    "waiting": (lambda n: promises.waiting(1, 3), lambda n: promises.waiting(1, 0.3, (400, 300))),
    "shed_delay": (lambda n: promises.shed_delay(min(n, 3), 400), lambda n: promises.shed_delay(1, 40)),
    "handover": (lambda n: promises.handover(min(n, 5), 100), lambda n: promises.handover(1, 20)),
    "stats": (lambda n: promises.stats_full(min(n, 5), 9000), lambda n: promises.stats_full(1, 200)),
    "balance": (lambda n: promises.balance(min(n, 3), 4000), lambda n: promises.balance(1, 400)),
}


def arguments():
    parser = argparse.ArgumentParser(description="portd beside its peers and bare loops")
    parser.add_argument("--rounds", type=int, default=7, help="of each comparison (7); long ones have fewer")
    parser.add_argument("--only", default="", help="sections, with commas: " + ",".join(SECTIONS))
    parser.add_argument("--smoke", action="store_true",
                        help="seconds only, portd and bare loops only: says whether the bench works")
    parser.add_argument("--out", default=BUILD, help="where bench.json and bench.svg go (the build)")
    found = parser.parse_args()
    found.only = [word for word in found.only.replace(",", " ").split() if word] or list(SECTIONS)
    unknown = set(found.only) - set(SECTIONS)
    if unknown or found.rounds < 1:
        parser.error(f"no such section: {', '.join(sorted(unknown))}" if unknown else "--rounds is 1 or more")
    return found


def machine():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        model = next((row.split(":")[1].strip() for row in file if row.startswith("model name")), "?")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {"cpus": len(CPUS), "model": model, "memory_gib": round(memory, 1), "kernel": platform.release()}


def in_words(host):
    return f"{host['cpus']} CPUs ({host['model']}), {host['memory_gib']:g} GiB, Linux {host['kernel']}"


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if len(CPUS) < 2 and not args.smoke:
        raise SystemExit("bench: needs two CPUs, one for the server and one for the load")
    os.sched_setaffinity(0, {LOAD_CPU})
    host, began = machine(), time.time()
    report.say(in_words(host))
    results = {}
    for name in args.only:
        full, short = SECTIONS[name]
        since = time.monotonic()
        results[name] = (short if args.smoke else full)(args.rounds)
        report.say(f"  ({name}: {time.monotonic() - since:.0f} s)")
    promised = verdict.judge(results)
    with open(os.path.join(args.out, "bench.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": host, "when": int(began), "seconds": round(time.time() - began, 1),
                   "rounds": args.rounds, "smoke": args.smoke, "results": results,
                   "promises": promised}, file, indent=1)
    report.say(f"\nAll figures: {args.out}/bench.json")
    if "latency" in results:
        with open(os.path.join(args.out, "bench.svg"), "w", encoding="utf-8") as file:
            file.write(plot.draw(results["latency"]["points"], "make bench: " + in_words(host)))
        report.say(f"Latency and answers against offered load: {args.out}/bench.svg")


if __name__ == "__main__":
    main()
