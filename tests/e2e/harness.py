"""Runs the real portd for the end-to-end tests and watches it from outside.

    with Portd({"service.type": "echo", "budget.max_connections": "8"}, table="private") as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(8, send=b"x"))
        portd.wait_until(lambda s: s["state"] == "full", 2, "portd is full")

Leaving the block closes the crowds, checks the books and the descriptors, stops portd with SIGTERM
and expects exit status 0 and no sanitizer's report. When the block failed, portd's standard error
and its last figures are printed instead. portd is only ever killed by its own process id.

Environment: PORTD, PORTCTL (default: build/ at the top of the tree), and see tap.py.
"""

import atexit
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tap
from clients import Crowd
from notify import Notify
from process import Process, need, need_root  # the tests' too
from tap import Fail, Skip, check, equal, keep, note, slow

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "..", "build")
PORTD = os.path.abspath(os.environ.get("PORTD", os.path.join(BUILD, "portd")))
PORTCTL = os.path.abspath(os.environ.get("PORTCTL", os.path.join(BUILD, "portctl")))

DEFAULTS = {
    "listener.address": "127.0.0.1:0",
    "workers.count": "2",
    "service.type": "echo",
    "timeouts.drain": "0s",
}
TRANSIENT_FDS = 2  # a control connection that opens or closes while descriptors are counted
REPORT = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error: ")

# Thousands of clients live in this process.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

_running = set()


@atexit.register
def _kill_the_rest():
    for process in list(_running):
        process.kill()
        process.wait()


def config_text(options):
    """{"section.key": value} as a configuration file."""
    sections = {}
    for name, value in options.items():
        section, key = name.split(".", 1)
        sections.setdefault(section, []).append(f"{key} = {value}")
    return "".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())


