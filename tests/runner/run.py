#!/usr/bin/env python3
"""run.py - builds portd in one or more build directories and runs their tests side by side.

usage: run.py [--make] [--only WORDS] [--seed N] [--soak] DIR:SET...

DIR is a configured build directory, SET one of the sets of tests that tests/Makefile.inc knows
(make -C DIR list-tests SET=all). --make builds what they need first. --only runs those files whose
name is, or single tests in them whose name follows a slash: "test_reload test_flood/full".

Exit status 0 only if every test passed the first time. What failed is run once more, alone, when all
others have ended: if it passes then, it is called flaky, and the run has failed all the same. Each
failed file leaves a folder in DIR/failed of the first DIR: its log, that of the second run, and of
each portd in it the log, the configuration and the last stats.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import report  # noqa: E402
from costs import Costs  # noqa: E402
from job import KINDS, Build, Test  # noqa: E402
from schedule import Schedule, alone, plain_environment  # noqa: E402

TOP = os.path.dirname(os.path.dirname(HERE))
# By the sanitizers that a build has: its name, and what its tests get. Deadlines are long enough for
# sanitizers, and for a dozen tests at once on a busy machine. ThreadSanitizer knows
# descriptors by number and takes private tables for races; a worker that has stalled is left behind
# at the end, on purpose: no leak of a thread.
SLOW = {"PORTD_TEST_SLOW": "6"}
NAMES = {
    "": ("plain", {"PORTD_TEST_SLOW": "3"}),
    "address,undefined": ("asan", SLOW),
    "thread": ("tsan", {**SLOW, "PORTD_TABLES": "shared", "TSAN_OPTIONS":
                        f"report_thread_leaks=0:suppressions={TOP}/tests/tsan.supp"}),
}
CLIENTS = ("portctl", "portload")
AGAIN = 5  # files that are run again at most: with more there is something else wrong


def make(folder, *words):
    """A make in a build directory; what it prints."""
    return subprocess.run(["make", "-s", "--no-print-directory", "-C", folder, *words], check=True, text=True,
                          stdout=subprocess.PIPE, env=plain_environment()).stdout


def tests_of(word):
    """The tests of DIR:SET."""
    folder, _, name = word.rpartition(":")
    rows = [line.split(None, 1) for line in make(folder, "list-tests", f"SET={name}").splitlines()]
    sanitizers = next((row[1] for row in rows if row[0] == "sanitizers" and len(row) > 1), "")
    build = Build(*NAMES.get(sanitizers, (sanitizers, SLOW)), folder, sanitizers)
    build.tools = [row[1] for row in rows if row[0] == "tool"]
    return build, [Test(build, *row) for row in rows if row[0] in KINDS]


def choose(tests, words):
    """Those of the tests that the words name; a word FILE/NAME selects single tests in a file."""
    if not words:
        return tests
    chosen = {}
    for word in words:
        name, _, single = word.partition("/") if not word.startswith("tests/") else (word, "", "")
        found = [test for test in tests if name in (test.base, test.name.split()[1], test.path)]
        if not found:
            sys.exit(f"run.py: there is no test {name!r}; 'make list-tests SET=all' names them")
        for test in found:
            chosen.setdefault(test, []).append(single)
    for test, singles in chosen.items():
        test.only = () if "" in singles else tuple(singles)
    return list(chosen)


def share_clients(builds):
    """ThreadSanitizer has nothing to say of portctl and portload, which have one thread, and they take
    ten times as long to start with it: tests of such a build use those of the first one."""
    for build in builds:
        if build.sanitizers == "thread" and not builds[0].sanitizers:
            build.clients = builds[0]


def make_commands(builds):
    """Arguments of Make for what the chosen tests of each build need, [(build, tests)]: the programs of all
    first, so that the tests that wait for most of their time begin early."""
    rows = []
    make = ["make", "-s", "--no-print-directory", f"-j{os.cpu_count() or 1}", "-C"]
    for build, tests in builds:
        log = os.path.join(build.folder, "make.log")
        clients = CLIENTS if any(other.clients is build and mine for other, mine in builds) else ()
        if tests or clients:
            rows.append((f"{build.name} build", build, build,
                         [*make, build.folder, "portd", *clients, *build.tools], log))
    for build, tests in builds:
        programs = [test.path for test in tests if KINDS[test.kind].in_build]
        if programs:
            rows.append((f"{build.name} test programs", (build, "tests"), build,
                         [*make, build.folder, "test-programs", "PROGRAMS=" + " ".join(programs)], os.path.join(build.folder, "make-tests.log")))
    return rows


def preparations(builds):
    """The same for what is prepared for a kind of tests, once: the containers' root."""
    for build, tests in builds:
        if any(test.kind == "system" for test in tests):
            os.environ.update(top_srcdir=TOP, top_builddir=build.folder)
            return [("root of the containers", "system", None,
                     [sys.executable, "-B", os.path.join(TOP, "tests", "system", "root.py")],
                     os.path.join(build.folder, "root.log"))]
    return []


