"""portload against a real portd, and against servers that refuse, reset, hang up or never answer.

Whatever happens, each attempt has one outcome, and what portload counts is what portd counts.
"""

import os
import re
import signal
import subprocess
import time

import once
import tap
from harness import Portd, need
from loads import PORTLOAD, Load, Server, books, load, outcomes, reset, say, target
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow


@for_each(table=TABLES)
def test_churn_counts_what_portd_counts(table):
    with Portd(table=table) as portd:
        report = load("churn", target(portd), "--count", 2000, "--connections", 50)
        equal(outcomes(report), {"served": 2000}, "outcomes")
        at_most(report["open_peak"], 50, "open at once")
        equal(report["open_end"], 0, "open at the end")
        equal(report["connect_seconds"]["count"], 2000, "connect times")
        equal(report["first_byte_seconds"]["count"], 2000, "first bytes")
        equal(report["command"], "churn", "command")
        equal(report["knee"], None, "knee")
        stats = portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")
        equal(stats["accept"]["accepted"], 2000, "accepted")
        equal(stats["traffic"]["bytes_in"], 8000, "four bytes each")


def test_churn_of_a_service_that_speaks_and_closes():
    with Portd({"service.type": "tuple"}) as portd:
        for payload in ("0", "ping"):
            report = load("churn", target(portd), "--count", 200, "--payload", payload)
            equal(outcomes(report), {"served": 200}, f"outcomes with payload {payload}")
        stats = portd.stats()
        equal(stats["accept"]["accepted"], 400, "accepted")


def test_churn_keeps_the_rate_that_is_asked_for():
    with Portd() as portd:
        report = load("churn", target(portd), "--rate", 400, "--duration", "1s")
        equal(report["attempted"], 400, "attempted")
        equal(outcomes(report), {"served": 400}, "outcomes")
        at_least(report["seconds"], 0.99, "seconds")
        equal(report["rate_asked"], 400, "rate_asked")


def test_late_connections_count_from_when_they_were_due():
    """A server that stands still: who could not start meanwhile has waited all the same."""
    with Portd() as portd:
        portd.pause()
        with Load("churn", target(portd), "--rate", 100, "--connections", 1, "--duration", "1s",
                  "--json") as run:
            began = time.monotonic()
            while portd.ss()[0] == 0:
                check(time.monotonic() - began < slow(10), "portload does not begin")
            time.sleep(0.7)  # so long portd stands still
            portd.resume()
            report = run.finish()
        equal(outcomes(report), {"served": 100}, "outcomes")
        # Those due in these 0.7 s waited 0.35 s in the mean, and are more than half of all.
        at_least(report["first_byte_seconds"]["p50"], 0.1, "median from when it was due")
        at_least(report["load"]["lag_max_seconds"], 0.4, "lag")
        check("--connections" in (report["limited_by"] or ""), "limited_by:", report["limited_by"])


def test_payloads_come_back_whole():
    with Portd() as portd:
        for payload, size in (("100K", 102400), (r"a\r\n\x00", 4), ("1", 1)):
            before = portd.stats()["traffic"]["bytes_in"]
            report = load("churn", target(portd), "--count", 20, "--payload", payload)
            equal(outcomes(report), {"served": 20}, f"outcomes of {payload}")
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")
            equal(portd.stats()["traffic"]["bytes_in"] - before, 20 * size, f"bytes of {payload}")


@for_each(table=TABLES, answer=("reset", "close", "message"))
def test_flood_tells_how_it_was_turned_away(table, answer):
    options = {"budget.max_connections": "20", "shed.queue_timeout": "100ms", "shed.answer": answer,
               "shed.message": "busy, sorry"}
    kind = {"reset": "reset", "close": "closed", "message": "message"}[answer]
    with Portd(options, table=table) as portd:
        report = load("flood", target(portd), "--connections", 200, "--duration", "500ms",
                      "--expect-message", "busy")
        equal(report["outcomes"]["served"], 20, "served")
        equal(set(outcomes(report)), {"served", kind}, "kinds of outcomes")
        equal(report["standing"], 20, "stand until the end")
        shed = report["outcomes"][kind]
        at_least(shed, 360, "turned away")
        equal(report["shed_seconds"]["count"], shed, "times to be shed")
        at_least(report["shed_seconds"]["p50"], 0.09, "time to be shed")
        stats = portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")
        equal(stats["shed"]["full"], shed, "shed, as portd counts")


