"""Stopping and draining: who is refused, who goes on, when it ends; exit status 0 always, and the
books balance to the last line.
"""

import contextlib
import os
import re
import signal
import time

import once
import tap
from harness import Portd
from tap import TABLES, at_least, check, equal, for_each, note, slow

MESSAGE = b"going down\r\n"
SIGNALS = ("SIGTERM", "SIGINT")
WAITS = "epoll_wait,epoll_pwait,epoll_pwait2"


@contextlib.contextmanager
def ending(options=None, **how):
    """A portd that the test itself brings to its end."""
    portd = Portd(options, **how)
    try:
        yield portd
        check(portd.process.poll() is not None, "portd was left running")
    except BaseException:
        portd.tell()
        raise
    finally:
        portd.kill()


def stop(portd, name="SIGTERM"):
    """Sends the signal and waits until the listener is closed; when it was sent."""
    sent, start = time.monotonic(), len(portd.notify.messages)
    portd.process.send_signal(getattr(signal, name))
    check(portd.notify.wait("STOPPING=1", 2, start) is not None, "no STOPPING=1")
    check(portd.notify.wait_match("STATUS=draining: .*", 2, start), "no STATUS=draining")
    return sent


def expect_end(portd, began, seconds, crowd=None):
    """Exit status 0 within so many seconds of began; how long it took, and the last line's figures:
    accepted, shed, closed, drained.
    """
    while portd.process.poll() is None and time.monotonic() < began + slow(seconds):
        if crowd is not None:
            crowd.run(0.01)
        else:
            time.sleep(0.005)
    took = time.monotonic() - began
    check(portd.process.poll() is not None, f"portd still runs after {took:.1f} s")
    portd.expect_exit(0)
    check(not os.path.exists(portd.control), "the control socket is still there")
    said = re.search(r"stopped after \d+ s: (\d+) accepted, (\d+) shed, (\d+) closed, (\d+) of them",
                     portd.log().splitlines()[-1])
    check(said, "the last line does not account for the connections:", portd.log())
    accepted, shed, closed, drained = map(int, said.groups())
    equal(accepted, shed + closed, "the books at the end: accepted")
    return took, accepted, shed, closed, drained


def check_refused(crowd, count=5):
    """New connects are refused by the kernel."""
    new = crowd.connect(count)
    crowd.wait_answered(new, 2)
    equal(crowd.tally(new), {"refused": count}, "newcomers")


@for_each(table=TABLES, name=SIGNALS)
def test_ends_when_all_have_gone(table, name):
    with ending({"timeouts.drain": "30s"}, table=table) as portd:
        crowd = portd.crowd()
        served = crowd.connect(20, send=b"x")
        crowd.wait_served(served)
        stop(portd, name)
        check_refused(crowd)
        for _ in range(3):
            crowd.ask(served, b"still here")
        stats = portd.assert_books()
        equal((stats["state"], stats["budget"]["connections"]), ("draining", 20), "state, open")
        equal(portd.portctl("health").returncode, 1, "exit status of health")
        for command in (["drain"], ["drain", "--off"], ["reload"]):
            result = portd.portctl(*command)
            equal((result.returncode, result.stdout), (1, ""), f"{command} of a portd that stops")
            once.one_line(result, "stopping")
        os.kill(portd.pid, signal.SIGHUP)  # is not for now
        half, rest = served[:10], served[10:]
        for client in half:
            client.shutdown()
        crowd.wait(lambda: all(c.end for c in half), 2, "those who half-close end")
        equal(portd.assert_books()["budget"]["connections"], 10, "open")
        crowd.ask(rest)
        for client in rest:
            client.close()
        took, *figures = expect_end(portd, time.monotonic(), 1.0)
        note(f"{1000 * took:.0f} ms after the last client")
        equal(figures, [20, 0, 20, 0], "accepted, shed, closed, drained")
        check("reloaded" not in portd.log(), "a reload while stopping")


@for_each(table=TABLES)
def test_nobody_is_there(table):
    with ending({"timeouts.drain": "infinity"}, table=table) as portd:
        crowd = portd.crowd()
        began = stop(portd)
        took, *figures = expect_end(portd, began, 1.0)
        equal(figures, [0, 0, 0, 0], "accepted, shed, closed, drained")
        check_refused(crowd, 1)


@for_each(table=TABLES, clients=(5, 2000))
def test_deadline(table, clients):
    with ending({"timeouts.drain": "1s"}, table=table) as portd:
        crowd = portd.crowd()
        served = crowd.connect_gently(clients, lambda n: b"x")
        crowd.wait_served(served)
        began = stop(portd)
        crowd.run(0.5)
        equal(sum(c.end is None for c in served), clients, "open half-way")
        took, *figures = expect_end(portd, began, 2.0, crowd)
        at_least(took, 1.0, "seconds until the end")
        note(f"{clients} clients: {took:.2f} s")
        equal(figures, [clients, 0, clients, clients], "accepted, shed, closed, drained")
        crowd.wait(lambda: all(c.end for c in served), 2, "all clients are told")


