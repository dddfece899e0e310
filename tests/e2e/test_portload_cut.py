"""portload when it is cut short, killed in part, short of descriptors, or answered by the wrong one:
what it says still adds up.
"""

import os
import signal
import subprocess
import threading
import time

import tap
from harness import Portd, need, need_root
from loads import PORTLOAD, Load, Server, load, outcomes, target
from tap import at_most, check, equal


def later(action):
    """For a Server's behave: in a thread of its own; a client that has gone is no error."""
    def run():
        try:
            action()
        except OSError:
            pass
    threading.Thread(target=run).start()


def interrupt(run):
    run.process.send_signal(signal.SIGINT)
    return run.finish()


def test_infinity_is_no_time_out():
    with Portd() as portd:
        report = load("churn", target(portd), "--count", 20, "--timeout", "infinity")
        equal(outcomes(report), {"served": 20}, "outcomes of churn")
        with Load("hold", target(portd), "--connections", 20, "--timeout", "infinity", "--sample", 5,
                  "--settle", "50ms", "--json") as run:
            first = run.line()
            equal((first["standing"], first["sample"]["echoed"]), (20, 5), "standing, echoed")
            interrupt(run)


def test_cut_before_all_have_settled():
    """Nobody stands before --settle is over, however long it is."""
    with Portd({"service.type": "discard"}) as portd:
        for settle in ("1min", "infinity"):
            with Load("hold", target(portd), "--connections", 50, "--settle", settle, "--json") as run:
                portd.wait_until(lambda s: s["budget"]["connections"] == 50, 5, "all are open")
                run.process.send_signal(signal.SIGINT)
                first, last = run.line(), run.finish()
            for report in (first, last):
                equal(outcomes(report), {}, f"outcomes with --settle {settle}")
                equal((report["undecided"], report["standing"], report["open_end"]), (50, 0, 0),
                      "undecided, standing, open")
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")


def test_an_answer_that_is_no_echo():
    behave = lambda sock: later(lambda: sock.recv(100) and sock.sendall(b"503 go away\n"))
    with Server(behave) as server:
        with Load("hold", server.address, "--connections", 20, "--sample", 10, "--settle", "50ms",
                  "--json") as run:
            first, last = run.line(), interrupt(run)
        equal((first["sample"]["asked"], first["sample"]["echoed"]), (10, 0), "asked, echoed")
        equal(first["sample"]["failed"], 10, "failed")
        equal((first["standing"], last["standing"]), (20, 20), "standing")


def test_cut_while_one_is_asked():
    """Who was asked and has not answered yet stands all the same."""
    asked = threading.Event()
    behave = lambda sock: later(lambda: sock.recv(100) and asked.set())
    with Server(behave) as server:
        with Load("hold", server.address, "--connections", 20, "--sample", 10, "--settle", "50ms",
                  "--timeout", "1min", "--json") as run:
            check(asked.wait(tap.slow(10)), "nobody is asked")
            run.process.send_signal(signal.SIGINT)
            first, last = run.line(), run.finish()
        for report in (first, last):
            equal((report["standing"], report["open_end"], outcomes(report)), (20, 20, {"served": 20}),
                  "standing, open, outcomes")
            equal((report["sample"]["asked"], report["sample"]["failed"]), (1, 1), "asked, failed")


def test_what_a_killed_process_held():
    with Portd() as portd:
        with Load("hold", target(portd), "--connections", 200, "--processes", 2, "--settle", "50ms",
                  "--json") as run:
            equal(run.line()["standing"], 200, "standing")
            os.kill(run.children()[0], signal.SIGKILL)
            portd.wait_until(lambda s: s["budget"]["connections"] == 100, 5, "one half is gone")
            run.process.send_signal(signal.SIGINT)
            last = run.finish(1)
        equal((last["standing"], last["open_end"]), (100, 100), "standing, open")
        check("1 of 2 processes died" in last["limited_by"], last["limited_by"])


def test_descriptors_that_it_inherits():
    """They are not its own: all of the table is for connections."""
    script = 'for fd in $(seq 10 39); do eval "exec $fd</dev/null"; done; exec "$0" "$@"'
    with Portd() as portd:
        with Load("hold", target(portd), "--connections", 45, "--settle", "50ms", "--json",
                  wrapper=["prlimit", "--nofile=64:64", "bash", "-euc", script]) as run:
            report = run.line()
            equal(report["standing"], 45, "standing")
            # On a busy machine it may lack a CPU.
            check("descriptor" not in (report["limited_by"] or ""), report["limited_by"])
            at_most(report["load"]["cpu_waiting_seconds"], 60, "seconds that it waited for a CPU")
            interrupt(run)


def test_nobody_is_served_by_himself():
    """connect(2) to a free port of the ephemeral range can be met by its own end. It tries the even
    ones first, so the port has to be one."""
    need_root()
    need("unshare")
    script = ("ip link set lo up; echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range; "
              'exec "$0" "$@"')
    for address, sources in (("[::1]:40000", []), ("127.0.0.2:40000", ["--sources", "127.0.0.2"])):
        with Load("churn", address, "--count", 100, "--connections", 2, "--processes", 1, *sources,
                  "--json", wrapper=["unshare", "-n", "bash", "-euc", script]) as run:
            report = run.finish()
        equal(outcomes(report), {"refused": 100}, f"outcomes at {address}, where nobody listens")


def test_what_was_not_measured_is_null_or_said():
    with Portd() as portd:
        report = load("flood", target(portd), "--connections", 20, "--duration", "100ms")
        equal(report["opened_seconds"], None, "opened_seconds of a flood")
        with Load("ramp", target(portd), "--rate", 50, "--duration", "1min") as run:
            begun = report["attempted"] + 5
            portd.wait_until(lambda s: s["accept"]["accepted"] >= begun, 5, "the step has begun")
            text = interrupt(run)
        check("knee: unknown, the first step was cut short" in text, text)


def test_standard_input_that_has_ended():
    """As in a script that comes through a pipe: nothing is held, and it is said why."""
    with Portd() as portd:
        with Load("hold", target(portd), "--connections", 5, "--settle", "1min") as run:
            portd.wait_until(lambda s: s["budget"]["connections"] == 5, 5, "they are open")
            began = time.monotonic()
            out, err = run.process.communicate(timeout=tap.slow(10))
            at_most(time.monotonic() - began, tap.slow(5), "seconds until it ends")
        check("the other end of standard input is closed, which ends a hold" in err, err)
        check("0 stand" in out and "holding" not in out, out)


def test_a_full_disk():
    with Portd() as portd:
        with open("/dev/full", "w") as full:
            result = subprocess.run([PORTLOAD, "churn", target(portd), "--count", "5"], text=True,
                                    stdout=full, stderr=subprocess.PIPE, timeout=tap.slow(10))
        check("No space left on device" in result.stderr, result.stderr)
        equal(result.returncode, 1, "exit status")


if __name__ == "__main__":
    tap.main()
