"""A portd that is late: stopped, or short of CPU, while its clients speak. Who has sent what portd has
not read is not silent, whatever portd's clock says when it turns again.
"""

import os
import signal
import socket
import time

import tap
from loads import Load, Server
from harness import Portd
from tap import TABLES, at_most, equal, for_each, note, slow

LIMIT = slow(1.0)
CLIENTS = 100  # more than a worker takes in one turn


def ms(seconds):
    return f"{round(1000 * seconds)}ms"


@for_each(table=TABLES, key=("idle", "first_byte"))
def test_a_stop(table, key):
    """Those that speak while portd is stopped are served when it goes on, all of them; those that
    do not are closed."""
    with Portd({f"timeouts.{key}": ms(LIMIT)}, table=table) as portd:
        crowd, began = portd.crowd(), time.monotonic()
        talkers, silent = crowd.connect(CLIENTS), crowd.connect(10)
        portd.wait_until(lambda s: s["budget"]["connections"] == CLIENTS + 10, 5, "all are open", crowd)
        portd.pause()
        tap.only_within(began, LIMIT, "clients that connect")
        for client in talkers:
            client.send(b"ping")
        crowd.run(1.5 * LIMIT)
        portd.resume()
        crowd.wait_served(talkers)
        crowd.wait(lambda: all(c.end for c in silent), 5, "the silent ones are closed")
        equal(crowd.tally(talkers), {"served": CLIENTS}, "those that spoke")
        if key == "first_byte":
            portd.assert_rows("closed", {key: 10})


def test_short_of_cpu():
    """As under a quota: it runs for some milliseconds, and then not for longer than the idle time.
    Nobody is lost who says a word in each of these times."""
    with Portd({"timeouts.idle": ms(LIMIT / 2)}) as portd:
        crowd = portd.crowd()
        clients = portd.fill(crowd, 3 * CLIENTS)
        for _ in range(4):
            portd.pause()
            heard = time.monotonic()
            for client in clients:
                client.send(b"ping")
            crowd.run(0.6 * LIMIT)
            portd.resume()
            crowd.run(0.01)
            tap.only_within(heard, LIMIT, "clients that talk")
        crowd.wait(lambda: all(c.received == 17 for c in clients), 5, "everything is echoed")
        equal(crowd.tally(clients), {"served": 3 * CLIENTS}, "clients")


def test_in_the_middle_of_a_turn():
    """A worker that stands still between what it reads and what it sends: the client that gets the
    echo afterwards has its whole idle time before it."""
    with Portd({"timeouts.idle": ms(LIMIT), "workers.count": "1"}) as portd:
        crowd = portd.crowd()
        client, = portd.fill(crowd, 1)
        trace = portd.strace("-e", "trace=sendto", "-e",
                             f"inject=sendto:delay_enter={round(2 * LIMIT)}s:when=1",
                             tids=portd.worker_tids())
        client.send(b"ping")
        crowd.wait(lambda: client.received == 5, 4 * LIMIT, "the echo")
        came = time.monotonic()
        crowd.wait(lambda: client.end, 5, "it is idle")
        kept = client.ended - came
        note(f"closed {kept:.2f} s after the echo")
        at_most(0.9 * LIMIT, kept, "seconds after the echo")
        trace.stop()
        portd.assert_rows("closed", {"idle": 1})


@for_each(workers=("1", "2"))
def test_the_queue(workers):
    """Slots that came free while portd was stopped are for those who wait, however long it was."""
    with Portd({"shed.queue_timeout": ms(LIMIT), "budget.max_connections": "4", "workers.count": workers}) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd, 4)
        began = time.monotonic()
        waiting = crowd.connect(4, send=b"ping")
        portd.wait_until(lambda s: s["budget"]["held"] == 1 and s["listener"]["queue_depth"] == 3, 5,
                         "they wait", crowd)
        portd.pause()
        tap.only_within(began, LIMIT, "clients that wait")
        for client in served:
            client.close()
        crowd.run(1.5 * LIMIT)
        portd.resume()
        crowd.wait_served(waiting)
        portd.assert_rows("shed", {})


def test_a_request():
    """Who has asked before the deadline of the control socket is answered after it, if that is portd's
    fault."""
    with Portd() as portd, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(portd.control)
        portd.wait_until(lambda s: s["state"] == "open", 5, "it has accepted")
        portd.pause()
        sock.sendall(b"health\n")
        time.sleep(5.2)  # CONTROL_DEADLINE_NS
        portd.resume()
        sock.settimeout(slow(5))
        equal(sock.recv(100), b"open\n", "the answer")


def has_stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_a_load_that_is_late():
    """An answer that has come in time is none that timed out, whenever portload looks."""
    waiting = []
    with Server(waiting.append) as server, \
            Load("churn", server.address, "--count", 20, "--connections", 20, "--timeout", ms(LIMIT), "--json") as load:
        end = time.monotonic() + slow(5)
        while len(waiting) < 20:
            tap.check(time.monotonic() < end, f"{len(waiting)} clients")
            time.sleep(0.005)
        began = time.monotonic()
        processes = load.children()
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        while not all(has_stopped(pid) for pid in processes):
            time.sleep(0.002)
        tap.only_within(began, LIMIT / 2, "the stop")
        for sock in waiting:
            sock.sendall(b"ping")
        time.sleep(1.5 * LIMIT)
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        equal(load.finish()["outcomes"]["served"], 20, "served")


if __name__ == "__main__":
    tap.main()
