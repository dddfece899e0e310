"""The control socket's file while others meddle with it: its name is not trusted twice, and of portd
that start at once one has it."""

import os
import re
import socket
import stat
import time

import tap
from harness import Portd
from process import need, need_root
from tap import Skip, check, equal, for_each, note, slow

MODE = {"control.mode": "0666"}


def traced(portd, calls, inject):
    """portd is to be started under strace, with these of its calls made late; the trace's path."""
    need("strace")
    if "address" in os.environ.get("PORTD_SANITIZERS", ""):
        raise Skip("LeakSanitizer cannot run under strace")
    path = portd.dir + "/strace"
    portd.wrapper = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", path, "-e", f"trace={calls}", "-e",
                     f"inject={calls}:{inject}"]
    return path


def wait_for(portd, condition, what):
    """Until it holds, or portd has ended."""
    end = time.monotonic() + slow(30)
    while portd.process.poll() is None and not condition():
        check(time.monotonic() < end, what)
        time.sleep(0.001)


def is_socket(path):
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


@for_each(when=("before it is looked at", "before it gets its mode"), taken=("link", "socket", "gone"))
def test_another_takes_its_name(when, taken):
    """A link to a file that is portd's user's, another socket, or nothing, as soon as it is bound."""
    portd = Portd(MODE, start=False)
    victim = portd.dir + "/victim"
    try:
        if when == "before it is looked at":
            traced(portd, "bind", "delay_exit=700ms")
            begun = lambda: is_socket(portd.control)
        else:
            trace = traced(portd, "?chmod,fchmodat,?fchmodat2", "delay_enter=700ms")
            begun = lambda: os.path.exists(trace) and "chmod" in open(trace).read()
        if taken == "socket":
            other = socket.socket(socket.AF_UNIX)
            other.bind(victim)
        else:
            open(victim, "w").close()
        os.chmod(victim, 0o600)
        portd.spawn()
        wait_for(portd, begun, "it has not come so far")
        os.rename(portd.control, portd.dir + "/moved")
        if taken == "link":
            os.symlink(victim, portd.control)
        elif taken == "socket":
            os.link(victim, portd.control)
        said = lambda: portd.notify.wait("READY=1", 0.01) is not None
        wait_for(portd, said, "it neither starts nor ends")
        equal(oct(os.stat(victim).st_mode & 0o7777), "0o600", "mode of what took its place")
        status = portd.process.poll()
        note("exit status:", status, portd.log().strip())
        if when == "before it is looked at":
            equal(portd.process.wait(slow(5)), 71, "exit status")
            check(re.search("control socket .*: another file took its place", portd.log()),
                  portd.log())
            equal(os.path.lexists(portd.control), taken != "gone", "the other file stays")
        else:
            equal(status, None, "exit status: it got its mode under its other name")
            equal(oct(os.stat(portd.dir + "/moved").st_mode & 0o7777), "0o666", "its mode")
    finally:
        portd.kill()


def test_folder_is_swapped():
    """The folder that is made for the socket gets its mode, not what a link in its place leads to."""
    need_root()
    portd = Portd(MODE, start=False)
    victim, made = portd.dir + "/victim", portd.dir + "/made"
    portd.control = portd.options["control.socket"] = made + "/c.sock"
    try:
        traced(portd, "?mkdir,mkdirat", "delay_exit=700ms")
        os.mkdir(victim, 0o700)
        portd.spawn()
        wait_for(portd, lambda: os.path.isdir(made), "the folder is not made")
        os.rename(made, portd.dir + "/moved")
        os.symlink(victim, made)
        wait_for(portd, lambda: portd.notify.wait("READY=1", 0.01) is not None, "it does not start")
        equal(oct(os.stat(victim).st_mode & 0o7777), "0o700", "mode of the other folder")
    finally:
        portd.kill()


def test_two_starts_at_once():
    """Both find a socket that is left over; the slower one does not take the quicker one's away."""
    late, soon = Portd(start=False), Portd(start=False)
    try:
        trace = traced(late, "?unlink,unlinkat", "delay_enter=1s:when=1")
        soon.control = soon.options["control.socket"] = late.control
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(late.control)
        late.spawn()
        wait_for(late, lambda: os.path.exists(trace) and "unlink" in open(trace).read(),
                 "it does not take the old socket away")
        soon.spawn()
        end = time.monotonic() + slow(30)
        ready = lambda portd: portd.notify.wait("READY=1", 0.01) is not None
        while not (late.process.poll() is not None or ready(late)) or not (
                soon.process.poll() is not None or ready(soon)):
            check(time.monotonic() < end, "not both have started or ended")
        alive = [portd for portd in (late, soon) if portd.process.poll() is None]
        for portd in (late, soon):
            note(portd.process.poll(), portd.log().strip())
        equal(len(alive), 1, "portd that run with one control socket")
        equal(alive[0].stats()["pid"], alive[0].pid, "who answers there")
        [other] = [portd for portd in (late, soon) if portd is not alive[0]]
        equal(other.process.returncode, 71, "exit status of the other")
        check("another portd" in other.log(), other.log())
        equal([name for name in os.listdir(late.dir) if "lock" in name], [], "locks left behind")
        alive[0].stop()
        check(not os.path.exists(late.control), "the socket is left behind")
    finally:
        soon.kill()
        late.kill()


@for_each(what=("fifo", "folder", "link"))
def test_lock_is_something_else(what):
    """A start does not hang, and follows nothing, where the lock's name is taken."""
    portd = Portd(start=False)
    lock = portd.control + ".lock"
    try:
        {"fifo": os.mkfifo, "folder": os.mkdir,
         "link": lambda path: os.symlink(portd.dir + "/target", path)}[what](lock)
        portd.spawn()
        portd.expect_exit(71, 5)
        check(re.search(r"control socket .*: cannot make its lock .*\.lock: ", portd.log()), portd.log())
        check(not os.path.exists(portd.dir + "/target"), "a link was followed")
    finally:
        portd.kill()


def test_lock_left_behind():
    """By a portd that was killed: it keeps nobody out."""
    with Portd(start=False) as portd:
        open(portd.control + ".lock", "w").close()
        portd.start()
        check(not os.path.exists(portd.control + ".lock"), "the lock is still there")


if __name__ == "__main__":
    tap.main()
