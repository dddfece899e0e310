"""What mutate.py and coverage.py share: a copy of the tree, builds of it, tests that are run within
limits, and what gcov counts.
"""

import filecmp
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

# Counters of several threads, and no hardening: what is counted and changed is the source alone.
# portload's processes end by _exit, which would lose theirs.
COVER_FLAGS = "-O0 --coverage -fprofile-update=atomic -D_exit=exit"
PLAIN_FLAGS = "-O0 -g"
PROGRAMS = ("portd", "portctl", "portload")
FAILED = re.compile(r"not ok(?: \d+)? - (.*?)(?:  \([\d.]+s\))?$")
MEMORY, FILE_SIZE = 6 << 30, 256 << 20  # of one test's processes, should a mutant run wild


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def is_build(path):
    return os.path.exists(os.path.join(path, "config.status"))


def copy_tree(source, target):
    """Makes target the same as source, without its builds; what is equal keeps its time."""
    os.makedirs(target, exist_ok=True)
    names = {name for name in os.listdir(source) if name not in (".git", "autom4te.cache")
             and not is_build(os.path.join(source, name))}
    for name in set(os.listdir(target)) - names:
        path = os.path.join(target, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    for name in names:
        one, other = os.path.join(source, name), os.path.join(target, name)
        if os.path.isdir(one):
            copy_tree(one, other)
        elif not os.path.exists(other) or not filecmp.cmp(one, other, shallow=True):
            shutil.copy2(one, other)


class Build:
    """A build directory that was never configured: its Makefile is that of a configured one, with other
    places and flags. Configuring takes longer than building."""

    def __init__(self, configured, tree, folder, flags):
        self.folder = folder
        self.flags = [f"CFLAGS={flags}"]
        self.flags += [f"{n}=" for n in ("WARN_CFLAGS", "HARDEN_CFLAGS", "HARDEN_LDFLAGS", "SAN_CFLAGS")]
        with open(os.path.join(configured, "Makefile")) as file:
            text = file.read()
        for name, value in (("srcdir", tree), ("top_srcdir", tree), ("VPATH", tree),
                            ("abs_srcdir", tree), ("abs_top_srcdir", tree),
                            ("abs_builddir", folder), ("abs_top_builddir", folder)):
            text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.M)
        os.makedirs(folder, exist_ok=True)
        # Each is newer than what the Makefile would make it of, so that make leaves it alone.
        self.write("config.status", "exit 0\n")
        new = self.write("Makefile", text)
        with open(os.path.join(configured, "config.h")) as file:
            self.write("config.h", file.read(), touch=False)
        self.write("stamp-h1", "")
        # automake's makefile includes one for each object, which the compiler fills.
        for name in re.findall(r"^include (\S+) # am--include-marker", text, re.M) if new else ():
            self.write(name.replace("$(DEPDIR)", ".deps"), "# dummy\n")

    def write(self, name, text, touch=True):
        """Writes a file that is not there, or not like this; returns whether it had to. One that is
        right becomes new as well, unless others are made of it."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            with open(path) as file:
                if file.read() == text:
                    if touch:
                        os.utime(path)
                    return False
        with open(path, "w") as file:
            file.write(text)
        return True

    def make(self, targets, jobs):
        say(f"make in {self.folder}")
        command = ["make", "-s", "--no-print-directory", f"-j{jobs}"]
        return subprocess.run(command + self.flags + targets, cwd=self.folder, stdout=sys.stderr,
                              check=True)

    def variables(self, names):
        """{name: value} as the Makefile has them."""
        rule = "\n".join(["print-them:"] +
                         [f"\t@printf '%s\\n' '{n}=$(strip $({n}))'" for n in names])
        command = ["make", "-s", "--no-print-directory", *self.flags, "--eval", rule, "print-them"]
        out = subprocess.run(command, cwd=self.folder, text=True, check=True,
                             stdout=subprocess.PIPE).stdout
        return dict(line.split("=", 1) for line in out.splitlines())


def environment(tree, build, **more):
    """As tests/Makefile.inc sets it for a test."""
    env = dict(os.environ, top_srcdir=tree, top_builddir=build, CRITERION_OUTPUTS="tap:-",
               PORTD_SANITIZERS="")
    for name in PROGRAMS:
        env[name.upper()] = os.path.join(build, name)
    env.update(more)
    return env


class Outcome:
    """What became of one run of a test: the names of those that failed, seconds, timeout."""

    def __init__(self, failed, status, seconds, timeout):
        self.failed, self.status, self.seconds, self.timeout = failed, status, seconds, timeout

    def is_good(self):
        return self.status == 0 and not self.failed and not self.timeout


def _limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def _end(process):
    """Ends a test with all that it has started; only what is of its own session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        if number == signal.SIGTERM:
            time.sleep(0.5)


def run(command, env, limit, cwd, first_failure=True):
    """Runs a test that speaks TAP; stops at its first failure, and after `limit` s."""
    began, late, failed = time.monotonic(), threading.Event(), []
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               errors="replace", start_new_session=True, preexec_fn=_limits)
    timer = threading.Timer(limit, lambda: (late.set(), _end(process)))
    timer.start()
    try:
        for line in process.stdout:
            found = FAILED.match(line.rstrip("\n"))
            if found and "# SKIP" not in line and "# TODO" not in line:
                failed.append(found[1].strip())
                if first_failure:
                    break
        if failed and first_failure:
            _end(process)
        status = process.wait()
    finally:
        timer.cancel()
        process.stdout.close()
        _end(process)
    return Outcome(failed, status, time.monotonic() - began, late.is_set())


def gcov(build, folder):
    """[{file}] as gcov prints it: what the .gcda files below folder have counted. folder has the
    build's own paths below it."""
    found = []
    for where, _, names in os.walk(os.path.join(folder, "src")):
        for name in names:
            if name.endswith(".gcda"):
                path = os.path.join(where, name)
                note = os.path.splitext(path)[0] + ".gcno"
                if not os.path.exists(note):
                    os.symlink(os.path.join(build, os.path.relpath(note, folder)), note)
                found.append(path)
    if not found:
        return []
    out = subprocess.run(["gcov", "-j", "-t", "-b", *found], cwd=build, text=True, check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    files = [file for line in out.splitlines() if line for file in json.loads(line)["files"]]
    for file in files:
        at = file["file"].rfind("/src/")
        file["file"] = file["file"][at + 1:] if at >= 0 else file["file"]
    return [file for file in files if file["file"].startswith("src/")]


def counts(build, folder):
    """{file: {line: how often}} of C files below src."""
    lines = {}
    for file in gcov(build, folder):
        mine = lines.setdefault(file["file"], {})
        for line in file["lines"]:
            mine[line["line_number"]] = mine.get(line["line_number"], 0) + line["count"]
    return lines
