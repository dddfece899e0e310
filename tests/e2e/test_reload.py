"""Reload, by SIGHUP and by portctl: live keys take effect, others are named and stay, a wrong file
changes nothing; connections live on, and no descriptor is needed for it that portd has not kept.
"""

import json
import os
import re
import signal
import subprocess
import time

import once
import tap
from harness import PORTCTL, PORTD, Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

WAYS = ("hup", "portctl")
REJECTED = "error: configuration rejected, the old one stays in force"


def reload(portd, how):
    """Reloads a right configuration; what is said beside the verdict, a list of lines."""
    start = len(portd.log_lines())
    if how == "hup":
        portd.hup()
        return [line for line in portd.log_lines(start) if "needs a restart" in line]
    result = portd.portctl("reload")
    equal((result.returncode, result.stderr), (0, ""), "exit status and stderr of portctl reload")
    lines = result.stdout.splitlines()
    equal(lines[0], "reloaded", "the verdict")
    return lines[1:]


def change(portd, how, **options):
    portd.write_config({k.replace("__", "."): v for k, v in options.items()})
    return reload(portd, how)


def configuration(portd):
    """All of the figures that say which configuration is in force."""
    stats = portd.stats()
    return {"address": stats["listener"]["address"], "workers": len(stats["workers"]),
            "backlog": stats["listener"]["backlog_configured"], "tables": len(portd.tables()),
            **{k: stats["budget"][k] for k in ("fds", "max_connections", "bound_by")}}


def slots(portd):
    return portd.stats()["budget"]["max_connections"]


@for_each(how=WAYS)
def test_answer(how):
    with Portd({"budget.max_connections": "1", "shed.queue_timeout": "infinity"}) as portd:
        crowd = portd.crowd()
        portd.fill(crowd)
        waiting = crowd.connect(3, send=b"w")
        crowd.run(0.3)
        equal(crowd.tally(waiting), {"up": 3}, "under infinity")
        equal(change(portd, how, shed__queue_timeout="0s"), [], "notes")
        crowd.wait_answered(waiting, 2)
        equal(crowd.tally(waiting), {"reset": 3}, "under 0s and reset")
        for answer, message, seen in (("close", "", "closed"), ("message", "no", b"no"),
                                      ("message", r"not\n", b"not\n"), ("reset", "", "reset")):
            change(portd, how, shed__answer=answer, shed__message=message or None)
            client, = crowd.connect()
            crowd.wait(lambda: client.end, 2, f"the answer {answer}")
            equal(client.data or client.outcome, seen, f"with answer = {answer}")
        change(portd, how, shed__queue_timeout="300ms")
        client, = crowd.connect()
        crowd.wait_answered([client], 2)
        at_least(client.ended - client.began, 0.28, "answered after, with 300ms")


@for_each(table=TABLES, how=WAYS)
def test_timeouts(table, how):
    """Of connections that are open already, and of those to come."""
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        spoken = crowd.connect(20, send=b"x")
        silent = crowd.connect(20)
        crowd.wait_served(spoken)
        portd.wait_until(lambda s: s["budget"]["connections"] == 40, 2, "40 are open", crowd)
        change(portd, how, timeouts__first_byte="300ms")
        crowd.wait(lambda: all(c.end for c in silent), 2, "first_byte closes the silent")
        crowd.run(0.2)
        equal(sum(c.end is None for c in spoken), 20, "those who have spoken")
        change(portd, how, timeouts__first_byte="0s", timeouts__idle="300ms")
        crowd.wait(lambda: all(c.end for c in spoken), 2, "idle closes all")
        late = crowd.connect(5, send=b"x")
        crowd.wait(lambda: all(c.end for c in late), 2, "idle closes new ones")
        change(portd, how, timeouts__idle="0s")
        for_good = crowd.connect(5)
        crowd.run(0.7)
        equal(sum(c.end is None for c in for_good), 5, "open without any timeout")
        closed = {k: v for k, v in portd.stats()["closed"].items() if v}
        equal(closed, {"first_byte": 20, "idle": 25}, "closed")