@for_each(table=TABLES, answer=("reset", "close"))
def test_hold_tells_who_stands_and_who_was_shed(table, answer):
    kind = {"reset": "reset", "close": "closed"}[answer]
    options = {"budget.max_connections": "300", "shed.queue_timeout": "50ms", "shed.answer": answer}
    with Portd(options, table=table) as portd:
        with Load("hold", target(portd), "--connections", 400, "--settle", "400ms", "--sample", 100,
                  "--json") as run:
            first = run.line()
            equal(first["standing"], 300, "standing")
            equal(outcomes(first), {"served": 300, kind: 100}, "outcomes")
            equal((first["sample"]["asked"], first["sample"]["echoed"]), (100, 100), "sample")
            equal(first["sample"]["seconds"]["count"], 100, "times of the sample")
            equal(portd.stats()["budget"]["connections"], 300, "open, says portd")
            run.process.stdin.close()  # which ends it
            run.process.stdin = None
            last = run.finish()
            equal(outcomes(last), {"served": 300, kind: 100}, "outcomes at the end")
        stats = portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")
        equal(stats["closed"]["reset"], 300, "closed with a reset")


def test_hold_notices_what_it_loses():
    with Portd({"timeouts.idle": "1s"}) as portd:
        report = None
        with Load("hold", target(portd), "--connections", 30, "--settle", "100ms", "--json") as run:
            equal(run.line()["standing"], 30, "standing at first")
            portd.wait_until(lambda s: s["closed"]["idle"] == 30, 10, "portd has closed them")
            run.process.send_signal(signal.SIGTERM)
            report = run.finish()
        equal(report["standing"], 0, "standing at the end")
        equal({k: n for k, n in report["lost"].items() if n}, {"closed": 30}, "lost")
        equal(outcomes(report), {"served": 30}, "outcomes")


def test_hold_past_one_table_of_descriptors():
    """Processes and addresses are as many as are needed, and the limit it starts with is soft."""
    with Portd({"workers.fd_table": "private"}) as portd:
        with Load("hold", target(portd), "--connections", 1500, "--payload", "hi", "--duration",
                  "1ms", "--json", nofile=512) as run:
            report = run.line()
            equal(report["standing"], 1500, "standing")
            equal(report["load"]["processes"], 4, "processes")
            equal(run.finish()["attempted"], 1500, "attempted")


def test_sources_are_those_asked_for():
    with Portd({"source.max_connections": "5"}) as portd:
        for sources, number in (("4", 4), ("127.77.0.0/29", 6), ("127.78.0.9", 1)):
            with Load("hold", target(portd), "--connections", 100, "--sources", sources, "--settle",
                      "200ms", "--processes", 2, "--json") as run:
                equal(run.line()["standing"], 5 * number, f"standing from {sources}")
                equal(portd.stats()["sources"]["open"], number, f"networks of {sources}")
                run.process.send_signal(signal.SIGINT)
                run.finish()
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")


def test_ramp_finds_the_knee():
    # The burst is for what portload makes up for when it got no CPU for a while.
    with Portd({"budget.rate": "300", "budget.burst": "100"}) as portd:
        report = load("ramp", target(portd), "--rate", 200, "--duration", "1s")
        steps = report["steps"]
        note([(s["rate"], s["achieved"], s["not_served"]) for s in steps], report["limited_by"])
        if steps[-1]["not_served"] == 0:  # it was portload that got no CPU: then it must say so
            check("fell behind its schedule" in (report["limited_by"] or ""), "nobody says why")
            raise tap.Skip(report["limited_by"])
        equal([s["rate"] for s in steps][:2], [200, 250], "rates")
        equal([s["clean"] for s in steps], [True] * (len(steps) - 1) + [False], "clean steps")
        equal(report["knee"], steps[-2], "knee")
        at_most(report["knee"]["rate"], 400, "portd lets 300/s in, and a burst of 100")
        equal(report["attempted"], sum(s["served"] + s["not_served"] for s in steps), "attempted")


