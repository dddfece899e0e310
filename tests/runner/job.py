"""One test file that runs: its process, its log, and what its TAP says.

A test file of any kind prints TAP on its standard output. Its process leads a process group of its
own, so that whatever it started can be ended by that group's number.
"""

import os
import re
import signal
import subprocess
import sys
import time

LIMIT = 600  # seconds for one file; each test in it has a limit of its own, in tap.py


class Kind:
    """How tests of one kind are started. folder: where their programs or scripts are."""

    def __init__(self, command, in_build=False, environment=None):
        self.command = command
        self.in_build = in_build
        self.environment = environment or {}


KINDS = {
    "unit": Kind(lambda top, path: ["sh", os.path.join(top, "tests", "unit.sh"), path], True),
    "fuzz": Kind(lambda top, path: [path], True),
    "tree": Kind(lambda top, path: [sys.executable, "-B", path] if path.endswith(".py") else ["sh", path]),
    "plain": Kind(lambda top, path: [sys.executable, "-B", path], environment={"PORTD_TEST_PLAIN": "1"}),
    "e2e": Kind(lambda top, path: [sys.executable, "-B", path]),
    "system": Kind(lambda top, path: [sys.executable, "-B", path]),
}


class Build:
    """A build directory. name: of its tests in reports; environment: what they get beside the rest."""

    def __init__(self, name, environment, folder, sanitizers):
        self.name = name
        self.extra = environment
        self.folder = os.path.abspath(folder)
        self.sanitizers = sanitizers
        self.tools = []  # what its tests need beside portd's own programs
        self.clients = self  # the build whose portctl and portload its tests use

    def environment(self, top):
        client = lambda name: os.path.join(self.clients.folder, name)
        return {**os.environ, "top_srcdir": top, "top_builddir": self.folder,
                "PORTD": os.path.join(self.folder, "portd"), "PORTCTL": client("portctl"),
                "PORTLOAD": client("portload"), "PYTHON3": sys.executable,
                "PORTD_SANITIZERS": self.sanitizers, **self.extra}


class Test:
    """A test file in a build. path: as in the lists of tests/Makefile.inc."""

    def __init__(self, build, kind, path):
        self.build = build
        self.kind = kind
        self.path = path
        self.only = ()  # names of single tests in it; all by default
        label = re.sub(r"\.(py|sh)$", "", path)
        self.base = os.path.basename(label)
        label = label.removeprefix("tests/") if path.startswith("tests/") else self.base
        self.name = f"{build.name} {label}"

    def command(self, top):
        kind = KINDS[self.kind]
        return kind.command(top, os.path.join(self.build.folder if kind.in_build else top, self.path))

    def needs(self):
        """What has to be made before it starts, as a Make has it."""
        own = (self.build, "tests") if KINDS[self.kind].in_build else self.kind
        return {self.build, self.build.clients, own}

    def folder(self):
        """The name of the folder that it leaves when it fails."""
        return re.sub(r"[ /]", "-", self.name)

    def log_path(self):
        return os.path.join(self.build.folder, re.sub(r"\.(py|sh)$", "", self.path) + ".log")


class Result:
    """What the TAP of a log says."""

    def __init__(self, text, status):
        self.passed, self.failed, self.skipped, self.seconds = [], [], [], {}
        self.wrong = []  # what is wrong with the file as a whole
        plan = None
        for line in text.splitlines():
            if match := re.match(r"1\.\.(\d+)(\s*# SKIP\b\s*(.*))?", line):
                plan = int(match[1])
                if match[2]:
                    self.skipped.append(match[3] or "all")
                    plan = None if plan else 0
            elif match := re.match(r"(not )?ok\b[ \t]*\d*[ \t]*-?[ \t]*(.*)", line):
                name, _, directive = match[2].partition("# SKIP")
                rows = self.failed if match[1] else self.skipped if directive else self.passed
                rows.append(re.sub(r"  \(\d+\.\d+s\)$", "", name.strip()))
            elif line.startswith("Bail out!"):
                self.wrong.append(line)
            elif match := re.match(r"# (.*): (\d+\.\d+) s$", line):
                self.seconds[match[1]] = float(match[2])
        count = len(self.passed) + len(self.failed) + (len(self.skipped) if plan else 0)
        if plan is None:
            self.wrong.append("it printed no plan: it was broken off")
        elif plan and count != plan:
            self.wrong.append(f"it planned {plan} tests and reported {count}")
        if status and not self.failed and not self.wrong:
            self.wrong.append(f"exit status {status}")

    def good(self):
        return not self.failed and not self.wrong

    def failures(self):
        """How many failures this counts as."""
        return len(self.failed) + (1 if self.wrong else 0)


class Job:
    """A test that runs. folder: where it leaves what explains a failure."""

    def __init__(self, test, top, folder, only=None):
        self.test = test
        self.log = test.log_path()
        self.began = time.monotonic()
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        environment = {**test.build.environment(top), **KINDS[test.kind].environment}
        environment["PORTD_TEST_KEEP"] = folder
        if only or test.only:
            environment["PORTD_TEST_ONLY"] = "\n".join(only or test.only)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                test.command(top), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=top,
                env=environment, start_new_session=True)

    def age(self):
        return time.monotonic() - self.began

    def poll(self):
        """None while it runs, else its Result; it is over LIMIT: ended, and that is its result."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            if self.age() < LIMIT:
                return None
            self.end(signal.SIGKILL)
            pid, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = self.age()
        self.cpu = usage.ru_utime + usage.ru_stime
        self.end(signal.SIGKILL)  # what it left behind
        result = Result(self.text(), self.process.returncode)
        if self.seconds >= LIMIT:
            result.wrong.append(f"it took longer than {LIMIT} s")
        return result

    def end(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def text(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def current(self):
        """The last thing that it reported, for the progress line."""
        with open(self.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
        done = [line for line in lines if re.match(r"(not )?ok\b", line)]
        return f"after {done[-1].partition(' - ')[2]}" if done else ""