@for_each(how=WAYS)
def test_limits(how):
    with Portd({"budget.max_connections": "10", "shed.queue_timeout": "0s"}) as portd:
        for number in ("20", "5", "auto", "10"):
            change(portd, how, budget__max_connections=number, listener__backlog=f"{number}0"
                   if number != "auto" else None)
            budget = portd.stats()["budget"]
            if number == "auto":
                equal(budget["bound_by"], "fds", "bound_by")
                at_least(budget["max_connections"], 100, "slots")
            else:
                seen = (budget["max_connections"], portd.stats()["listener"]["backlog_configured"])
                equal(seen, (int(number), 10 * int(number)), "slots and backlog")
        crowd = portd.crowd()
        served = portd.fill(crowd, 10)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full", crowd)
        change(portd, how, shed__low_watermark="50%")
        served.pop().close()
        served.pop().close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 8, 2, "two have gone", crowd)
        equal(portd.stats()["state"], "full", "with 8 of 10 and low_watermark 50%")
        change(portd, how, shed__low_watermark="90%")
        served.pop().close()
        portd.wait_until(lambda s: s["state"] == "open", 2, "open with 7 of 10 and 90%", crowd)


@for_each(how=WAYS, what=("slots", "dry_run"))
def test_fewer_slots_than_are_open(how, what):
    """It is full from then on, not from the next client on."""
    options = {"budget.max_connections": "4" if what == "slots" else "2", "shed.gate": "on",
               "shed.gate_after": "0s", "shed.dry_run": "no" if what == "slots" else "yes"}
    with Portd(options) as portd:
        served = portd.fill(portd.crowd(), 3)
        change(portd, how, budget__max_connections="2", shed__dry_run="no")
        portd.wait_until(lambda s: s["state"] == "full" and s["listener"]["gate"] == "closed", 2, "full")
        equal(portd.portctl("health").returncode, 1, "exit status of portctl health")
        told = [json.loads(line)["event"] for line in portd.request("events json").splitlines()]
        equal(told[-3:], ["reloaded", "full", "gate_closed"], "the last events")
        served.pop().close()
        served.pop().close()
        portd.wait_until(lambda s: s["state"] == "open" and s["listener"]["gate"] == "open", 2, "open")


def test_fewer_slots_evict_nobody_in_vain():
    """While more are open than there are slots, one that goes makes no room."""
    evict = {"shed.evict_idle": "10ms", "shed.queue_timeout": "0s"}
    with Portd({"budget.max_connections": "6", **evict}) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 6)
        crowd.run(0.05)  # idle for longer than evict_idle
        change(portd, "portctl", budget__max_connections="4")
        shed = crowd.connect(3, send=b"x")
        crowd.wait_answered(shed)
        portd.assert_rows("shed", {"full": 3})
        check("would be shed at once: full" in portd.portctl("explain", "127.0.0.1").stdout, "explain")
        inside.pop().close()
        inside.pop().close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 4, 2, "as many as there are slots", crowd)
        crowd.run(0.05)
        crowd.wait_served(crowd.connect(1, send=b"x"))
        portd.wait_until(lambda s: s["closed"]["evicted"] == 1, 2, "one for the one that came", crowd)


@for_each(how=WAYS)
def test_the_held_one_comes_first_from_now_on(how):
    options = {"budget.max_connections": "1", "budget.priority": "1", "source.priority": "127.0.7.7",
               "shed.queue_timeout": "infinity"}
    with Portd(options) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 1)
        held = crowd.connect(1, send=b"x", source=("127.0.7.1", 0))
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 2, "one is held")
        change(portd, how, source__priority="127.0.7.1")
        crowd.wait_served(held)
        equal(portd.stats()["budget"]["priority_connections"], 1, "in a priority slot")


