"""portd and its terminal: it ends with it, is not stopped by it, and does not wait for it."""

import fcntl
import os
import pty
import signal
import sys
import termios
import time

import tap
from harness import Portd
from tap import check, equal, for_each, note, slow

# argv: who is to lead the session (portd, shell, nohup, background), the terminal, and the command.
LEAD = """
import fcntl, os, signal, sys, termios
how, name, command = sys.argv[1], sys.argv[2], sys.argv[3:]
os.setsid()
fd = os.open(name, os.O_RDWR)
fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
if how == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
if how in ("portd", "nohup"):
    os.execvp(command[0], command)
if how == "background":
    mode = termios.tcgetattr(fd)
    mode[3] |= termios.TOSTOP
    termios.tcsetattr(fd, termios.TCSANOW, mode)
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.close(read)
    os.setpgid(0, 0)
    if how == "background":
        os.dup2(fd, 2)
    os.execvp(command[0], command)
os.close(write)
passing_on = how == "shell"
signal.signal(signal.SIGHUP, lambda *_: os.kill(child, signal.SIGHUP) if passing_on else None)
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
while True:
    pid, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
"""


class OnTerminal(Portd):
    """A portd whose controlling terminal is a pseudo terminal of the test: its ends are master, slave."""

    def __init__(self, how, options=None):
        super().__init__(options, start=False)
        self.master, self.slave = pty.openpty()
        self.wrapper = [sys.executable, "-IS", "-c", LEAD, how, os.ttyname(self.slave)]

    def start(self, seconds=10):
        self.spawn()
        alive = lambda: self.process.poll() is None
        check(self.notify.wait("READY=1", seconds, 0, alive) is not None, "no READY=1")
        self.pid = self.stats()["pid"]
        self.read_address()

    def hang_up(self):
        for name in ("master", "slave"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)

    def kill(self):
        self.hang_up()
        if self.pid is not None and self.process.poll() is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        super().kill()


class Running:
    def __init__(self, how, options=None):
        self.portd = OnTerminal(how, options)

    def __enter__(self):
        try:
            self.portd.start()
        except BaseException:
            self.portd.tell()
            self.portd.kill()
            raise
        return self.portd

    def __exit__(self, kind, *_):
        if kind is not None:
            self.portd.tell()
        self.portd.kill()


def reloads(portd):
    """SIGHUP from elsewhere is a reload."""
    start = len(portd.notify.messages)
    os.kill(portd.pid, signal.SIGHUP)
    check(portd.notify.wait("RELOADING=1", 5, start) is not None, "no RELOADING=1")
    equal(portd.request("health"), "open\n", "health")


@for_each(how=("portd", "shell"))
def test_it_ends_with_its_terminal(how):
    """In order, with a drain, whether the kernel says so or the shell passes it on."""
    with Running(how, {"timeouts.drain": "infinity"}) as portd:
        crowd = portd.crowd()
        served = crowd.connect(1, send=b"x")
        crowd.wait_served(served)
        reloads(portd)
        start = len(portd.notify.messages)
        portd.hang_up()
        check(portd.notify.wait("STOPPING=1", 5, start) is not None, "it does not stop:", portd.log())
        crowd.ask(served, b"still here")
        served[0].close()
        portd.expect_exit(0)
        check("the terminal has hung up" in portd.log(), portd.log())


def test_nohup():
    """SIGHUP was ignored at start: it goes on, and reloads."""
    with Running("nohup") as portd:
        start = len(portd.notify.messages)
        portd.hang_up()
        check(portd.notify.wait("RELOADING=1", 5, start) is not None, "the signal was not seen")
        equal(portd.request("health"), "open\n", "health")
        reloads(portd)
        portd.stop()


def test_a_reload_after_its_terminal_has_gone():
    """The session's leader passes nothing on: SIGHUP from somebody else is a reload."""
    with Running("deaf shell") as portd:
        portd.hang_up()
        reloads(portd)
        portd.stop()


def test_it_is_not_stopped_in_the_background():
    """stty tostop, and it logs."""
    with Running("background") as portd:
        reloads(portd)
        check(b"open on" in os.read(portd.master, 65536), "the log is not on the terminal")
        portd.stop()


# argv: a terminal that becomes standard error, and the command.
TALK = """
import os, sys
os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), 2)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def fill(name):
    """Until the terminal takes no more; how much that was."""
    fd, total = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), 0
    try:
        while True:
            total += os.write(fd, b"x" * 99 + b"\n")
    except BlockingIOError:
        return total
    finally:
        os.close(fd)


def test_a_terminal_that_nobody_reads():
    master, slave = pty.openpty()
    portd = Portd(start=False)
    portd.wrapper = [sys.executable, "-IS", "-c", TALK, os.ttyname(slave)]
    try:
        portd.start()
        fill(os.ttyname(slave))
        # Room for some lines and a part of one.
        freed = len(os.read(master, 4000))
        note(f"{freed} bytes of room")
        # Mistakes of some 600 bytes: the kernel gives room in pieces of 256.
        with open(portd.config_path, "w") as file:
            file.write("[log]\n" + ("\x01" * 130 + "\n") * 50)
        for _ in range(10):
            check(portd.reload().startswith("error: "), "the verdict")
            equal(portd.request("health"), "open\n", "health")
        # What it could not say is counted, and said once there is room; no line is cut.
        os.set_blocking(master, False)
        text, deadline = b"", time.monotonic() + slow(5)
        while b"lost: nobody read them" not in text:
            check(time.monotonic() < deadline, "the loss is not told of:", text[-500:].decode())
            try:
                text += os.read(master, 65536)
            except BlockingIOError:
                time.sleep(0.01)
        said = [line for line in text.decode().splitlines() if not line.startswith("x")]
        for line in said[1:]:
            check(line.startswith("portd: ") and line.count("portd: ") == 1, "a line that was cut:", line)
        # And it ends while nobody reads.
        fill(os.ttyname(slave))
        portd.stop()
    except BaseException:
        portd.tell()
        raise
    finally:
        portd.kill()
        os.close(master)
        os.close(slave)


if __name__ == "__main__":
    tap.main()
