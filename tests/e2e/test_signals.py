"""Signals at any time: none is lost, none kills at the start, and what is meant once counts once.
Orphans, whom the first process of a container gets, are buried.
"""

import os
import signal
import sys
import time

import tap
from harness import Portd, config_text
from tap import at_most, check, equal, for_each, slow
from test_stop import ending, expect_end

@for_each(first=("SIGTERM", "SIGINT"))
def test_two_at_once_are_one_wish(first):
    """As from timeout(1), which signals its child and then the group. A later one ends it."""
    with ending({"timeouts.drain": "infinity"}) as portd:
        crowd = portd.crowd()
        served = crowd.connect(5, send=b"x")
        crowd.wait_served(served)
        start = len(portd.notify.messages)
        portd.pause()
        os.kill(portd.pid, getattr(signal, first))
        os.kill(portd.pid, signal.SIGINT if first == "SIGTERM" else signal.SIGTERM)
        portd.resume()
        check(portd.notify.wait("STOPPING=1", 5, start) is not None, "no STOPPING=1")
        # Clients of the control socket come after signals.
        equal(portd.stats()["state"], "draining", "state after both")
        crowd.ask(served, b"still here")
        crowd.run(0.5)
        crowd.ask(served, b"still here")
        began = time.monotonic()
        os.kill(portd.pid, signal.SIGINT)
        _, *figures = expect_end(portd, began, 5.0)
        equal(figures, [5, 0, 5, 5], "accepted, shed, closed, drained")


class HeldOpen(Portd):
    """A portd that has just begun to read its configuration: a FIFO, at which it waits."""

    def __init__(self, *args):
        super().__init__(start=False, args=args)
        os.mkfifo(self.config_path)
        self.writer = os.open(self.config_path, os.O_RDWR)
        self.spawn()
        deadline = time.monotonic() + slow(10)
        while self.config_path not in self.open_files():
            check(time.monotonic() < deadline, "portd does not read its configuration")
            time.sleep(0.001)

    def write_config(self, options=None):
        pass

    def open_files(self):
        folder = f"/proc/{self.pid}/fd"
        try:
            return [os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)]
        except FileNotFoundError:
            return []  # one was closed meanwhile

    def go_on(self):
        os.write(self.writer, config_text(self.options).encode())
        os.close(self.writer)
        self.writer = None

    def kill(self):
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None
        super().kill()


def test_hangup_while_it_starts():
    portd = HeldOpen()
    try:
        os.kill(portd.pid, signal.SIGHUP)
        portd.go_on()
        check(portd.notify.wait("READY=1", 10, 0, lambda: portd.process.poll() is None) is not None,
              "it has not started:", portd.process.poll())
        # The reload that was asked for: a pipe has nothing more to say, and nothing changes.
        check(portd.notify.wait("RELOADING=1", 5) is not None, "no reload follows")
        portd.stop()
    finally:
        portd.kill()


@for_each(name=("SIGTERM", "SIGINT"))
def test_stop_while_it_starts(name):
    portd = HeldOpen()
    try:
        os.kill(portd.pid, getattr(signal, name))
        began = time.monotonic()
        portd.expect_exit(0)
        at_most(time.monotonic() - began, slow(4), "seconds until the end")
        equal(len(portd.log_lines()), 1, f"lines of the log: {portd.log_lines()}")
        check("stopping: asked to before" in portd.log(), portd.log())
    finally:
        portd.kill()


@for_each(flag=("-t", "-T"))
def test_stop_of_what_only_checks(flag):
    """It ends by the signal, as any filter does."""
    portd = HeldOpen(flag)
    try:
        os.kill(portd.pid, signal.SIGTERM)
        portd.expect_exit(-signal.SIGTERM)
    finally:
        portd.kill()


@for_each(name=("SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"))
def test_stray_ones(name):
    with Portd() as portd:
        os.kill(portd.pid, getattr(signal, name))
        equal(portd.request("health"), "open\n", "health")


# Adopts orphans, as the first process of a container does, and has children that have ended already.
ADOPT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for number in range(10):
    if os.fork() == 0:
        if number % 2 and os.fork():
            os._exit(0)
        if number % 4 < 2:
            os._exit(0)
        open(sys.argv[1]).read()
        os._exit(0)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def children(pid):
    """{process id: state} of those that the process has to bury."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == pid:
                found[int(name)] = state
    return found


def test_orphans_are_buried():
    portd = Portd(start=False)
    fifo = os.path.join(portd.dir, "fifo")
    os.mkfifo(fifo)
    portd.wrapper = [sys.executable, "-IS", "-c", ADOPT, fifo]
    with portd:
        portd.start()
        check("Z" not in children(portd.pid).values(), "those from before:", children(portd.pid))
        check(children(portd.pid), "there are no children")
        deadline = time.monotonic() + slow(5)
        while children(portd.pid):
            check(time.monotonic() < deadline, "not buried:", children(portd.pid))
            try:
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                pass  # nobody reads it now
            time.sleep(0.01)


if __name__ == "__main__":
    tap.main()