@for_each(how=WAYS)
def test_an_evict_idle_that_hardly_counts(how):
    """With start_at nobody is closed for an ordinary client: it is said with -t, and when it comes so."""
    with Portd({"shed.evict_idle": "10s"}) as portd:
        check("evict_idle" not in portd.log(), "said without start_at:", portd.log())
        log = len(portd.log_lines())
        said = change(portd, how, shed__start_at="80%")
        want = (rf"{portd.config_path}:\d+: \[shed\] evict_idle: 10s closes nobody for ordinary clients .*"
                rf"\[shed\] start_at 80% \({portd.config_path}:\d+\)")
        heard = [line for line in portd.log_lines(log) if re.search("warning: " + want, line)]
        equal(len(heard), 1, "lines of the log")
        equal(how == "hup" or bool(re.match("warning: " + want, said[0])), True, f"said: {said}")
        result = subprocess.run([PORTD, "-c", portd.config_path, "-t"], text=True,
                                capture_output=True, timeout=tap.slow(10))
        equal(result.returncode, 0, "portd -t")
        check(re.search("^portd: warning: " + want, result.stderr, re.M), result.stderr)
        for options in ({"shed__start_at": "100%"}, {"shed__start_at": "80%", "shed__dry_run": "yes"}):
            log = len(portd.log_lines())
            equal(change(portd, how, **options), [], f"said with {options}")
            check("evict_idle" not in "".join(portd.log_lines(log)), f"logged with {options}")


@for_each(how=WAYS)
def test_log_level(how):
    with Portd() as portd:
        heard = lambda start: [line for line in portd.log_lines(start) if "reloaded" in line]
        change(portd, how, log__level="warning")
        start = len(portd.log_lines())
        reload(portd, how)
        equal(heard(start), [], "said at level warning")
        change(portd, how, log__level="info")
        equal(len(heard(start)), 1, "lines at level info")


@for_each(how=WAYS)
def test_what_needs_a_restart(how):
    with Portd({"budget.fds": "500", "control.mode": "0600"}) as portd:
        before = configuration(portd)
        changed = {"listener.address": "127.0.0.1:1", "workers.count": "7",
                   "workers.fd_table": "private" if len(portd.tables()) == 1 else "shared",
                   "budget.fds": "400", "timeouts.keepalive": "30s", "service.type": "discard",
                   "control.socket": portd.dir + "/other.sock", "control.mode": "0666",
                   "control.group": "root"}
        old = {key: portd.options.get(key) for key in changed}
        for round in (1, 2):  # they still differ the second time
            portd.write_config({**changed, "listener.backlog": str(60 + round)})
            said = reload(portd, how)
            want = ["[{}] {} needs a restart".format(*key.split(".")) for key in changed]
            equal([line[line.index("["):] for line in said], want, "what needs a restart")
            equal(configuration(portd), {**before, "backlog": 60 + round}, "in force")
            equal(os.path.exists(changed["control.socket"]), False, "the other socket is there")
            equal(os.stat(portd.control).st_mode & 0o777, 0o600, "mode")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3, send=b"it still echoes"))
        portd.write_config(old)
        equal(reload(portd, how), [], "notes after all was put back")


def status_since(portd, start):
    return [line for line in portd.notify.lines(start) if line.startswith("STATUS=")]