@for_each(table=TABLES)
def test_at_once(table):
    with ending({"timeouts.drain": "0s"}, table=table) as portd:
        crowd = portd.crowd()
        served = crowd.connect(50, send=b"x")
        crowd.wait_served(served)
        took, *figures = expect_end(portd, stop(portd), 1.0)
        note(f"{1000 * took:.0f} ms")
        equal(figures, [50, 0, 50, 50], "accepted, shed, closed, drained")
        crowd.wait(lambda: all(c.end for c in served), 2, "all clients are told")


@for_each(first=SIGNALS, second=SIGNALS)
def test_second_signal(first, second):
    with ending({"timeouts.drain": "infinity"}) as portd:
        crowd = portd.crowd()
        served = crowd.connect(5, send=b"x")
        crowd.wait_served(served)
        stop(portd, first)
        crowd.run(0.5)
        crowd.ask(served)
        began = time.monotonic()
        portd.process.send_signal(getattr(signal, second))
        took, *figures = expect_end(portd, began, 1.0)
        equal(figures, [5, 0, 5, 5], "accepted, shed, closed, drained")
        check("asked again" in portd.log(), "the log does not say why")


def test_reloaded_deadline():
    with ending({"timeouts.drain": "infinity"}) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3, send=b"x"))
        portd.write_config({"timeouts.drain": "300ms"})
        equal(portd.reload(), "reloaded\n", "the verdict")
        took, *figures = expect_end(portd, stop(portd), 1.3, crowd)
        at_least(took, 0.3, "seconds until the end")
        equal(figures, [3, 0, 3, 3], "accepted, shed, closed, drained")


@for_each(table=TABLES, answer=("reset", "close", "message"))
def test_drain(table, answer):
    """Newcomers are shed at once, open connections go on, and drain --off undoes it."""
    options = {"shed.answer": answer, "shed.message": MESSAGE.decode().replace("\r\n", "\\r\\n")}
    with Portd({**options, "shed.queue_timeout": "60s"}, table=table) as portd:
        crowd = portd.crowd(message=MESSAGE)
        served = crowd.connect(20, send=b"x")
        crowd.wait_served(served)
        for round in (1, 2):
            equal(portd.portctl("drain").stdout, "draining\n", "drain")
            result = portd.portctl("health")
            equal((result.returncode, result.stdout), (1, "draining\n"), "health")
            new = crowd.connect(30)
            crowd.wait(lambda: all(c.end for c in new), 2, "newcomers are shed at once")
            seen = {"close": "closed"}.get(answer, answer)
            equal(crowd.tally(new), {seen: 30}, "their answers")
            crowd.ask(served)
            stats = portd.assert_books()
            equal((stats["state"], stats["budget"]["connections"]), ("draining", 20), "state, open")
            equal({k: v for k, v in stats["shed"].items() if v}, {"draining": 30 * round}, "shed")
            equal(portd.portctl("drain", "--off").returncode, 0, "drain --off")
            back = crowd.connect(5, send=b"x")
            crowd.wait_served(back, 1, "newcomers are served again")
            for client in back:
                client.close()
        stats = portd.assert_books()
        at_least(stats["time_in_state_seconds"]["draining"], 0.001, "seconds of draining")