def test_ramp_that_portload_itself_ends():
    """It stands still at the end of a step: what was due then never begins, and it says so."""
    with Portd({"budget.rate": "150", "budget.burst": "20"}) as portd:
        with Load("ramp", target(portd), "--rate", 100, "--duration", "1s", "--json") as run:
            portd.wait_until(lambda s: s["accept"]["accepted"] >= 92, 5, "the step is nearly over")
            group = [run.process.pid, *run.children()]
            for pid in group:
                os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(0.3)  # so long it stands still
            finally:
                for pid in group:
                    os.kill(pid, signal.SIGCONT)
            report = run.finish()
        step = report["steps"][-1]
        note(step, report["limited_by"])
        if step["not_served"]:
            raise tap.Skip("the step was over when portload was stopped")
        at_most(step["achieved"], 97, "connections a second")
        late = re.search(r"fell behind its schedule: (\d+) connections", report["limited_by"] or "")
        check(late, "limited_by:", report["limited_by"])
        at_least(int(late[1]), 100 - step["served"], "connections that never began, or late")
        at_least(report["load"]["lag_max_seconds"], 0.25, "lag")


def test_refused():
    with Server() as server:
        address = server.address
    report = load("churn", address, "--count", 100)
    equal(outcomes(report), {"refused": 100}, "outcomes")


def test_reset_and_closed():
    for behave, kind in ((reset, "reset"), (lambda sock: sock.close(), "closed")):
        with Server(behave) as server:
            # A close with the payload unread is a reset: so nothing is said.
            report = load("churn", server.address, "--count", 100, "--payload", "0")
            equal(outcomes(report), {kind: 100}, "outcomes")
            equal(report["shed_seconds"]["count"], 100, "times to be shed")


def test_a_reset_that_the_payload_meets_is_one():
    """send() is told of it, and recv() then sees an end like any other."""
    need("strace")
    # The reset comes after connect() and before send(), which is kept waiting for it.
    late = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e",
            "inject=sendto:delay_enter=60000")
    # LeakSanitizer cannot look under strace.
    env = tap.leaks(dict(os.environ), False)
    with Server(lambda sock: (time.sleep(0.01), reset(sock))) as server:
        with Load("churn", server.address, "--count", 10, "--connections", 1, "--json",
                  wrapper=late, env=env) as run:
            equal(outcomes(run.finish()), {"reset": 10}, "outcomes")


def test_no_answer():
    with Server(lambda sock: None) as server:
        began = time.monotonic()
        report = load("flood", server.address, "--count", 40, "--timeout", "300ms")
        equal(outcomes(report), {"timed_out": 40}, "outcomes")
        at_least(time.monotonic() - began, 0.3, "seconds")


def test_a_full_backlog_is_not_stormed():
    """Nobody accepts: what is under way stays within a window, and ends in time."""
    with Server(backlog=1) as server:
        with Load("flood", server.address, "--connections", 2000, "--count", 2000, "--timeout",
                  "300ms", "--duration", "500ms", "--json") as run:
            report = run.finish()
        equal(set(outcomes(report)), {"timed_out"}, "kinds of outcomes")
        at_most(report["open_peak"], 530, "open at once")


def test_answers_and_messages():
    cases = ((b"busy\r\n", ("--expect-message", "busy"), "message"),
             (b"bus", ("--expect-message", "busy"), "message"),
             (b"bust", ("--expect-message", "busy"), "served"),
             (b"busy", (), "served"),
             (b"pin", (), "closed"),
             (b"ping", ("--expect-message", "pong"), "served"),
             (b"pingpong", ("--expect-message", "pingp"), "message"))
    for text, arguments, kind in cases:
        with Server(say(text)) as server:
            report = load("churn", server.address, "--count", 20, *arguments)
            equal(outcomes(report), {kind: 20}, f"outcomes of {text} with {arguments}")


def test_what_this_machine_lacks_is_told():
    with Portd() as portd:
        report = load("churn", target(portd), "--count", 10, "--sources", "192.0.2.9", status=1)
        equal(outcomes(report), {"failed": 10}, "outcomes")
        check("10 attempts failed with EADDRNOTAVAIL" in report["limited_by"], report["limited_by"])


def test_one_ipv6_address_is_said_to_be_one():
    with Portd({"listener.address": "[::1]:0"}) as portd:
        report = load("churn", target(portd), "--count", 50)
        equal(outcomes(report), {"served": 50}, "outcomes")
        report = load("churn", target(portd), "--connections", 9001, "--duration", "200ms")
        check("1 source address can carry 9000" in report["limited_by"], report["limited_by"])


