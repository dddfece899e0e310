#!/usr/bin/env python3
"""coverage.py - which lines, branches and error paths do the tests enter?

Builds portd with counters in build/coverage, runs the unit tests and the end-to-end tests there, and
prints what they have executed, by folder of src; then the error paths that nothing has entered:
blocks of a function without a single execution that return an error, jump, log or shed. With lcov
installed the pages are in build/coverage/html.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

import instrument
from instrument import say

# What an error path does, in one of its lines.
ERROR = re.compile(r"\breturn\s+(-\w|r\b|false|NULL)|\bgoto\b|\blog_(error|warning)|\berrno\b|"
                   r"\b-?E[A-Z]{3,}\b|\bSHED_|\bown_close|\bwarn|\bcomplain|\bfail|\berror|\bexit\(")


class File:
    """What was counted in one source file, by all programs that have it."""

    def __init__(self):
        self.lines, self.branches, self.functions = {}, {}, {}

    def add(self, counted):
        for line in counted["lines"]:
            n = line["line_number"]
            self.lines[n] = self.lines.get(n, 0) + line["count"]
            for i, branch in enumerate(line["branches"]):
                self.branches[n, i] = self.branches.get((n, i), 0) + branch["count"]
        for function in counted["functions"]:
            key = function["start_line"], function["end_line"], function["name"]
            self.functions[key] = self.functions.get(key, 0) + function["execution_count"]

    def blocks(self, first, last):
        """[(first, last)] of the runs of lines between these that nothing has executed."""
        found, run = [], []
        for n in sorted(n for n in self.lines if first <= n <= last):
            if self.lines[n] == 0:
                run.append(n)
            elif run:
                found.append((run[0], run[-1]))
                run = []
        return found + [(run[0], run[-1])] if run else found


def read_counts(build):
    files = {}
    for counted in instrument.gcov(build, build):
        files.setdefault(counted["file"], File()).add(counted)
    return files


def share(counts):
    hit = sum(1 for count in counts if count)
    return f"{hit:6} of {len(counts):6} {100 * hit / max(1, len(counts)):5.1f} %"


def print_table(files):
    folders = sorted({os.path.dirname(name) for name in files})
    print(f"{'folder':12} {'lines':>23} {'branches':>23}")
    for folder in folders + ["src"]:
        mine = [f for name, f in files.items() if name.startswith(folder + "/")]
        lines = [count for file in mine for count in file.lines.values()]
        branches = [count for file in mine for count in file.branches.values()]
        print(f"{folder:12} {share(lines):>23} {share(branches):>23}")


def error_paths(source, name, file):
    """(line, text) of each block that nothing has entered, in a function of this file."""
    with open(os.path.join(source, name)) as text:
        lines = text.read().split("\n")
    for (first, last, function), count in sorted(file.functions.items()):
        if count == 0:
            yield function, first, "(the whole function)"
            continue
        for start, end in file.blocks(first, last):
            if ERROR.search("\n".join(lines[start - 1:end])):
                yield function, start, lines[start - 1].strip()


def print_error_paths(source, files):
    total = 0
    for folder in sorted({os.path.dirname(name) for name in files}):
        print(f"\n{folder}: error paths that nothing has entered")
        for name in sorted(n for n in files if os.path.dirname(n) == folder):
            before = None
            for function, line, text in error_paths(source, name, files[name]):
                if function != before:
                    print(f"  {function}")
                before = function
                total += 1
                print(f"    {name}:{line}: {text}")
    print(f"\n{total} error paths that nothing has entered")


def make_all(build):
    """portd and what the tests need; the programs of the tests are in the lists of the build."""
    rows = subprocess.run(["make", "-s", "--no-print-directory", "-C", build.folder, "list-tests", "SET=watched"],
                          text=True, check=True, stdout=subprocess.PIPE).stdout.splitlines()
    programs = [row.split()[1] for row in rows if row.split()[0] in ("tool", "unit", "fuzz")]
    build.make([*instrument.PROGRAMS, *programs], os.cpu_count())


def run_tests(source, folder, tests):
    subprocess.run(["find", folder, "-name", "*.gcda", "-delete"], check=True)
    command = [sys.executable, "-B", os.path.join(source, "tests", "runner", "run.py"), folder + ":watched"]
    status = subprocess.run(command + (["--only", tests] if tests else [])).returncode
    if status != 0:
        say(f"some tests failed: {folder}/failed; what they have executed counts all the same")


def write_pages(build):
    if not shutil.which("lcov"):
        say("lcov is not installed: no pages")
        return
    info, pages = os.path.join(build, "coverage.info"), os.path.join(build, "html")
    branches = ["--rc", "lcov_branch_coverage=1"]
    subprocess.run(["lcov", "-q", "-c", "-d", os.path.join(build, "src"), "-o", info, *branches],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["genhtml", "-q", "--branch-coverage", "-o", pages, info], check=True,
                   stdout=subprocess.DEVNULL)
    say(f"pages: {pages}/index.html")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", default="", help="these only, as make check takes them in ONLY")
    parser.add_argument("--report-only", action="store_true", help="of the tests that ran before")
    parser.add_argument("--source", default=os.environ.get("top_srcdir", "."), help="top of the tree")
    parser.add_argument("--build", default=os.environ.get("top_builddir", "build"),
                        help="build directory; everything is made in its folder coverage")
    asked = parser.parse_args()
    source, build = os.path.abspath(asked.source), os.path.join(os.path.abspath(asked.build), "coverage")
    if not asked.report_only:
        made = instrument.Build(os.path.dirname(build), source, build, instrument.COVER_FLAGS)
        make_all(made)
        run_tests(source, build, asked.tests)
    files = read_counts(build)
    print_table(files)
    print_error_paths(source, files)
    write_pages(build)


if __name__ == "__main__":
    main()
