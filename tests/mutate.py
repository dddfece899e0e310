#!/usr/bin/env python3
"""mutate.py - do the tests notice when the code is wrong?

Changes one operator, constant, guard or call of a C file at a time, in a copy of the tree, and runs
the tests that execute the changed line: unit tests first, then end-to-end tests, the quickest first,
up to the first failure. A mutant that no test notices survives: a test is missing there, or the code
is not needed. A mutant on a line that no test executes is told apart.

A failure counts only if it comes twice, and if an end-to-end test passes with the code as it is.
A mutant counts only if it compiles, and to something else than the code as it is does at -O1.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time

import instrument
import mutations
from instrument import PROGRAMS, Build, say

# Those of the end-to-end tests that say most of src/core in the shortest time; --e2e names others.
E2E = ("backlog clients config descriptors errnos explain faults flood gone holder inherit limits "
       "limits_each limits_together overload reload stats_truth stop")
LONGER, EXTRA = 5, 5  # a mutant's test may take LONGER times as long as it did, and EXTRA s
STATES = ("unit", "e2e", "timeout", "survived", "not executed")
HEADS = ("unit", "e2e", "timeout", "survived", "not run")


class Places:
    """Where everything is."""

    def __init__(self, source, top):
        self.source, self.top = source, top
        self.tree = os.path.join(top, "tree")
        self.plain = os.path.join(top, "plain")
        self.cover = os.path.join(top, "cover")
        self.report = os.path.join(top, "report.json")

    def file(self, name):
        with open(os.path.join(self.tree, name)) as file:
            return file.read()


class Makefile:
    """How the build compiles and links."""

    def __init__(self, build):
        first = build.variables(["unit_tests", "noinst_LIBRARIES", "COMPILE", "LIBS"])
        self.compile = first["COMPILE"]
        self.libs = first["LIBS"]
        self.tests = [t for t in first["unit_tests"].split() if "/unit/" in t]
        targets = self.tests + list(PROGRAMS)
        libraries = first["noinst_LIBRARIES"].split()
        name = lambda target: target.replace("/", "_").replace(".", "_")
        kinds = ("OBJECTS", "LDADD", "LDFLAGS")
        wanted = [f"{name(t)}_{kind}" for t in targets for kind in kinds]
        wanted += [f"{name(l)}_OBJECTS" for l in libraries]
        values = build.variables(wanted + ["AM_LDFLAGS", "CC", "AM_CFLAGS", "CFLAGS"])
        self.link = f"{values['CC']} {values['AM_CFLAGS']} {values['CFLAGS']}"
        self.part = {t: {k: values[f"{name(t)}_{k}"] for k in kinds} for t in targets}
        self.library = {o: l for l in libraries for o in values[f"{name(l)}_OBJECTS"].split()}

    def programs_of(self, obj):
        """Those of portd, portctl and portload that have this object in them."""
        library = self.library.get(obj)
        return [p for p in PROGRAMS if obj in self.part[p]["OBJECTS"].split()
                or library in self.part[p]["LDADD"].split()]

    def link_command(self, target, out, obj, changed):
        """The changed object comes before the library that has the other one, which is left out."""
        part = self.part[target]
        own = [changed if o == obj else o for o in part["OBJECTS"].split()]
        objects = " ".join(own if changed in own else own + [changed])
        return f"{self.link} {part['LDFLAGS']} -o {out} {objects} {part['LDADD']} {self.libs}"


# The map: which test executes which line.

def digests(places, names):
    return {name: hashlib.sha256(places.file(name).encode()).hexdigest() for name in names}


def files_below(places, folder, ending):
    found = []
    for where, _, names in os.walk(os.path.join(places.tree, folder)):
        found += [os.path.relpath(os.path.join(where, n), places.tree) for n in names
                  if n.endswith(ending)]
    return found


def sources_of(places, test):
    if is_e2e(test):
        shared = [f for f in files_below(places, "tests/e2e", ".py") if "/test_" not in f]
        return [test] + shared
    return [test + ".c"] + files_below(places, "tests/unit", ".h")


def is_e2e(test):
    return test.endswith(".py")


def command_of(places, program, test):
    if is_e2e(test):
        return [sys.executable, "-B", os.path.join(places.tree, test)]
    return [program]


def measure(places, test):
    """Runs a test with counters, and says what it executes."""
    counted = os.path.join(places.top, "counts", test)
    subprocess.run(["rm", "-rf", counted], check=True)
    os.makedirs(counted)
    env = instrument.environment(
        places.tree, places.cover, GCOV_PREFIX=counted,
        GCOV_PREFIX_STRIP=str(len(places.cover.strip("/").split("/"))))
    command = command_of(places, os.path.join(places.cover, test), test)
    outcome = instrument.run(command, env, 600, places.cover, first_failure=False)
    lines = instrument.counts(places.cover, counted)
    subprocess.run(["rm", "-rf", counted], check=True)
    if not outcome.is_good():
        say(f"{test} fails without any change: {', '.join(outcome.failed) or outcome.status}")
    return {"seconds": round(outcome.seconds, 2), "failed": outcome.failed,
            "good": outcome.is_good(),
            "lines": {f: [n for n, count in mine.items() if count] for f, mine in lines.items()},
            "code": {f: sorted(mine) for f, mine in lines.items()}}


def read_map(places, tests, files, jobs):
    """{test: what measure() says}. Only tests that have changed, or have not yet run the files as they
    are now, are run again."""
    path = os.path.join(places.top, "map.json")
    known = {}
    if os.path.exists(path):
        with open(path) as file:
            known = json.load(file)
    source = digests(places, files_below(places, "src", (".c", ".h", ".def")))
    keys = {t: digests(places, sources_of(places, t)) for t in tests}

    def is_known(test):
        seen = known.get(test, {"key": None, "source": {}})
        return seen["key"] == keys[test] and all(seen["source"].get(f) == source[f] for f in files)

    todo = [t for t in tests if not is_known(t)]
    if todo:
        say(f"which test executes which line: {len(todo)} tests")
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for test, found in zip(todo, pool.map(lambda t: measure(places, t), todo)):
            known[test] = dict(found, key=keys[test], source=source)
            with open(path + ".new", "w") as file:
                json.dump(known, file)
            os.replace(path + ".new", path)
    return {test: known[test] for test in tests}


def code_line(known, name, line):
    """The line that gcov counts for it: a statement's later lines may have no count of their own."""
    code = {n for found in known.values() for n in found["code"].get(name, ())}
    while line > 0 and line not in code:
        line -= 1
    return line


