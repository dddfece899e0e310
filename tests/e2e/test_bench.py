"""make bench in short: it runs, and what it writes has its form. No figure of it is judged here."""

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import tap
from tap import at_least, check, equal

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.join(HERE, "..", "bench", "bench.py")
SVG = "{http://www.w3.org/2000/svg}"
SECTIONS = ["serve", "shed", "idle", "latency", "limit", "noise", "goodput", "waiting", "shed_delay",
            "handover", "stats", "balance"]
SHORT = ["portd", "portd private", "bare echo"]  # without the peers, which need not be there


def bench(*args, status=0):
    result = subprocess.run([sys.executable, "-B", BENCH, *args], text=True, capture_output=True,
                            timeout=tap.slow(50))
    equal(result.returncode, status, f"bench {' '.join(args)}: {result.stdout}{result.stderr}")
    return result


def leftovers():
    return {name for name in os.listdir("/tmp") if name.startswith("portd-bench-")}


def check_results(results):
    equal(list(results), SECTIONS, "sections")
    for name in SHORT:
        serve = results["serve"][name]
        equal(serve["served"], serve["connections"], f"{name}: all are served")
        equal(set(serve["cpu_us"]), {"median", "min", "max", "rounds"}, "a figure with its spread")
        points = results["latency"]["points"][name]
        check(all(one["offered"] > 0 and one["answers"] > 0 for one in points), points)
    equal(results["serve"]["bare echo"]["of_bare"]["median"], 1.0, "the floor is its own measure")
    for name in ("portd", "portd private"):
        shed = results["shed"][name]
        equal(shed["reset"], shed["connections"], f"{name}: all are shed")
        clients = results["limit"][name]["clients"]
        equal(clients["hanging"] + clients["served"], 0, f"{name}: every client beyond the limit is shed")
        equal(results["limit"][name]["holders_served"], 100, f"{name}: those within it are served")


def check_plot(path, results):
    root = ElementTree.parse(path).getroot()
    equal(root.tag, SVG + "svg", "the plot's root")
    words = {text.text for text in root.iter(SVG + "text")}
    for wanted in ["latency, ms", "answers a second", "offered load, connections a second", *SHORT]:
        check(wanted in words, f"the plot does not say {wanted!r}")
    points = sum(map(len, results["latency"]["points"].values()))
    at_least(len(list(root.iter(SVG + "circle"))), points // 2, "marks of the two portds")


def test_short():
    before = leftovers()
    with tempfile.TemporaryDirectory() as directory:
        said = bench("--smoke", "--rounds", "1", "--out", directory).stdout
        with open(os.path.join(directory, "bench.json"), encoding="utf-8") as file:
            found = json.load(file)
        equal(found["smoke"], True, "it says that it was short")
        check_results(found["results"])
        equal(len(found["promises"]), 10, "promises judged")
        for row in found["promises"]:
            check(row["what"] in said, f"the table does not have {row['what']!r}")
        check_plot(os.path.join(directory, "bench.svg"), found["results"])
    equal(leftovers() - before, set(), "directories left behind")


def test_parts():
    with tempfile.TemporaryDirectory() as directory:
        bench("--smoke", "--rounds", "2", "--only", "shed", "--out", directory)
        equal(os.listdir(directory), ["bench.json"], "files without latencies to draw")
        with open(os.path.join(directory, "bench.json"), encoding="utf-8") as file:
            found = json.load(file)["results"]
        equal(list(found), ["shed"], "sections asked for")
        equal(found["shed"]["portd"]["cpu_us"]["rounds"], 2, "rounds asked for")
    said = bench("--only", "serve,nonsense", status=2).stderr
    check("nonsense" in said, f"an unknown section is not named: {said}")


if __name__ == "__main__":
    tap.main()
