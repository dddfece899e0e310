"""What the system refuses while portd starts (strace -e inject): it says so in a line, ends with
status 71, tells nobody that it is ready, and leaves nothing behind.
"""

import os

import tap
from harness import Portd, need
from once import EX_OSERR
from tap import at_least, check, equal, for_each, note

# «call error which»: of the main thread's calls; and what is said of it.
MAIN = {
    "socket EMFILE 2": "cannot listen on",
    "bind EADDRINUSE 1": "the port is taken",
    "bind EADDRNOTAVAIL 1": "no interface has this address",
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
# The same of each thread's.
EACH = {
    "epoll_create1 EMFILE 1": "shared",
    "epoll_ctl ENOSPC 1": "shared",
    "socketpair EMFILE 1": "private",
    "unshare ENOMEM 1": "private",
    "close_range EINVAL 1": "private",
    "epoll_create1 ENFILE 1": "private",
}


def fails(table, fault, said, options=()):
    call, error, when = fault.split()
    need("strace")
    with Portd(table=table, start=False) as portd:
        # LeakSanitizer cannot run under strace.
        portd.env["LSAN_OPTIONS"] = "detect_leaks=0"
        portd.wrapper = ["strace", "-D", *options, "-qq", "-o", portd.dir + "/strace", "-e",
                         f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
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


@for_each(fault=EACH)
def test_a_worker(fault):
    fails(EACH[fault], fault, "cannot start 2 workers", ["-f"])


if __name__ == "__main__":
    tap.main()
