"""accept4 fails in every way that accept(2) names, and in one that it does not (strace -e inject)."""

import time

import tap
from harness import Portd
from tap import TABLES, at_most, equal, for_each, note, spread

ROWS = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPROTO", "EINTR", "EPERM")
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")


def inject(portd, error, when=""):
    """In the workers only: the control socket's connections are accepted as ever."""
    return portd.strace("-e", "trace=accept4", "-e", f"inject=accept4:error={error}{when}",
                        tids=portd.worker_tids())


def errors(stats):
    return {name: count for name, count in stats["accept"]["errors"].items() if count}


def quiet_again(portd, crowd):
    """The state is open again, and the loops rest."""
    portd.wait_until(lambda s: s["state"] == "open", 3, "open again", crowd)
    before, after, took = portd.watch(0.25, crowd)
    turns = sum(w["loops"] for w in after["workers"]) - sum(w["loops"] for w in before["workers"])
    at_most(turns, 20 * took + 2, "turns of the loops afterwards")


def every_other_call_fails(table, error, row):
    with Portd({"shed.queue_timeout": "30s"}, table=table) as portd:
        crowd = portd.crowd()
        trace = inject(portd, error, ":when=1+2")
        clients = crowd.connect_gently(20, lambda number: b"x")
        crowd.wait_served(clients, 5, f"all are served in spite of {error}")
        trace.stop()
        note("from connect to service:", spread([c.first - c.began for c in clients]))
        stats = portd.assert_books()
        equal(errors(stats), {row: trace.injected()} if trace.injected() else {}, "accept errors")
        tap.check(trace.injected(), "strace changed nothing")
        equal(sum(stats["shed"].values()), 0, "shed")
        crowd.ask(clients)
        quiet_again(portd, crowd)


@for_each(table=TABLES, error=ROWS)
def test_every_other_call_fails(table, error):
    every_other_call_fails(table, error, error)


@for_each(error=("EDOM", "ENETDOWN", "EHOSTUNREACH"))
def test_errors_without_a_row(error):
    every_other_call_fails("shared", error, "OTHER")


@for_each(error=("EMFILE", "ENOBUFS", "ENETDOWN", "EDOM", "ECONNABORTED", "EPERM"))
def test_every_call_fails(error):
    """For a second and a half, while clients wait: paced, not spinning; then all are served."""
    with Portd({"shed.queue_timeout": "infinity"}) as portd:
        crowd = portd.crowd()
        trace = inject(portd, error)
        clients = crowd.connect(10, send=b"x")
        crowd.run(0.5)
        before, after, took = portd.watch(1.0, crowd)
        calls = after["accept"]["calls"] - before["accept"]["calls"]
        turns = sum(w["loops"] for w in after["workers"]) - sum(w["loops"] for w in before["workers"])
        equal(sum(c.answered for c in clients), 0, "answered")
        trace.stop()
        began = time.monotonic()
        crowd.wait_served(clients, 2, "all are served")
        note(f"{calls} calls, {turns} turns in {took:.2f} s;",
             f"served within {time.monotonic() - began:.3f} s")
        at_most(turns, 1000 * took, "turns of the loops while each call fails")
        at_most(calls, 5000 * took, "calls of accept4 while each fails")
        quiet_again(portd, crowd)


@for_each(table=TABLES)
def test_log_of_an_unknown_errno(table):
    """It is told, and repeats are not told again and again."""
    with Portd(table=table) as portd:
        lines = len(portd.log_lines())
        crowd = portd.crowd()
        trace = inject(portd, "EDOM", ":when=1+2")
        for _ in range(40):
            crowd.wait_served(crowd.connect(1, send=b"x"), 5)
        trace.stop()
        portd.assert_books()
        said = portd.log_lines()[lines:]
        note("logged:", *said)
        at_most(len(said), 4, "log lines")
        tap.check(any("Numerical argument" in line or "EDOM" in line for line in said),
                  "no line names the error")


@for_each(table=TABLES)
def test_epoll_wait_is_interrupted(table):
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        trace = portd.strace("-e", "trace=" + ",".join(WAITS),
                             "-e", "inject=" + ",".join(WAITS) + ":error=EINTR:when=2+3")
        clients = crowd.connect(20, send=b"x")
        crowd.wait_served(clients, 5)
        for _ in range(5):
            crowd.ask(clients)
        trace.stop()
        tap.check(trace.injected(), "strace changed nothing")
        stats = portd.assert_books()
        equal(errors(stats), {}, "accept errors")
        equal(stats["state"], "open", "state")


if __name__ == "__main__":
    tap.main()
