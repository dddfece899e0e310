"""What the system refuses while portd starts (strace -e inject): it says so in a line, ends with
status 71, tells nobody that it is ready, and leaves nothing behind.
"""

import os
import socket
import time

import once
import tap
from harness import PORTD, Portd, need
from once import EX_OSERR
from tap import Skip, at_least, check, equal, for_each, note, plain, slow

# «call error which»: of the main thread's calls; and what is said of it.
MAIN = {
    "socket EMFILE 2": "cannot listen on",
    "socket EAFNOSUPPORT 2": "there is no IPv4 here",
    "bind EADDRINUSE 1": "the port is taken",
    "bind EPERM 1": "SocketBindAllow= lets a port pass",
    "bind EADDRNOTAVAIL 1": "no interface has this address",
    "bind EACCES 1": "ports below 1024 need root",
    "eventfd2 EMFILE 1": "cannot start 2 workers",
    "eventfd2 ENFILE 3": "cannot start 2 workers",
    "clone3 EAGAIN 2": "cannot start 2 workers",
    "epoll_create1 EMFILE 1": "cannot set up the main thread",
    "timerfd_create EMFILE 1": "cannot set up the main thread",
    "signalfd4 ENFILE 1": "cannot set up the main thread",
    "socket EMFILE 3": "control socket",
    "fchmod EPERM 1": "control socket",
    "bind EACCES 2": "control socket",
    "chmod EPERM 1": "cannot set its mode and group",
    "listen EADDRINUSE 1": "cannot listen: ",
    "listen EADDRINUSE 2": "the port is taken",
}
# The same of calls that a sanitizer makes, too.
LIMITS = {
    "prlimit64 EPERM 2": "cannot find out what this machine allows",
    "prlimit64 EPERM 7": "cannot raise the limit of open descriptors",
}
# The same of each thread's, for a kind of tables.
EACH = {
    "epoll_create1 EMFILE 1": ("shared", "cannot start 2 workers"),
    "epoll_ctl ENOSPC 1": ("shared", "cannot start 2 workers"),
    "socketpair EMFILE 1": ("private", "cannot start 2 workers"),
    "close_range EINVAL 1": ("private", "private tables are not to be had here"),
    "epoll_create1 ENFILE 1": ("private", "cannot start 2 workers"),
}


def wrap(portd, fault, options=()):
    call, error, when = fault.split()
    need("strace")
    # LeakSanitizer cannot run under strace.
    portd.env["LSAN_OPTIONS"] = "detect_leaks=0"
    portd.wrapper = ["strace", "-D", *options, "-qq", "-o", portd.dir + "/strace", "-e",
                     f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]


def fails(table, fault, said, options=()):
    with Portd(table=table, start=False, nofile=(1024, 4096)) as portd:
        wrap(portd, fault, options)
        portd.spawn()
        portd.expect_exit(EX_OSERR)
        with open(portd.dir + "/strace") as file:
            at_least(file.read().count("(INJECTED)"), 1, "calls that were made to fail")
        lines = [line for line in portd.log_lines() if "error" in line]
        note(*lines)
        equal(len(lines), 1, "lines of errors")
        check(said in lines[0], f"{said!r} is not in:", lines[0])
        check("READY=1" not in portd.notify.lines(), "it was told ready")
        check(not os.path.exists(portd.control), "its control socket is left behind")
        portd.process = None  # it has ended as it should


@for_each(fault=MAIN)
def test_main_thread(fault):
    fails("shared", fault, MAIN[fault])


@plain
@for_each(fault=LIMITS)
def test_limits_that_cannot_be_had(fault):
    fails("shared", fault, LIMITS[fault])


@plain
@for_each(only_check=(True, False))
def test_books_that_have_no_memory(only_check):
    """The loader has enough, and they have not: somewhere above what a program takes at least."""
    options = ["-c", "/dev/null", "-o", "listener.address=127.0.0.1:0", "-o", "control.socket=/dev/null/none",
               *(["-t"] if only_check else [])]
    for mebibytes in range(4, 128):
        result = once.run("prlimit", f"--as={mebibytes << 20}", PORTD, *options, nofile=4096)
        if result.returncode == EX_OSERR:
            break
    once.one_line(result, r"\[budget\] fds: the books of the sources are refused their memory",
                  "Cannot allocate memory", r"here \d+;")


@for_each(fault=EACH)
def test_a_worker(fault):
    table, said = EACH[fault]
    fails(table, fault, said, ["-f"])


def left_behind(path):
    """A control socket at which nobody listens."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)


@for_each(fault=("unlinkat EPERM 1", "connect EACCES 1", "newfstatat EACCES 1"))
def test_what_an_earlier_portd_left_behind(fault):
    """Its socket cannot be looked at, asked, or removed: it stays, and portd says so."""
    with Portd(start=False) as portd:
        left_behind(portd.control)
        # Which call looks at the file depends on the C library.
        wrap(portd, fault, ["-P", portd.control] if "stat" in fault else [])
        portd.spawn()
        alive = lambda: portd.process.poll() is None
        if "stat" in fault and portd.notify.wait("READY=1", 10, alive=alive) is not None:
            raise Skip("this C library uses another call")
        portd.expect_exit(EX_OSERR)
        check("control socket" in portd.log(), "nothing was said")
        check(os.path.exists(portd.control), "it was removed")
        portd.process = None


def starts(options, fault, said):
    """In spite of it, with a warning."""
    with Portd(options, start=False) as portd:
        wrap(portd, fault)
        portd.start()
        check(any(said in line for line in portd.log_lines()), f"{said!r} was not said")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3, send=b"x"), 5)
        portd.stop()
        portd.process = None


def test_without_ipv6():
    starts({"listener.address": "[::]:0"}, "socket EAFNOSUPPORT 2", "IPv6 is off here")


def test_a_notify_socket_that_is_no_path():
    with Portd(start=False, env={"NOTIFY_SOCKET": "vsock:2:1234"}) as portd:
        portd.spawn()
        limit = time.monotonic() + slow(10)
        while "open on" not in portd.log():
            check(time.monotonic() < limit, "it does not open")
            time.sleep(0.01)
        check("cannot tell the service manager anything" in portd.log(), "nothing was said")
        portd.stop()
        portd.process = None


if __name__ == "__main__":
    tap.main()