def tests_of(known, name, line):
    """(unit tests, end-to-end tests) that execute it, the quickest first."""
    line = code_line(known, name, line)
    those = sorted((t for t, found in known.items() if line in found["lines"].get(name, ())),
                   key=lambda t: known[t]["seconds"])
    return [t for t in those if not is_e2e(t)], [t for t in those if is_e2e(t)]


# One mutant.

class Work:
    """A place for one mutant at a time: its source, its object and the programs made of it."""

    def __init__(self, places, makefile, name, folder):
        self.places, self.makefile, self.name = places, makefile, name
        self.folder = os.path.join(places.top, "work", folder)
        os.makedirs(os.path.join(self.folder, os.path.dirname(name)), exist_ok=True)
        self.object = os.path.join(self.folder, "changed.o")
        # What tests look for beside the programs.
        if not os.path.exists(os.path.join(self.folder, "tests")):
            os.symlink(os.path.join(places.plain, "tests"), os.path.join(self.folder, "tests"))

    def write(self, text):
        with open(os.path.join(self.folder, self.name), "w") as file:
            file.write(text)

    def gcc(self, options, output):
        """Compiles what was written, as from the tree. Returns whether it does."""
        # The Makefile's paths are relative to the build; the file's own name is to be the same
        # for every mutant, since assert() has it.
        command = f"{self.makefile.compile} -w {options} -o {output} {self.name}"
        command = command.replace("-I.", "-I" + self.places.plain, 1)
        return subprocess.run(command, shell=True, cwd=self.folder, stderr=subprocess.DEVNULL,
                              stdin=subprocess.DEVNULL).returncode == 0

    def code(self, text):
        """What the compiler makes of it, optimised a little; None if it does not compile."""
        self.write(text)
        out = os.path.join(self.folder, "code.s")
        if not self.gcc("-O1 -g0 -S", out):
            return None
        with open(out) as file:
            return file.read()

    def build(self, target):
        """Links one program with the changed object; its path, or None."""
        out = os.path.join(self.folder, os.path.basename(target))
        obj = self.name[:-2] + ".o"
        command = self.makefile.link_command(target, out, obj, self.object)
        done = subprocess.run(command, shell=True, cwd=self.places.plain,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            say(f"{target} cannot be linked: {done.stderr.strip().splitlines()[-1:]}")
        return out if done.returncode == 0 else None


def choose(places, makefile, name, lines, n, seed):
    """n mutants of a file that count, drawn by the seed; in the order of the file."""
    text = places.file(name)
    work = Work(places, makefile, name, "choose-" + name.replace("/", "-"))
    base = work.code(text)
    if base is None:
        raise SystemExit(f"{name} cannot be compiled as it is")
    drawn = [m for m in mutations.of(text) if not lines or m.line in lines]
    random.Random(f"{seed}:{name}").shuffle(drawn)
    chosen = []
    for mutant in drawn:
        if len(chosen) == n:
            break
        if work.code(mutant.apply(text)) not in (None, base):
            chosen.append(mutant)
    return sorted(chosen, key=lambda m: m.start)


def mutant_of(result):
    return result["file"], mutations.Mutant(*(result[field] for field in mutations.Mutant._fields))


def choose_all(places, makefile, files, asked):
    """[(file, mutant)]"""
    share = shares(places, list(files), asked.n)
    one = lambda name: choose(places, makefile, name, files[name], share[name], asked.seed)
    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        return [(name, m) for name, some in zip(files, pool.map(one, files)) for m in some]


def read_survivors(places, path):
    """[(file, mutant)] of those in a report that no test has noticed; the files are as they were."""
    with open(path) as file:
        results = json.load(file)["results"]
    todo = [mutant_of(r) for r in results if r["state"] in ("survived", "not executed")]
    for name, m in todo:
        if places.file(name)[m.start:m.end] != m.old:
            raise SystemExit(f"{name} has changed since {path} was written")
    return todo


class Trial:
    """Runs the tests that concern one mutant."""

    def __init__(self, places, makefile, known, name, mutant, folder):
        self.places, self.known, self.name, self.mutant = places, known, name, mutant
        self.work = Work(places, makefile, name, folder)
        self.changed = {}  # the programs with the change in them, for the end-to-end tests
        self.ran = []

    def env(self):
        env = instrument.environment(self.places.tree, self.places.plain)
        env.update({name.upper(): path for name, path in self.changed.items()})
        return env

    def attempt(self, test, program, env, only=None):
        limit = LONGER * self.known[test]["seconds"] + EXTRA
        program = program or os.path.join(self.places.plain, test)
        command = command_of(self.places, program, test)
        if not is_e2e(test):
            command.append("--fail-fast")
        if only:
            command += [only] if is_e2e(test) else ["--filter", only.replace("::", "/")]
        return instrument.run(command, env, limit, self.places.plain)

    def passes_unchanged(self, test, only):
        env = instrument.environment(self.places.tree, self.places.plain)
        return self.attempt(test, None, env, only).is_good()

    def notices(self, test, program=None):
        """None, "timeout", or the name of the test that fails and fails again."""
        self.ran.append(test)
        outcome = self.attempt(test, program, self.env())
        if outcome.is_good():
            return None
        if outcome.timeout:
            # On a busy machine it may be that without any change.
            return "timeout" if self.passes_unchanged(test, None) else None
        only = outcome.failed[0] if outcome.failed else None
        again = self.attempt(test, program, self.env(), only)
        if again.is_good():
            return None
        shaky = not self.known[test]["good"] or is_e2e(test)
        if shaky and not self.passes_unchanged(test, only):
            return None
        return only or f"exit status {outcome.status}"

    def verdict(self):
        """(state, test, name)"""
        unit, e2e = tests_of(self.known, self.name, self.mutant.line)
        if not unit and not e2e:
            return "not executed", None, None
        self.work.write(self.mutant.apply(self.places.file(self.name)))
        if not self.work.gcc("-c", self.work.object):
            return "not compiled", None, None
        for test in unit + e2e:
            program = None
            if is_e2e(test):
                self.build_programs()
            else:
                program = self.work.build(test)
            noticed = self.notices(test, program)
            if noticed == "timeout":
                return "timeout", test, None
            if noticed:
                return ("e2e" if is_e2e(test) else "unit"), test, noticed
        return "survived", None, None

    def build_programs(self):
        if not self.changed:
            obj = self.name[:-2] + ".o"
            for program in self.work.makefile.programs_of(obj):
                self.changed[program] = self.work.build(program)

    def run(self):
        began = time.monotonic()
        state, test, noticed = self.verdict()
        return {"file": self.name, **self.mutant._asdict(), "state": state, "test": test,
                "name": noticed, "ran": self.ran, "what": self.mutant.words(),
                "seconds": round(time.monotonic() - began, 1)}


# All of them.

def shares(places, names, n):
    """{file: how many mutants}: by the size of the files, so that n are drawn in all."""
    size = {name: places.file(name).count("\n") for name in names}
    total, given, seen, result = sum(size.values()), 0, 0, {}
    for name in names:
        seen += size[name]
        result[name] = seen * n // total - given
        given += result[name]
    return result


def parse_files(words):
    """{file: lines wanted, or an empty set for all of them}, of FILE and FILE:LINE."""
    files = {}
    for word in words:
        name, _, line = word.partition(":")
        files.setdefault(name, set())
        if line:
            files[name].add(int(line))
    return files


def try_all(places, makefile, known, todo, jobs):
    """todo: [(file, mutant)]. The results, in the same order; each is told as it comes. An interrupted
    run goes on where it was."""
    key = report_key(places)
    lock, results = threading.Lock(), read_report(places, key, todo)
    done = [len(results)]
    folders = collections.deque(f"job-{i}" for i in range(jobs))

    def one(index):
        with lock:
            folder = folders.popleft()
        name, mutant = todo[index]
        result = Trial(places, makefile, known, name, mutant, folder).run()
        with lock:
            folders.append(folder)
            done[0] += 1
            results[index] = result
            write_report(places, key, [results[i] for i in sorted(results)])
            by = f" by {result['test']}" if result["test"] else ""
            say(f"{done[0]}/{len(todo)} {name}:{mutant.line}: {mutant.words()}: "
                f"{result['state']}{by} ({result['seconds']} s)")

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [i for i in range(len(todo)) if i not in results]))
    return [results[i] for i in range(len(todo))]