def run_again(schedule, keep):
    """(failed, again): {test: Result} of the first run and of the second."""
    failed = {test: row[0] for test, row in schedule.results.items() if not row[0].good()}
    again = {}
    for test, result in failed.items():
        folder = os.path.join(keep, test.folder())
        os.makedirs(folder, exist_ok=True)
        shutil.copy(test.log_path(), os.path.join(folder, "log"))
        with open(os.path.join(folder, "how-to-repeat"), "w") as file:
            seed = os.environ.get("PORTD_TEST_SEED")
            file.write((f"PORTD_TEST_SEED={seed} " if seed else "") +
                       f"tests/runner/run.py --only '{test.path}' '{test.build.folder}:all'\n")
        if len(again) < AGAIN:
            print(f"again, alone: {test.name}", flush=True)
            only = [name for name in result.failed if name] if not result.wrong else []
            again[test] = alone(test, TOP, os.path.join(folder, "again"), only)
            shutil.copy(test.log_path(), os.path.join(folder, "log-again"))
    return failed, again


def verdict(schedule, failed):
    """The closing line; the exit status."""
    results = [row[0] for row in schedule.results.values()]
    passed = sum(len(result.passed) for result in results)
    skipped = sum(len(result.skipped) for result in results)
    wrong = sum(result.failures() for result in failed.values()) + schedule.broken
    print(f"{passed} passed, {wrong} failed, {skipped} skipped", flush=True)
    return 1 if wrong or not passed else 0


def options():
    parser = argparse.ArgumentParser(description="Builds portd and runs its tests side by side.")
    parser.add_argument("--make", action="store_true", help="build first what the tests need")
    parser.add_argument("--only", default="", help="files, or FILE/TEST, separated by blanks")
    parser.add_argument("--seed", help="of tests that draw at random (PORTD_TEST_SEED)")
    parser.add_argument("--soak", action="store_true", help="the long forms (PORTD_TEST_SOAK)")
    parser.add_argument("sets", nargs="+", metavar="DIR:SET")
    return parser.parse_args()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = options()
    if chosen.seed:
        os.environ["PORTD_TEST_SEED"] = chosen.seed
    if chosen.soak:
        os.environ["PORTD_TEST_SOAK"] = "1"
    everything = [tests_of(word) for word in chosen.sets]
    tests = choose([test for _, rows in everything for test in rows], chosen.only.split())
    builds = [(build, [test for test in rows if test in tests]) for build, rows in everything]
    share_clients([build for build, _ in builds])
    home = everything[0][0].folder
    keep = os.path.join(home, "failed")
    shutil.rmtree(keep, ignore_errors=True)
    costs = Costs(os.path.join(TOP, "tests", "costs.txt"), os.path.join(home, "costs.txt"))
    schedule = Schedule(tests, make_commands(builds) if chosen.make else [],
                        preparations(builds), TOP, keep, costs,
                        report.Progress(len(tests)))
    schedule.run()
    costs.note(schedule.results)
    costs.write()
    failed, again = run_again(schedule, keep)
    if not chosen.only:
        report.times(schedule, sys.stdout)
    print(flush=True)
    report.failures(failed, again, keep, sys.stdout)
    if failed:
        print(f"logs, figures and seeds of what failed: {keep}", flush=True)
    return verdict(schedule, failed)


if __name__ == "__main__":
    sys.exit(main())