@for_each(table=TABLES, timeout=("60s", "infinity"))
def test_drain_while_clients_wait(table, timeout):
    """The held one and the queue are newcomers, too: all of them are answered."""
    with Portd({"budget.max_connections": "4", "shed.queue_timeout": timeout}, table=table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        waiting = crowd.connect(30, send=b"w")
        crowd.run(0.2)
        equal(sum(c.answered for c in waiting), 0, "answered while full")
        equal(portd.request("drain"), "draining\n", "drain")
        crowd.wait(lambda: all(c.end for c in waiting), 1, "all who waited are answered")
        stats = portd.assert_books()
        equal({k: v for k, v in stats["shed"].items() if v}, {"draining": 30}, "shed")
        equal(stats["budget"]["connections"], 4, "open")
        crowd.ask(served)
        equal(portd.request("drain off"), "full\n", "drain off, with all slots taken")
        late, = crowd.connect(send=b"w")
        crowd.run(0.2)
        equal(late.answered, False, "answered while full")
        served[0].close()
        crowd.wait_served([late], 1, "the freed slot")


@for_each(table=TABLES, answer=("reset", "message"))
def test_stop_while_clients_wait(table, answer):
    """The held client gets its answer; those in the queue are reset; open ones go on."""
    options = {"shed.answer": answer, "shed.message": MESSAGE.decode().replace("\r\n", "\\r\\n"),
               "budget.max_connections": "4", "shed.queue_timeout": "60s", "timeouts.drain": "30s"}
    with ending(options, table=table) as portd:
        crowd = portd.crowd(message=MESSAGE)
        served = portd.fill(crowd)
        waiting = crowd.connect(20, send=b"w")
        portd.wait_until(lambda s: s["budget"]["held"] == 1 and s["listener"]["queue_depth"] == 19, 2,
                         "one is held, 19 wait", crowd)
        portd.assert_books()
        stop(portd)
        crowd.wait(lambda: all(c.end for c in waiting), 1, "all who waited are answered")
        equal(waiting[0].outcome, answer, "the held one")
        equal(crowd.tally(waiting[1:]), {"reset": 19}, "those in the queue")
        check_refused(crowd)
        crowd.ask(served)
        stats = portd.assert_books()
        equal({k: v for k, v in stats["shed"].items() if v}, {"draining": 1}, "shed")
        for client in served:
            client.close()
        _, *figures = expect_end(portd, time.monotonic(), 1.0)
        equal(figures, [5, 1, 4, 0], "accepted, shed, closed, drained")


@for_each(table=TABLES)
def test_stop_after_drain_and_at_emfile(table):
    with ending({"timeouts.drain": "30s", "shed.queue_timeout": "60s"}, table=table) as portd:
        crowd = portd.crowd()
        served, top = portd.fill_tables(crowd, 40)
        portd.limit_nofile(top + 1)
        waiting = crowd.connect(5, send=b"w")
        crowd.run(0.2)
        equal(portd.request("drain"), "draining\n", "drain")
        crowd.wait(lambda: all(c.end for c in waiting), 2, "those who wait are answered")
        stop(portd)
        check_refused(crowd)
        crowd.ask(served)
        for client in served:
            client.close()
        _, *figures = expect_end(portd, time.monotonic(), 1.0)
        equal(figures, [len(served) + 5, 5, len(served), 0], "accepted, shed, closed, drained")


@for_each(table=TABLES)
def test_clients_that_never_read(table):
    """What they are owed does not hold up the end."""
    with ending({"timeouts.drain": "500ms"}, table=table) as portd:
        crowd = portd.crowd()
        deaf = crowd.connect(10, receive_buffer=4096)
        for client in deaf:
            client.read(False)
            client.send(b"z" * 8_000_000)
        crowd.run(0.3)
        took, *figures = expect_end(portd, stop(portd), 1.5, crowd)
        equal(figures, [10, 0, 10, 10], "accepted, shed, closed, drained")


@for_each(table=TABLES)
def test_stop_with_a_stalled_worker(table):
    """It is left behind after a second; the end comes all the same, with status 0."""
    # LeakSanitizer cannot look into a thread that strace has stopped.
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    portd = Portd({"timeouts.drain": "0s", "workers.count": "3"}, table=table,
                  env={"ASAN_OPTIONS": options})
    try:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(10, send=b"x"))
        trace = portd.strace("-e", "trace=" + WAITS, "-e",
                             f"inject={WAITS}:delay_enter={int(slow(8e6))}:when=1",
                             tids=[portd.worker_tids()[1]])
        # It is in a wait from before; each reload wakes it, and the next wait is the one that stalls.
        wakes = 0
        while "(" not in trace.text():
            check(wakes < 1000, "the worker does not stall")
            portd.request("reload")
            wakes += 1
        began = stop(portd)
        while "stopped after" not in portd.log():
            check(time.monotonic() - began < slow(2.5), "it does not end:", portd.log())
            time.sleep(0.005)
        note(f"{time.monotonic() - began:.2f} s")
        check("left behind" in portd.log(), "the log does not tell of it:", portd.log())
        trace.process.kill()  # strace would keep its thread from dying
        portd.expect_exit(0, 1)
        check(not os.path.exists(portd.control), "the control socket is still there")
    finally:
        portd.kill()


def test_signal_at_any_moment_of_the_start():
    """It ends, by the signal or in order, and leaves nothing behind that is in the way."""
    seen = {}
    for number in range(30):
        portd = Portd(start=False)
        try:
            portd.spawn()
            deadline = time.monotonic() + 0.001 * number
            while time.monotonic() < deadline:
                pass
            portd.process.send_signal(signal.SIGTERM)
            status = portd.process.wait(slow(5))
            seen[status] = seen.get(status, 0) + 1
            check(status in (0, -signal.SIGTERM), f"exit status {status}:", portd.log())
            equal(os.path.exists(portd.control), False, "the control socket is there")
        finally:
            portd.kill()
    note("exit status:", seen)


if __name__ == "__main__":
    tap.main()