@for_each(how=WAYS)
def test_wrong_file(how):
    """All or nothing: what is right in it does not count either."""
    with Portd({"budget.max_connections": "50"}) as portd:
        crowd = portd.crowd()
        served = crowd.connect(5, send=b"x")
        crowd.wait_served(served)
        before, right = configuration(portd), dict(portd.options)
        log, sent = len(portd.log_lines()), len(portd.notify.messages)
        with open(portd.config_path, "w") as file:
            file.write("[budget]\nmax_connections = 7\n[listener]\nbacklog = x\n[shed]\n"
                       "queue_timeout = 5\nanswr = close\n[nothing]\n")
        if how == "hup":
            portd.hup()
        else:
            result = portd.portctl("reload")
            equal((result.returncode, result.stdout), (1, ""), "exit status and stdout")
            said = result.stderr.splitlines()
            equal(said[0], "portctl: " + REJECTED, "the verdict")
            equal([re.match(rf"{portd.config_path}:(\d+): ", line)[1] for line in said[1:]],
                  ["4", "6", "7", "8"], "lines with a mistake")
        logged = portd.log_lines(log)
        equal(len(logged), 5, f"lines logged: {logged}")
        check(REJECTED[7:] in logged[0], logged[0])
        for number, line in zip((4, 6, 7, 8), logged[1:]):
            check(f"{portd.config_path}:{number}: " in line, line)
        equal(configuration(portd), before, "in force")
        check(portd.notify.wait_match(rf"STATUS=reload failed: {portd.config_path}:4: .*; "
                                      "open: 5 of 50 connections .*", 2, sent),
              "the mistake is not in", status_since(portd, sent))
        crowd.ask(served)

        portd.write_config(right)
        sent = len(portd.notify.messages)
        reload(portd, how)
        check(portd.notify.wait_match("STATUS=open: .*", 2, sent),
              "after a right one:", status_since(portd, sent))


@for_each(fault=("missing", "directory", "empty", "budget", "drop-in"))
def test_unfit_file(fault):
    """At start it was right; now it is not there, no file, or more than the machine gives."""
    with Portd({"budget.fds": "200", "workers.count": "1"}) as portd:
        before = configuration(portd)
        right, words = portd.config_path, "cannot be read"
        if fault == "budget":
            portd.write_config({"budget.max_connections": "1000"})
            words = r"\[budget\] max_connections: 1000 asked"
        elif fault == "drop-in":
            os.mkdir(right + ".d")
            with open(right + ".d/a.conf", "w") as file:
                file.write("[log]\nlevel = loud\n")
            words = re.escape(right + ".d/a.conf:2: ")
        else:
            os.unlink(right)
            if fault == "directory":
                os.mkdir(right)
            elif fault == "empty":
                open(right, "w").close()  # defaults: right, and the budget changes
        result = portd.portctl("reload")
        if fault == "empty":
            equal(result.returncode, 0, "an empty file is a right one")
            check("needs a restart" in result.stdout, result.stdout)
            equal(configuration(portd)["fds"], 200, "fds, which needs a restart")
            return
        equal(result.returncode, 1, "exit status")
        equal(len(result.stderr.splitlines()), 2, f"lines said: {result.stderr}")
        check(re.search(words, result.stderr), result.stderr)
        equal(configuration(portd), before, "in force")
        if fault == "budget":
            number = re.search(r"use max_connections <= (\d+)", result.stderr)[1]
            equal(change(portd, "portctl", budget__max_connections=number), [], "notes")
            equal(slots(portd), int(number), "slots, as advised")


def test_overrides_and_drop_ins():
    with Portd(overrides=["listener.backlog=33"]) as portd:
        change(portd, "portctl", listener__backlog="44", budget__max_connections="55")
        os.mkdir(portd.config_path + ".d")
        with open(portd.config_path + ".d/a.conf", "w") as file:
            file.write("[budget]\nmax_connections = 66\n[listener]\nbacklog = 77\n")
        reload(portd, "portctl")
        seen = configuration(portd)
        equal((seen["backlog"], seen["max_connections"]), (33, 66), "backlog, max_connections")


def now_usec():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@for_each(how=WAYS, right=(True, False))
def test_messages(how, right):
    """RELOADING=1 with its time, then READY=1, also when the file is rejected."""
    with Portd() as portd:
        portd.write_config({"listener.backlog": "50" if right else "none"})
        start, began = len(portd.notify.messages), now_usec()
        if how == "hup":
            portd.hup()
        else:
            equal(portd.portctl("reload").returncode, 0 if right else 1, "exit status")
            check(portd.notify.wait("READY=1", 5, start) is not None, "no READY=1")
        done = now_usec()
        texts = [text for _, text in portd.notify.messages[start:]]
        first = next(i for i, text in enumerate(texts) if "RELOADING=1" in text)
        told = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)\n?", texts[first])
        check(told, "RELOADING=1 and MONOTONIC_USEC= are not one message:", texts[first])
        at_least(int(told[1]), began, "MONOTONIC_USEC")
        at_most(int(told[1]), done, "MONOTONIC_USEC")
        ready = [i for i, text in enumerate(texts) if "READY=1" in text.splitlines()]
        equal(len(ready), 1, f"READY=1 in {texts}")
        at_least(ready[0], first + 1, "the place of READY=1")


