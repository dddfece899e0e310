"""What the system refuses a running portd (strace -e inject): the main thread at its control socket and
in a reload, the workers while they serve. It is told where somebody asks, and portd goes on as it was.
"""

import os
import time

import tap
from harness import Portd
from tap import TABLES, at_most, check, equal, for_each, note, plain

REJECTED = "error: configuration rejected, the old one stays in force"


def inject(portd, call, error, when="1", tids=None, more=()):
    """In the main thread, or in tids."""
    return portd.strace("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}",
                        *more, tids=tids or [portd.pid])


def struck(trace, least=1):
    trace.stop()
    tap.at_least(trace.injected(), least, "calls that were made to fail")


def asks(portd, wanted="open"):
    equal(portd.request("health").strip(), wanted, "health")


@for_each(error=("ENOBUFS", "ENOMEM", "EPERM"))
def test_control_accept(error):
    """The main thread pauses for a moment, and does not spin; who asks is answered after it."""
    with Portd() as portd:
        trace = inject(portd, "accept4", error, "1..3")
        began, cpu = time.monotonic(), portd.cpu()
        asks(portd)
        took = time.monotonic() - began
        struck(trace, 3)
        note(f"answered after {took:.2f} s, {portd.cpu() - cpu:.3f} s of CPU")
        tap.at_least(took, 0.25, "three pauses of 0.1 s")
        asks(portd)


@for_each(call=("recvfrom", "sendto", "shutdown"))
def test_control_client_is_lost(call):
    """Its connection ends, and nothing else."""
    with Portd() as portd:
        trace = inject(portd, call, "ECONNRESET")
        try:
            answer = portd.request("health")
        except ConnectionError:
            answer = ""
        struck(trace)
        note("answer:", repr(answer))
        asks(portd)


def test_control_client_cannot_be_watched():
    with Portd() as portd:
        trace = inject(portd, "epoll_ctl", "ENOSPC")
        try:
            equal(portd.request("health"), "", "answer")
        except ConnectionError:
            pass
        struck(trace)
        asks(portd)


@for_each(fault=("openat EMFILE", "openat ENFILE", "read EIO", "listen EADDRINUSE"))
def test_reload(fault):
    """All or nothing: the old configuration stays, and the next reload succeeds."""
    call, error = fault.split()
    with Portd({"budget.max_connections": "5"}) as portd:
        crowd = portd.crowd()
        clients = portd.fill(crowd)
        portd.write_config({"budget.max_connections": "7"})
        only = ["-P", portd.config_path] if call == "read" else []
        trace = inject(portd, call, error, "1..9", more=only)
        answer = portd.reload()
        struck(trace)
        note(answer)
        check(answer.startswith(REJECTED), "the answer:", answer)
        equal(portd.stats()["budget"]["max_connections"], 5, "slots")
        crowd.ask(clients)
        check(portd.reload().startswith("reloaded"), "the next one")
        equal(portd.stats()["budget"]["max_connections"], 7, "slots after it")


def test_reload_to_a_group_that_is_not_there():
    """It is refused, and leaves none of its lists behind: each has 40 KB."""
    nets = " ".join(f"10.{n // 250}.{n % 250}.{n % 100}" for n in range(8000))
    lists = {f"source.{key}": nets for key in ("allow", "deny", "priority")}
    with Portd() as portd:
        portd.write_config({**lists, "control.group": "nosuchgroup"})
        refuse = lambda: check("there is no group" in portd.reload(), "that is not why")
        for _ in range(5):
            refuse()
        before = portd.rss()
        for _ in range(60):
            refuse()
        grown = portd.rss() - before
        note(f"{before} bytes, {grown} more after 60 reloads")
        # A sanitizer keeps what is freed, and says itself what leaks.
        if not os.environ.get("PORTD_SANITIZERS"):
            at_most(grown, 2000000, "bytes more")


def says(portd, words):
    return any(words in line for line in portd.log_lines())


def test_the_gate_cannot_be_closed():
    """It is said, and tried again. Lines of the log are a second apart."""
    options = {"budget.max_connections": "2", "shed.gate": "on", "shed.gate_after": "100ms",
               "shed.queue_timeout": "infinity"}
    with Portd(options) as portd:
        crowd = portd.crowd()
        trace = inject(portd, "listen", "EADDRINUSE", "1+")
        clients = portd.fill(crowd)
        waiting = crowd.connect(1, send=b"x")
        portd.wait_until(lambda s: says(portd, "cannot close the gate"), 5, "it is said", crowd)
        equal(portd.stats()["listener"]["gate"], "open", "the gate")
        struck(trace)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 5, "the gate closes", crowd)
        clients.pop().close()
        crowd.wait_served(waiting, 5)
        portd.wait_until(lambda s: s["listener"]["gate"] == "open", 5, "the gate opens", crowd)


@plain
@for_each(table=TABLES)
def test_the_main_loop_fails(table):
    """It says why, closes what is open, and ends with status 1."""
    with Portd({"timeouts.drain": "10s"}, table=table) as portd:
        crowd = portd.crowd()
        clients = portd.fill(crowd, 3)
        trace = inject(portd, "epoll_wait,epoll_pwait,epoll_pwait2", "EBADF", "1+")
        portd.expect_exit(1)
        check(says(portd, "the event loop failed: Bad file descriptor"), portd.log())
        crowd.wait(lambda: all(c.end for c in clients), 5, "all are closed")
        trace.process.wait()
        check(not os.path.exists(portd.control), "the control socket is left behind")
        portd.process = None


@for_each(table=TABLES)
def test_what_the_manager_did_not_hear_is_told_again(table):
    with Portd(table=table) as portd:
        start = len(portd.notify.messages)
        trace = inject(portd, "sendmsg", "ENOBUFS", "1..3")
        portd.reload()
        struck(trace)
        # The last of the three is READY=1: without it a manager waits for ever.
        check(portd.notify.wait("READY=1", 5, start) is not None, "READY=1 was never told")


@for_each(table=TABLES, fault=("epoll_ctl ENOSPC", "getpeername ENOTCONN", "getsockopt ENOPROTOOPT",
                               "shutdown ENOTCONN"))
def test_workers(table, fault):
    """While connections come and go every other such call of a worker fails: nobody is lost from the
    books, nobody hangs, and afterwards all are served."""
    call, error = fault.split()
    options = {"budget.max_connections": "10", "shed.queue_timeout": "50ms", "shed.answer": "message",
               "shed.message": "no room\\n"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd(message=b"no room\n")
        trace = inject(portd, call, error, "1+2", portd.worker_tids())
        clients = []
        for _ in range(5):
            clients += crowd.connect(12, send=b"x")
            crowd.run(0.1)
            for client in clients:
                client.close()
        trace.stop()
        note(crowd.tally(clients), trace.injected(), "calls were made to fail")
        portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all have left", crowd)
        portd.assert_books()
        crowd.wait_served(crowd.connect(8, send=b"x"), 5)


if __name__ == "__main__":
    tap.main()