def report_key(places):
    """What the results depend on: every source and every test."""
    names = files_below(places, "src", "") + files_below(places, "tests", (".c", ".h", ".py"))
    return hashlib.sha256(json.dumps(digests(places, names), sort_keys=True).encode()).hexdigest()


def read_report(places, key, todo):
    """{index in todo: result}, of the last report if nothing has changed since."""
    if not os.path.exists(places.report):
        return {}
    with open(places.report) as file:
        report = json.load(file)
    if report["key"] != key:
        return {}
    known = {mutant_of(result): result for result in report["results"]}
    return {i: known[mutant] for i, mutant in enumerate(todo) if mutant in known}


def write_report(places, key, results):
    with open(places.report + ".new", "w") as file:
        json.dump({"key": key, "results": results}, file, indent=1)
    os.replace(places.report + ".new", places.report)


def row(name, results):
    count = collections.Counter(r["state"] for r in results)
    killed = count["unit"] + count["e2e"] + count["timeout"]
    score = f"{100 * killed / len(results):.0f} %" if results else "-"
    return [name, len(results)] + [count[s] for s in STATES] + [score]


def print_report(results):
    names = sorted({r["file"] for r in results})
    rows = [["file", "mutants", *HEADS, "score"]]
    rows += [row(n, [r for r in results if r["file"] == n]) for n in names]
    rows.append(row("all", results))
    width = max(len(str(r[0])) for r in rows)
    for cells in rows:
        print(f"{cells[0]:{width}}" + "".join(f"{cell:>10}" for cell in cells[1:]))
    for state, title in (("survived", "Survivors"), ("not executed", "On lines that no test runs")):
        those = [r for r in results if r["state"] == state]
        if those:
            print(f"\n{title}:")
        for r in those:
            tests = " ".join(os.path.basename(t).replace(".py", "") for t in r["ran"])
            print(f"  {r['file']}:{r['line']}: {r['what']}{'; ran: ' + tests if tests else ''}")


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE[:LINE]",
                        help="a C file under src, such as src/core/hold.c; with :LINE this line only")
    parser.add_argument("-n", type=int, default=50, help="mutants in all [50]")
    parser.add_argument("--seed", type=int, default=1, help="draws others [1]")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once [2]")
    parser.add_argument("--e2e", default=E2E, help="end-to-end tests: words, or none [%(default)s]")
    parser.add_argument("--again", metavar="REPORT", help="instead of FILE: the survivors of a report")
    parser.add_argument("--source", default=os.environ.get("top_srcdir", "."), help="top of the tree")
    parser.add_argument("--build", default=os.environ.get("top_builddir", "build"),
                        help="build directory; everything is made in its folder mutate")
    asked = parser.parse_args()
    if bool(asked.files) == bool(asked.again):
        parser.error("either FILE or --again")
    return asked


def main():
    asked = options()
    configured = os.path.abspath(asked.build)
    places = Places(os.path.abspath(asked.source), os.path.join(configured, "mutate"))
    instrument.copy_tree(places.source, places.tree)
    cover = Build(configured, places.tree, places.cover, instrument.COVER_FLAGS)
    plain = Build(configured, places.tree, places.plain, instrument.PLAIN_FLAGS)
    makefile = Makefile(plain)
    for build in (cover, plain):
        build.make([*PROGRAMS, *makefile.tests, "tests/e2e/clock_jump.so", "tests/e2e/huge_nofile.so"],
                   os.cpu_count())
    files = parse_files(asked.files)
    e2e = [] if asked.e2e == "none" else [f"tests/e2e/test_{w}.py" for w in asked.e2e.split()]
    if asked.again:
        todo = read_survivors(places, asked.again)
        files = {name: set() for name, _ in todo}
    else:
        todo = choose_all(places, makefile, files, asked)
    known = read_map(places, makefile.tests + e2e, files, max(asked.jobs, 4))
    print_report(try_all(places, makefile, known, todo, asked.jobs))


if __name__ == "__main__":
    main()
