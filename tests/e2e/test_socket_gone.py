"""The control socket's file, removed under a running portd: it comes back within seconds."""

import os
import shutil
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


def test_another_file_of_that_name():
    """It is somebody else's, and stays, also at the end."""
    portd = Portd()
    try:
        os.unlink(portd.control)
        with open(portd.control, "w") as file:
            file.write("mine")
        start = len(portd.notify.messages)
        portd.hup()
        # Two ticks later, at the latest, STATUS= has come by again.
        check(portd.notify.wait("STATUS=", 5, start) is not None, "no STATUS=")
        time.sleep(2)
        with open(portd.control) as file:
            equal(file.read(), "mine", "the file")
        portd.stop()
        check(os.path.exists(portd.control), "the file is gone")
    finally:
        portd.kill()


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
