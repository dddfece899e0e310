"""The control socket's file, removed or replaced under a running portd: it comes back within seconds, or as
soon as it can.
"""

import os
import shutil
import socket
import stat
import time

import tap
from harness import Portd
from tap import TABLES, check, equal, for_each, slow


def wait_again(portd, seconds=5):
    """portctl is answered again."""
    deadline = time.monotonic() + slow(seconds)
    while True:
        try:
            return equal(portd.request("health").splitlines()[0] in ("open", "full"), True, "health")
        except OSError:
            check(time.monotonic() < deadline, "the control socket does not come back:", portd.log())
            time.sleep(0.02)


@for_each(table=TABLES)
def test_it_is_made_again(table):
    with Portd({"control.mode": "0640"}, table=table) as portd:
        crowd = portd.crowd()
        served = crowd.connect(3, send=b"x")
        crowd.wait_served(served)
        for _ in range(2):
            os.unlink(portd.control)
            wait_again(portd)
            equal(stat.S_IMODE(os.stat(portd.control).st_mode), 0o640, "its mode")
            equal(portd.portctl("reload").returncode, 0, "exit status of portctl reload")
        crowd.ask(served)
        check("its file was gone" in portd.log(), portd.log())


def test_with_its_directory():
    """The one that portd has made."""
    portd = Portd(start=False)
    folder = os.path.join(portd.dir, "run")
    portd.control = portd.options["control.socket"] = folder + "/control.sock"
    with portd:
        portd.start()
        shutil.rmtree(folder)
        wait_again(portd)
        check(os.path.isdir(folder), "the directory")
        portd.stop()
        equal(os.path.exists(folder), False, "the directory is still there at the end")
        portd.process = None


def test_where_it_cannot_be_made():
    """Said, and not with every tick; as soon as it can be it is."""
    portd = Portd(start=False)
    parent = os.path.join(portd.dir, "some")
    os.mkdir(parent)
    portd.control = portd.options["control.socket"] = parent + "/run/control.sock"
    with portd:
        portd.start()
        log = len(portd.log_lines())
        os.rename(parent, parent + ".away")
        deadline = time.monotonic() + slow(5)
        while "control socket" not in "".join(portd.log_lines(log)):
            check(time.monotonic() < deadline, "nothing is said")
            time.sleep(0.02)
        os.mkdir(parent)
        wait_again(portd, 10)


def put_socket(path):
    """A socket that listens there, and has got the name in one step."""
    other = socket.socket(socket.AF_UNIX)
    other.bind(path + ".other")
    other.listen()
    os.rename(path + ".other", path)
    return other


def test_a_dead_socket_in_its_place():
    """What another process left behind is replaced, as at a start."""
    with Portd({"control.mode": "0640"}) as portd:
        put_socket(portd.control).close()
        wait_again(portd, 10)
        equal(stat.S_IMODE(os.stat(portd.control).st_mode), 0o640, "its mode")
        check("its file was replaced" in portd.log(), portd.log())
        check("does not reach" not in portd.log(), portd.log())


def test_moved_and_linked():
    """The name leads to it all the same: nothing is amiss."""
    with Portd() as portd:
        os.rename(portd.control, portd.control + ".moved")
        os.symlink(portd.control + ".moved", portd.control)
        time.sleep(2)
        wait_again(portd)
        check(os.path.islink(portd.control), "the link is gone")
        check("control socket" not in portd.log(), portd.log())


@for_each(what=("file", "link", "live socket"))
def test_something_else_in_its_place(what):
    """It is somebody else's, and stays, also at the end; that is told once. When it goes the socket
    is made again."""
    portd = Portd()
    told = lambda: portd.log().count("does not reach")
    other = None
    try:
        if what == "live socket":
            other = put_socket(portd.control)
        elif what == "link":
            os.unlink(portd.control)
            os.symlink("/nonexistent/control.sock", portd.control)
        else:
            with open(portd.control + ".new", "w") as file:
                file.write("mine")
            os.rename(portd.control + ".new", portd.control)
        before = os.lstat(portd.control)
        deadline = time.monotonic() + slow(10)
        while not told():
            check(time.monotonic() < deadline, "nothing is said")
            time.sleep(0.02)
        line, = [text for text in portd.log_lines() if "does not reach" in text]
        check("warning" in line, line)
        check({"file": "not a socket", "link": "a symbolic link", "live socket": "another process"}[what] in line, line)
        time.sleep(3)  # for two looks more
        equal(told(), 1, "times it was told")
        equal(os.path.samestat(os.lstat(portd.control), before), True, "it is still the same")
        os.unlink(portd.control)
        if other:
            other.close()
        wait_again(portd, 10)
        os.rename(portd.control, portd.control + ".old")
        open(portd.control, "w").close()
        portd.stop()
        check(os.path.exists(portd.control), "the file is gone")
    finally:
        portd.kill()
        if other:
            other.close()


def test_without_a_descriptor():
    """Every descriptor is a client's: it has some of its own."""
    with Portd({"shed.queue_timeout": "100ms"}, table="shared") as portd:
        crowd = portd.crowd()
        _, top = portd.fill_tables(crowd, 40)
        old, _ = portd.limit_nofile(top + 1)
        shed = crowd.connect(4, send=b"x")
        crowd.wait(lambda: all(c.end for c in shed), 3, "there is no descriptor")
        os.unlink(portd.control)
        wait_again(portd)
        portd.limit_nofile(old)


if __name__ == "__main__":
    tap.main()