@for_each(table=TABLES, how=WAYS)
def test_under_load(table, how):
    """Twenty reloads while 200 connections echo and others come and go: nobody notices."""
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        steady = crowd.connect(200, send=b"x")
        crowd.wait_served(steady)
        took, passing = [], 0
        for number in range(20):
            portd.write_config({"listener.backlog": str(100 + number % 3),
                                "budget.max_connections": str(1000 - number),
                                "shed.answer": ("reset", "close")[number % 2]})
            for client in steady:
                client.send(b"y" * 1000)
            new = crowd.connect(50, send=b"z")
            passing += len(new)
            began = time.monotonic()
            reload(portd, how)
            took.append(time.monotonic() - began)
            equal(slots(portd), 1000 - number, "slots")
            crowd.wait_served(new, 2, "newcomers")
            for client in new:
                client.close()
            want = 1 + 1000 * (number + 1)
            crowd.wait(lambda: all(c.received == want for c in steady), 5, "all is echoed")
        note("a reload took", spread(took))
        equal(sum(c.end is None for c in steady), 200, "connections that live on")
        stats = portd.assert_books()
        equal(stats["accept"]["accepted"], 200 + passing, "accepted")
        equal({k: v for k, v in stats["shed"].items() if v}, {}, "shed")


@for_each(table=TABLES)
def test_many_at_once(table):
    """Signals and requests on top of each other: each request gets a verdict, the last one counts."""
    with Portd(table=table) as portd:
        portd.write_config({"listener.backlog": "222"})
        command = [PORTCTL, "-s", portd.control, "reload"]
        asked = [subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                  text=True, env=once.environment()) for _ in range(20)]
        for _ in range(50):
            os.kill(portd.pid, signal.SIGHUP)
        said = [process.communicate(timeout=slow(20))[0] for process in asked]
        equal(said, ["reloaded\n"] * 20, "verdicts")
        equal([process.returncode for process in asked], [0] * 20, "exit status")
        equal(configuration(portd)["backlog"], 222, "backlog")


@for_each(table=TABLES, right=(True, False))
def test_without_a_descriptor(table, right):
    """The limit is below what is in use: the file and its drop-ins are read all the same."""
    with Portd({"shed.queue_timeout": "100ms"}, table=table) as portd:
        os.mkdir(portd.config_path + ".d")
        with open(portd.config_path + ".d/a.conf", "w") as file:
            file.write("[listener]\nbacklog = " + ("123\n" if right else "none\n"))
        crowd = portd.crowd()
        served, top = portd.fill_tables(crowd, 40)
        old, _ = portd.limit_nofile(top + 1)
        shed = crowd.connect(4, send=b"x")
        crowd.wait(lambda: all(c.end for c in shed), 3, "there is no descriptor")
        at_least(portd.stats()["accept"]["errors"]["EMFILE"], 1, "EMFILE")
        for number in range(5):
            result = portd.portctl("reload")
            if right:
                equal((result.returncode, result.stdout), (0, "reloaded\n"), "the verdict")
                equal(configuration(portd)["backlog"], 123, "backlog")
            else:
                equal(result.returncode, 1, "exit status")
                check(portd.config_path + ".d/a.conf:2: " in result.stderr, result.stderr)
            portd.hup()
        portd.write_config({"shed.answer": "close", "shed.message": None if right else "no"})
        if right:
            equal(reload(portd, "portctl"), [], "notes")
            client, = crowd.connect()
            crowd.wait_answered([client], 3)
            equal(client.outcome, "closed", "the answer that was changed to")
        crowd.ask(served)
        portd.limit_nofile(old)


if __name__ == "__main__":
    tap.main()