def test_interrupted_it_reports():
    with Portd() as portd:
        with Load("churn", target(portd), "--duration", "1h", "--json") as run:
            portd.wait_until(lambda s: s["accept"]["accepted"] > 200, 10, "it has begun")
            run.process.send_signal(signal.SIGINT)
            report = run.finish()
        # Of those that were accepted some were not answered yet.
        at_most(report["undecided"], 64, "undecided")
        at_least(report["outcomes"]["served"], 200 - 64, "served")


def test_processes_do_not_outlive_their_parent():
    with Portd() as portd:
        with Load("hold", target(portd), "--connections", 100, "--settle", "0s", "--processes", 3,
                  "--json") as run:
            run.line()
            equal(len(run.children()), 3, "processes")
            run.process.kill()
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 10, "all are closed")


def test_a_process_that_dies_is_told():
    with Portd() as portd:
        with Load("hold", target(portd), "--connections", 100, "--settle", "0s", "--processes", 2,
                  "--json") as run:
            run.line()
            os.kill(run.children()[0], signal.SIGKILL)
            portd.wait_until(lambda s: s["budget"]["connections"] == 50, 10, "half are closed")
            run.process.send_signal(signal.SIGINT)
            report = run.finish(1)
        check("1 of 2 processes died (signal 9)" in report["limited_by"], report["limited_by"])


def test_the_report_for_people():
    with Portd() as portd:
        text = load("churn", target(portd), "--count", 1234, "--text")
        check(f"churn 127.0.0.1:{portd.port}: 1,234 connections in " in text, text)
        check("\n  served            1,234  " in text, text)
        check("\n  first byte        1,234 " in text, text)


def test_progress_on_a_terminal():
    """A line a second on stderr while it runs, and none where nobody looks."""
    with Portd() as portd:
        leader, terminal = os.openpty()
        run = subprocess.Popen([PORTLOAD, "churn", target(portd), "--rate", "200", "--duration", "2500ms"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, text=True)
        os.close(terminal)
        said = b""
        try:
            while chunk := os.read(leader, 4096):
                said += chunk
        except OSError:
            pass  # the last of those who had it open has closed it
        os.close(leader)
        out, _ = run.communicate(timeout=slow(20))
        equal(run.returncode, 0, "exit status")
        lines = re.findall(r"churn (\d+) s: \d+ of \d+ open, [\d,]+/s, ([\d,]+) served, 0 not", said.decode())
        at_least(len(lines), 2, f"lines of progress in {said!r}")
        counts = [int(count.replace(",", "")) for _, count in lines]
        check(counts == sorted(counts) and counts[-1] > 0, "they count upwards", counts)
        check(out.startswith("churn "), "the report is not on standard output:", out[:200])


def test_wrong_usage():
    cases = (("no command",), ("unknown command 'x'\n", "x"),
             ("unknown command 'chrun'; did you mean 'churn'?", "chrun"), ("one argument", "churn", "a:1", "b"),
             ("--rate x:", "churn", "--rate", "x"), ("--rate 0:", "ramp", "--rate", "0"),
             ("--duration 10:", "churn", "--duration", "10"),
             ("--connections 0:", "churn", "--connections", "0"),
             ("--sources 0:", "churn", "--sources", "0"),
             ("--sources ::1:", "churn", "--sources", "::1"),
             ("--sources 2:", "churn", "[::1]:7", "--sources", "2"),
             ("--payload 2M:", "churn", "--payload", "2M"),
             (r"--payload \q:", "churn", "--payload", r"\q"),
             ("--expect-message :", "churn", "--expect-message", ""),
             ("--sample does not go with 'churn'", "churn", "--sample", "1"),
             ("--count does not go with 'hold'", "hold", "--count", "1"),
             ("no target", "churn", "127.0.0.1"), ("no target", "churn", "127.0.0.1:0"),
             ("a..b", "churn", "a..b:80"),  # no name, so that no resolver is asked
             ("--i-own-this-host", "churn", "192.0.2.1:80"),
             ("--i-own-this-host", "hold", "[2001:db8::1]:80"))
    for words, *arguments in cases:
        run = once.run(PORTLOAD, *arguments, seconds=30)
        equal(run.returncode, 64, f"exit status of {arguments}")
        equal(run.stdout, "", f"standard output of {arguments}")
        check(words in run.stderr, f"{arguments}: {run.stderr!r} does not say {words!r}")


if __name__ == "__main__":
    tap.main()