class Portd(Process):
    """One running portd. options: {"section.key": value}, written to a file that -c names.

    overrides: -o arguments; config: the file's whole text instead of options (the harness's own
    defaults then come as -o); nofile: RLIMIT_NOFILE, soft and hard, or a pair; wrapper: a command
    that is to execute portd in its own process (strace -D …); start=False: call start() yourself;
    listeners: [(name, descriptor)] handed over as $LISTEN_FDS.
    """

    def __init__(self, options=None, *, table=None, overrides=(), config=None, nofile=None,
                 wrapper=(), env=None, args=(), start=True, listeners=()):
        self.dir = tempfile.mkdtemp(prefix="portd-", dir="/tmp")
        self.control = os.path.join(self.dir, "control.sock")
        self.config_path = os.path.join(self.dir, "portd.conf")
        self.stderr_path = os.path.join(self.dir, "stderr")
        self.notify = Notify(os.path.join(self.dir, "notify.sock"))
        self.options = dict(DEFAULTS)
        self.options["control.socket"] = self.control
        if table:
            self.options["workers.fd_table"] = table
        self.options.update(options or {})
        self.overrides = list(overrides)
        if config is not None:
            self.overrides = [f"{k}={v}" for k, v in self.options.items()] + self.overrides
        self.config = config
        self.nofile = (nofile, nofile) if isinstance(nofile, int) else nofile
        self.wrapper = list(wrapper)
        self.env = dict(env or {})
        self.args = list(args)
        self.listeners = list(listeners)
        self.process = None
        self.crowds = []
        self.last = None  # the last figures seen
        self.helpers = []
        self.base_fds = None
        if start:
            try:
                self.start()
            except BaseException:
                self.tell()
                self.kill()
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is not None:
                if not issubclass(kind, Skip):
                    self.tell()
            elif self.process is not None:
                try:
                    self.finish()
                except BaseException:
                    self.tell()
                    raise
        finally:
            self.kill()

    # Life.

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "WATCHDOG_"))}
        env.pop("JOURNAL_STREAM", None)
        env["NOTIFY_SOCKET"] = self.notify.path
        report = "log_path=" + os.path.join(self.dir, "sanitizer")
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            env[name] = ":".join(filter(None, (os.environ.get(name), report)))
        env.update(self.env)
        return tap.leaks(env)

    def command(self):
        command = []
        # portd does not outlive its test: the runner ends the group, and elsewhere a signal does.
        if "PORTD_TEST_KEEP" not in os.environ and shutil.which("setpriv"):
            command += ["setpriv", "--pdeathsig", "KILL"]
        if self.nofile:
            command += ["prlimit", "--nofile={}:{}".format(*self.nofile)]
        if self.listeners:
            # $LISTEN_PID is portd's own: only the process itself can say so, just before.
            fds = ",".join(str(fd) for _, fd in self.listeners)
            names = ":".join(name for name, _ in self.listeners)
            command += [sys.executable, "-IS", os.path.join(HERE, "hand_over.py"), fds, names]
        command += self.wrapper + [PORTD, "-c", self.config_path]
        for override in self.overrides:
            command += ["-o", override]
        return command + self.args

    def write_config(self, options=None):
        """Writes the file, with these changes: {"section.key": value or None to take it out}."""
        for name, value in (options or {}).items():
            if value is None:
                self.options.pop(name, None)
            else:
                self.options[name] = value
        with open(self.config_path, "w") as file:
            file.write(self.config if self.config is not None else config_text(self.options))

    def spawn(self):
        """Starts the process, without waiting for it to be ready."""
        check(os.access(PORTD, os.X_OK), f"{PORTD} is not there: set PORTD")
        self.write_config()
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(self.command(), env=self.environment(), cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                                            pass_fds=[fd for _, fd in self.listeners])
        _running.add(self.process)
        self.pid = self.process.pid

    def start(self, seconds=10):
        """Starts it and waits for READY=1."""
        start = len(self.notify.messages)
        self.spawn()
        alive = lambda: self.process.poll() is None
        if self.notify.wait("READY=1", seconds, start, alive) is None:
            status = self.process.poll()
            raise Fail(f"no READY=1 ({'still running' if status is None else f'exit {status}'})")
        self.read_address()
        self.base_fds = sum(map(len, self.steady_fds().values()))

    def read_address(self):
        host, port = self.stats()["listener"]["address"].rsplit(":", 1)
        self.port = int(port)
        self.host = {"[::]": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host.strip("[]"))

    def crowd(self, host=None, message=None):
        """A crowd of clients of this portd; it is closed with portd."""
        crowd = Crowd(host or self.host, self.port, message)
        self.crowds.append(crowd)
        return crowd

    def fill(self, crowd, slots=None):
        """Opens as many connections as there are slots, each proven by echo; returns them."""
        slots = slots or self.stats()["budget"]["max_connections"]
        clients = crowd.connect(slots, send=b"x")
        crowd.wait_served(clients, 10, f"{slots} clients fill the slots")
        return clients

    def stop(self, seconds=10):
        """SIGTERM; exit status 0 and no sanitizer's report are what is right."""
        self.process.send_signal(signal.SIGTERM)
        self.expect_exit(0, seconds)

    def expect_exit(self, status, seconds=10):
        try:
            seen = self.process.wait(slow(seconds))
        except subprocess.TimeoutExpired:
            raise Fail(f"portd did not end within {slow(seconds):.0f} s") from None
        _running.discard(self.process)
        reports = [name for name in os.listdir(self.dir) if name.startswith("sanitizer")]
        for name in reports:
            with open(os.path.join(self.dir, name), errors="replace") as file:
                note(file.read())
        check(not reports and not REPORT.search(self.log()), "a sanitizer reported something")
        equal(seen, status, "exit status")

    def finish(self):
        """Closes the clients, checks that nothing was lost, and stops portd."""
        for crowd in self.crowds:
            crowd.close()
        if self.process.poll() is None:
            self.assert_books()
            self.assert_no_leak()
            self.stop()
        else:
            raise Fail(f"portd is gone already: exit status {self.process.returncode}")

    def kill(self):
        """The end, whatever went before."""
        for crowd in self.crowds:
            crowd.close()
        for helper in self.helpers:
            if helper.poll() is None:
                helper.kill()
            helper.wait()
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            _running.discard(self.process)
        self.notify.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def tell(self):
        """What a failed test should show of portd."""
        for crowd in self.crowds:
            note("clients:", crowd.tally())
        if self.process is not None:
            note("exit status:", self.process.poll())
        try:
            self.last = self.stats()
        except (OSError, ValueError, Fail) as failed:
            note("no stats now:", failed)
        note("last stats:", json.dumps(self.last))
        note("stderr:", "".join(self.log().splitlines(True)[-25:]))
        note("notify:", self.notify.lines()[-5:])
        self.leave_traces()

    def leave_traces(self):
        """Its log, configuration, figures and what it told the manager, in the folder of a failure."""
        folder = keep()
        if folder is None:
            return
        folder = tempfile.mkdtemp(prefix="portd-", dir=folder)
        for name in os.listdir(self.dir):
            path = os.path.join(self.dir, name)
            if os.path.isfile(path) and not os.path.islink(path):
                shutil.copy(path, folder)
        with open(os.path.join(folder, "stats.json"), "w") as file:
            json.dump(self.last, file, indent=1)
        with open(os.path.join(folder, "notify"), "w") as file:
            file.writelines(line + "\n" for line in self.notify.lines())

    # What it says.

    def log(self):
        try:
            with open(self.stderr_path, errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def log_lines(self, start=0):
        return self.log().splitlines()[start:]

    def request(self, line, seconds=5.0):
        """One request to the control socket; the whole answer as text."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(slow(seconds))
            sock.connect(self.control)
            sock.sendall(line.encode() + b"\n")
            chunks = []
            while chunk := sock.recv(65536):
                chunks.append(chunk)
        return b"".join(chunks).decode()

    def stats(self):
        self.last = json.loads(self.request("stats json"))
        return self.last

    def portctl(self, *args, seconds=10.0):
        """Runs portctl; the CompletedProcess, with text. It does not look for leaks, as in once.py."""
        env = tap.leaks(dict(os.environ), False)
        return subprocess.run([PORTCTL, "-s", self.control, *args], text=True, timeout=slow(seconds),
                              stdin=subprocess.DEVNULL, capture_output=True, env=env)

    def wait_until(self, predicate, seconds, what, crowd=None):
        """Polls stats, at first every 5 ms, later every 50, until predicate(stats) holds; returns them. A crowd's
        events are handled meanwhile."""
        deadline = time.monotonic() + slow(seconds)
        for turn in itertools.count():
            stats = self.stats()
            if predicate(stats):
                return stats
            if time.monotonic() > deadline:
                raise Fail(f"{what}: not within {slow(seconds):.1f} s")
            pause = 0.005 if turn < 4 else 0.02 if turn < 20 else 0.05
            if crowd is not None:
                crowd.run(pause)
            else:
                time.sleep(pause)

    def watch(self, seconds, crowd=None):
        """(stats, stats, seconds): before and after a time in which nothing is asked of portd."""
        before, began = self.stats(), time.monotonic()
        if crowd is not None:
            crowd.run(seconds)
        else:
            time.sleep(seconds)
        took = time.monotonic() - began
        return before, self.stats(), took

    def reload(self):
        """Through the control socket; the answer."""
        return self.request("reload", 10)

    def hup(self):
        """SIGHUP, then waits until portd says that it has reloaded."""
        start = len(self.notify.messages)
        os.kill(self.pid, signal.SIGHUP)
        began = self.notify.wait("RELOADING=1", 5, start)
        check(began is not None, "no RELOADING=1 after SIGHUP")
        check(self.notify.wait("READY=1", 5, began) is not None, "no READY=1 after RELOADING=1")

    # The books.

    @staticmethod
    def books(stats):
        """accepted minus everything that became of them: 0 is right."""
        budget = stats["budget"]
        return (stats["accept"]["accepted"] - budget["held"] - budget["connections"]
                - sum(stats["shed"].values()) - sum(stats["closed"].values()))

    def assert_books(self, seconds=2.0):
        """Waits for rest: the books balance, and fds_in_use is what /proc says."""
        try:
            self.wait_until(lambda s: self.books(s) == 0, seconds, "the books balance")
        except Fail as failed:
            raise Fail(f"{failed}; accepted is off by {self.books(self.last)}") from None
        deadline = time.monotonic() + slow(seconds)
        while True:
            said, counted = self.stats()["budget"]["fds_in_use"], self.count_fds()
            if abs(said - counted) <= TRANSIENT_FDS:
                return self.last
            if time.monotonic() > deadline:
                raise Fail(f"fds_in_use says {said}, /proc says {counted}: {self.fds_by_table()}")
            time.sleep(0.01)

    def assert_rows(self, table, wanted, seconds=2.0):
        """stats[table] ("shed", "closed") comes to have just these rows above 0; returns stats.

        A client can see its end a moment before portd has counted it.
        """
        rows = lambda stats: {name: count for name, count in stats[table].items() if count}
        try:
            self.wait_until(lambda s: rows(s) == wanted, seconds, table)
        except Fail:
            equal(rows(self.last), wanted, table)
        return self.assert_books()

    def assert_no_leak(self, seconds=2.0):
        """No connection is left, and as many descriptors are open as at the start."""
        idle = lambda s: (s["budget"]["connections"] == 0 and s["budget"]["held"] == 0
                          and s["listener"]["queue_depth"] == 0 and self.books(s) == 0)
        self.wait_until(idle, seconds, "all connections end when their clients have gone")
        deadline = time.monotonic() + slow(seconds)
        while (now := self.count_fds()) > self.base_fds:
            if time.monotonic() > deadline:
                raise Fail(f"{now} descriptors are open, {self.base_fds} were at the start: "
                           f"{self.list_fds()}")
            time.sleep(0.01)
