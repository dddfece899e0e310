"""systemctl start, status, reload, stop: what each promises, and what a start that fails says."""

import os
import re
import signal
import socket
import threading
import time

import container
import observe
from tap import Skip, at_least, at_most, check, equal, for_each, note, slow, spread

ECHO = {"service.type": "echo"}
STATUS = re.compile(r"(open|shedding|full|draining): ([\d,]+) of ([\d,]+) connections \((\d+) %\), "
                    r"([\d,]+)/s, queue (\d+)/(\d+), shed ([\d,]+), EMFILE ([\d,]+)(?:; (.+))?")


def status(box, unit="portd"):
    return box.show(unit, "StatusText")["StatusText"]


def wait_status(box, words, seconds, crowd=None):
    """Waits until the status begins with these words; returns the status and how long it took."""
    began = time.monotonic()
    seen = lambda: (text := status(box)).startswith(words) and text
    return (observe.wait_until(seen, seconds, f"a status of {words!r}", crowd),
            time.monotonic() - began)


def ended_well(box, since):
    """The unit is inactive, and the manager found nothing wrong with how it came to that."""
    equal(box.show("portd", "ActiveState")["ActiveState"], "inactive", "the unit")
    verdicts = [line for r in box.journal(since) if r.get("SYSLOG_IDENTIFIER") == "systemd"
                and re.match(r"portd\.service: (Deactivated|Failed|Main|State)",
                             line := observe.text(r))]
    equal(verdicts, ["portd.service: Deactivated successfully."], "the manager's verdict")


@for_each(workers=("auto", "500"))
def test_start_returns_when_the_port_answers(box, workers):
    """Also the control socket; and before it, the port refuses. 500 workers take their time to start."""
    box.configure({"service.type": "tuple", "workers.count": workers, "workers.fd_table": "private"})
    crowd = box.crowd(7777)
    waits, took = [], []
    for _ in range(2):
        [early] = crowd.connect(1)
        crowd.wait_answered([early], 1)
        equal(early.end, "refused", "before the start")
        began = time.monotonic()
        box.systemctl("start", "portd")
        clients = crowd.connect(5)
        took.append(time.monotonic() - began)
        crowd.wait(lambda: all(c.end for c in clients), 1, "answers at once after the start")
        for client in clients:
            check(re.fullmatch(rb"tcp 127\.0\.0\.1 \d+ 127\.0\.0\.1 7777\n", client.data),
                  "answer:", client.data)
        waits += [c.first - c.began for c in clients]
        equal(box.portctl("health").stdout, "open\n", "health")
        box.systemctl("stop", "portd")
    note(f"systemctl start took {spread(took)}; connect to answer right after it: {spread(waits)}")


def test_status_shows_live_figures(box):
    """Within 10 s, without any change of state that would send it at once."""
    box.configure(ECHO)
    box.systemctl("start", "portd")
    first = STATUS.fullmatch(status(box))
    check(first, "the first status:", status(box))
    equal((first[1], first[2]), ("open", "0"), "state, connections")
    crowd = box.crowd(7777)
    crowd.wait_served(crowd.connect(1007, send=b"x"))
    began = time.monotonic()
    now, _ = wait_status(box, "open: 1,007 of ", 10, crowd)
    took = time.monotonic() - began
    note(f"after {took:.1f} s: {now}")
    at_most(took, slow(10), "seconds until the figures are true")
    seen = STATUS.fullmatch(now)
    check(seen, "the form of", now)
    most = box.stats()["budget"]["max_connections"]
    equal(seen[3], f"{most:,}", "how many there can be")
    equal(seen[4], str(1007 * 100 // most), "per cent")
    check(f'Status: "{now}"' in box.systemctl("status", "portd").stdout,
          "systemctl status does not show it")


def test_status_says_why_it_is_full(box):
    """At once: which limit, how many wait, how many were turned away."""
    box.configure({**ECHO, "budget.max_connections": "4", "shed.queue_timeout": "infinity"})
    box.systemctl("start", "portd")
    since = box.cursor()
    crowd = box.crowd(7777)
    served = crowd.connect(4, send=b"x")
    crowd.wait_served(served)
    crowd.connect(3, send=b"x")
    now, took = wait_status(box, "full: ", 2, crowd)
    check(now.startswith("full: 4 of 4 connections (100 %), "), "status:", now)
    check(now.endswith(", EMFILE 0; no slot left (max_connections); clients wait until there is room"),
          "status:", now)
    line = observe.text(observe.wait_said(box, since, "full: ", 2))
    check("no slot left" in line, "the journal:", line)
    for client in served[:2]:
        client.close()
    crowd.wait(lambda: sum(c.received > 0 for c in crowd) == 6, 2, "those that waited are served")
    for client in crowd:
        client.close()
    now, _ = wait_status(box, "open: ", 2, crowd)
    equal(STATUS.fullmatch(now)[10], None, "a reason while open")
    note(f"full was told after {took:.3f} s")


def test_status_says_that_descriptors_are_short(box):
    box.configure({**ECHO, "shed.queue_timeout": "infinity"})
    box.systemctl("start", "portd")
    crowd = box.crowd(7777)
    served = crowd.connect(20, send=b"x")
    crowd.wait_served(served)
    pid = box.main_pid("portd")
    top = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    since = box.cursor()
    box.run("prlimit", "--pid", box.show("portd", "MainPID")["MainPID"], f"--nofile={top + 1}:")
    crowd.connect(40, send=b"x")
    now, took = wait_status(box, "full: ", 3, crowd)
    seen = STATUS.fullmatch(now)
    check(seen and seen[10], "the form of", now)
    at_least(int(seen[9].replace(",", "")), 1, f"EMFILE in {now!r}")
    at_most(int(seen[4]), 5, f"per cent in {now!r}")
    check("out of descriptors" in seen[10], "the reason:", seen[10])
    check("; out of descriptors (EMFILE " in now, "the reason:", now)
    line = observe.text(observe.wait_said(box, since, "full: ", 2))
    check("out of descriptors (EMFILE " in line, "the journal:", line)
    note(f"after {took:.3f} s: {now}")


def test_reload_gives_the_verdict(box):
    """systemctl reload waits, says yes or no, and what portctl printed stands in the journal."""
    box.configure({**ECHO, "shed.queue_timeout": "2s"})
    box.systemctl("start", "portd")
    pid = box.main_pid("portd")
    most = box.stats()["budget"]["max_connections"]
    crowd = box.crowd(7777)
    clients = crowd.connect(5, send=b"x")
    crowd.wait_served(clients)

    box.configure({**ECHO, "budget.max_connections": "77", "listener.address": "[::]:7778"})
    since = box.cursor()
    result = box.systemctl("reload", "portd")
    equal((result.returncode, result.stderr), (0, ""), "a good reload")
    equal(box.stats()["budget"]["max_connections"], 77, "in force when reload returns")
    lines = [observe.text(r) for r in box.journal(since)]
    check("reloaded" in lines, "portctl's word is not in the journal:", lines)
    check("note: [listener] address needs a restart" in lines, "nor its note:", lines)

    box.configure({**ECHO, "budget.max_connections": "many", "shed.queue_timeout": "soon"})
    since = box.cursor()
    result = box.systemctl("reload", "portd", check=False)
    check(result.returncode != 0, "systemctl reload succeeds with a wrong file")
    check("portd.service" in result.stderr, "it says", result.stderr)
    lines = [observe.text(r) for r in box.journal(since)]
    verdict = [line for line in lines if line.startswith("portctl: error: ")]
    check(verdict and "rejected" in verdict[0], "portctl's verdict is not in the journal:", lines)
    for number, key in ((2, "max_connections"), (3, "queue_timeout")):
        found = [line for line in lines if re.search(rf"/etc/portd\.conf:\d+: .*{key}", line)]
        check(found, f"the mistake in {key} is not in the journal:", lines)
    equal(box.stats()["budget"]["max_connections"], 77, "max_connections after a rejected reload")
    show = box.show("portd", "ActiveState", "SubState", "StatusText", "NRestarts", "Result")
    equal((show["ActiveState"], show["SubState"], show["NRestarts"], show["Result"]),
          ("active", "running", "0", "success"), "the unit afterwards")
    check(show["StatusText"].startswith("reload failed: /etc/portd.conf:"), "status:",
          show["StatusText"])
    check("; open: 5 of 77 connections" in show["StatusText"], "status:", show["StatusText"])

    box.configure({**ECHO, "budget.max_connections": str(most)})
    box.systemctl("reload", "portd")
    now, _ = wait_status(box, f"open: 5 of {most:,} ", 1)
    equal(box.main_pid("portd"), pid, "process id")
    crowd.ask(clients)


def test_reload_loses_no_connection(box):
    """20 reloads, two of them rejected, under connections that echo all the time."""
    options = {**ECHO, "workers.fd_table": "private", "workers.count": "4"}
    box.configure(options)
    box.systemctl("start", "portd")
    crowd = box.crowd(7777)
    clients = crowd.connect(200, send=b"x")
    crowd.wait_served(clients)
    verdicts = []

    def reload_twenty_times():
        for number in range(20):
            bad = number % 7 == 6
            box.configure({**options, "shed.queue_timeout": "never" if bad else f"{number + 1}s",
                           "listener.backlog": str(100 + number)})
            result = box.systemctl("reload", "portd", check=False)
            verdicts.append("rejected" if result.returncode else "reloaded")

    before = box.stats()
    reloads = threading.Thread(target=reload_twenty_times)
    began = time.monotonic()
    reloads.start()
    rounds, newcomers = 0, []
    while reloads.is_alive():
        newcomers += crowd.connect(5, send=b"y")
        crowd.ask(clients, b"%08d" % rounds)
        rounds += 1
    reloads.join()
    took = time.monotonic() - began
    crowd.wait_served(newcomers)
    at_least(rounds, 20, "rounds of echo beside the reloads")
    equal(verdicts, ["rejected" if number % 7 == 6 else "reloaded" for number in range(20)],
          "verdicts")
    equal(sum(c.end is not None for c in crowd), 0, "connections that ended")
    want = b"x" + b"".join(b"%08d" % n for n in range(rounds))
    check(all(c.data == want for c in clients), "an echo is not what was sent")
    after = box.stats()
    equal(after["pid"], before["pid"], "pid")
    equal((sum(after["shed"].values()), sum(after["closed"].values())), (0, 0), "shed, closed")
    equal(after["listener"]["backlog_effective"], 119, "the last reload's backlog")
    note(f"20 reloads in {took:.2f} s; {rounds} rounds with 200 connections, "
         f"{len(newcomers)} newcomers")


def test_stop_drains_and_says_so(box):
    """Those that end by themselves before the deadline, those that do not, and the journal."""
    box.configure({**ECHO, "timeouts.drain": "1500ms"})
    box.systemctl("start", "portd")
    since = box.cursor()
    crowd = box.crowd(7777)
    short, lasting = crowd.connect(10, send=b"x"), crowd.connect(10, send=b"x")
    crowd.wait_served(short + lasting)
    began = time.monotonic()
    stop = observe.begin(box, "stop", "portd")
    line = observe.text(observe.wait_said(box, since, "stopping: ", 2))
    check("20 connections are open, [timeouts] drain is 1500ms" in line, "the journal:", line)
    show = box.show("portd", "ActiveState", "SubState", "StatusText")
    equal((show["ActiveState"], show["SubState"]), ("deactivating", "stop-sigterm"), "the unit")
    check(show["StatusText"].startswith("draining: 20 of "), "status:", show["StatusText"])
    crowd.ask(short + lasting, b"still here")
    for client in short:
        client.shutdown()
    crowd.wait(lambda: all(c.end for c in short), 1, "those that finish")
    equal(crowd.tally(short), {"served": 10}, "their end")
    equal({c.end for c in short}, {"fin"}, "their end")
    equal([c.end for c in lasting], [None] * 10, "the others meanwhile")
    crowd.ask(lasting, b"and still")
    crowd.wait(lambda: all(c.end for c in lasting), 3, "the deadline")
    ends = [c.ended - began for c in lasting]
    at_least(min(ends), 1.45, "seconds until the first of them was ended")
    at_most(max(ends), slow(2.0), "seconds until the last of them was ended")
    code, out = observe.finish(stop, 5)
    note(f"systemctl stop took {time.monotonic() - began:.2f} s; ended at the deadline: {spread(ends)}")
    equal((code, out), (0, ""), "systemctl stop")
    ended_well(box, since)
    lines = observe.said(box, since)
    check("the drain deadline has passed" in lines, "the journal:", lines)
    check(re.fullmatch(r"stopped after \d+ s: 20 accepted, 0 shed, 20 closed, 10 of them at the end "
                       "of the drain", lines[-1]), "the last line:", lines[-1])


def test_stop_ends_when_the_last_has_gone(box):
    box.configure({**ECHO, "timeouts.drain": "20s"})
    box.systemctl("start", "portd")
    since = box.cursor()
    crowd = box.crowd(7777)
    clients = crowd.connect(5, send=b"x")
    crowd.wait_served(clients)
    stop = observe.begin(box, "stop", "portd")
    observe.wait_said(box, since, "stopping: ", 2)
    crowd.ask(clients)
    began = time.monotonic()
    for client in clients:
        client.close()
    equal(observe.finish(stop, 5), (0, ""), "systemctl stop")
    at_most(time.monotonic() - began, slow(0.5), "seconds from the last close to the end of stop")
    check(observe.said(box, since)[-1].endswith(
        "5 accepted, 0 shed, 5 closed, 0 of them at the end of the drain"), "the last line")


def test_a_drain_without_end(box):
    """It outlives TimeoutStopSec, for portd asks for more time; a second stop signal ends it."""
    box.configure({**ECHO, "timeouts.drain": "infinity"})
    box.dropin("portd.service", "[Service]\nTimeoutStopSec=1s\n")
    box.systemctl("start", "portd")
    since = box.cursor()
    crowd = box.crowd(7777)
    clients = crowd.connect(5, send=b"x")
    crowd.wait_served(clients)
    stop = observe.begin(box, "stop", "portd")
    observe.wait_said(box, since, "stopping: 5 connections are open, [timeouts] drain is infinity", 2)
    crowd.run(slow(2.2))  # twice as long as systemd would wait by itself
    crowd.ask(clients, b"here")
    equal(stop.poll(), None, "systemctl stop")
    equal(box.show("portd", "SubState")["SubState"], "stop-sigterm", "the unit")
    # As systemd has it, another systemctl stop joins the first and sends nothing.
    again = observe.begin(box, "stop", "portd")
    crowd.run(0.3)
    crowd.ask(clients, b"here")
    began = time.monotonic()
    box.systemctl("kill", "--signal=TERM", "portd")
    for process in (stop, again):
        equal(observe.finish(process, 5), (0, ""), "systemctl stop")
    at_most(time.monotonic() - began, slow(1), "seconds from the second signal to the end")
    crowd.wait(lambda: all(c.end for c in clients), 1, "all are told")
    lines = observe.said(box, since)
    check("stopping at once: asked again" in lines, "the journal:", lines)
    ended_well(box, since)


def test_a_second_signal(box):
    """Who stops in a hurry needs no drain of its own, and loses none of the account. Within 100 ms it would
    be the same wish."""
    box.configure({**ECHO, "timeouts.drain": "infinity"})
    box.systemctl("start", "portd")
    crowd = box.crowd(7777)
    clients = crowd.connect(5, send=b"x")
    crowd.wait_served(clients)
    since = box.cursor()
    pid = box.main_pid("portd")
    os.kill(pid, signal.SIGTERM)
    observe.wait_said(box, since, "stopping: ", 2)
    crowd.run(slow(0.2))
    os.kill(pid, signal.SIGINT)
    box.wait_show("portd", 2, ActiveState="inactive")
    ended_well(box, since)
    check(observe.said(box, since)[-1].endswith("5 closed, 5 of them at the end of the drain"),
          "the last line:", observe.said(box, since)[-1])


# Starts that fail.

def fails(box, code):
    """systemctl start fails, once; returns the cursor from before it."""
    since = box.cursor()
    check(box.systemctl("start", "portd", check=False).returncode != 0, "systemctl start succeeds")
    # Where another start is to come, the unit is activating (auto-restart) meanwhile.
    show = box.show("portd", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts")
    equal(show, {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code",
                 "ExecMainStatus": str(code), "NRestarts": "0"}, "the unit")
    return since


@for_each(what=("value", "key", "budget", "missing"))
def test_a_wrong_file_is_one_line_and_no_loop(box, what):
    """Exit 78 once. The line names the file and the line in it, as far as there is one."""
    text, place, word = {
        "value": ("[service]\ntype = echo\n[shed]\nqueue_timeout = soon\n", "/etc/portd.conf:4: ",
                  "soon"),
        "key": ("# first\n[shed]\nque\u0443e_timeout = 1s\n", "/etc/portd.conf:3: ",
                "no name of a key"),
        "budget": ("[budget]\nfds = 128\nmax_connections = 9000\n", "", "max_connections"),
        "missing": (None, "/etc/portd.conf", "")}[what]
    if text is None:
        box.remove("/etc/portd.conf")
        os.mkdir(box.path("/etc/portd.conf"))  # there, and no file
    else:
        box.write("/etc/portd.conf", text)
    try:
        since = fails(box, 78)
        records = observe.records(box, since)
        lines = [observe.text(record) for record in records]
        equal(len(lines), 1, f"lines of portd's: {lines}")
        note(lines[0])
        equal(records[0]["PRIORITY"], "3", "its priority: `journalctl -p err` must show it")
        check(place in lines[0] and word in lines[0], lines[0])
        check(lines[0].isascii() and lines[0].isprintable(), "not for a terminal:", repr(lines[0]))
        crowd = box.crowd(7777)
        [client] = crowd.connect(1)
        crowd.wait_answered([client], 1)
        equal(client.end, "refused", "the port")
    finally:
        box.remove("/etc/portd.conf")
    box.configure(ECHO)
    box.systemctl("start", "portd")  # without reset-failed


def test_wrong_usage_does_not_loop(box):
    path = re.search(r"path=(\S+)", box.show("portd", "ExecStart")["ExecStart"])[1]
    box.dropin("portd.service", f"[Service]\nExecStart=\nExecStart={path} --no-such-option\n")
    since = fails(box, 64)
    lines = box.journal(since, "portd.service")
    check(any("no-such-option" in observe.text(line) for line in lines), "nothing names the option")


def take_port(box):
    with box.network():
        return socket.create_server(("127.0.0.1", 7777))


def test_a_taken_port_is_tried_five_times(box):
    """Exit 71; not for ever."""
    taken = take_port(box)
    box.configure({**ECHO, "listener.address": "127.0.0.1:7777"})
    since = box.cursor()
    began = time.monotonic()
    check(box.systemctl("start", "portd", check=False).returncode != 0, "the start succeeds")
    while True:
        gave_up = box.show("portd", "ActiveState", "SubState", "ExecMainStatus") == {
            "ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "71"}
        records = observe.records(box, since)
        starts = [int(record["__MONOTONIC_TIMESTAMP"]) / 1e6 for record in records]
        # Five starts within StartLimitIntervalSec. Where each takes long, earlier ones are forgotten.
        within = [n for n in range(5, len(starts) + 1) if starts[n - 1] - starts[n - 5] < 3.0]
        if gave_up:
            break
        check(not within or len(starts) <= within[0], "it goes on:", starts)
        if len(starts) >= 10:
            raise Skip(f"this machine is too slow for five starts in 5 s: {starts}")
        time.sleep(0.1)
    took = time.monotonic() - began
    lines = [observe.text(record) for record in records]
    at_least(len(lines), 5, f"starts: {lines}")
    check(all("cannot listen on 127.0.0.1:7777: the port is taken" in line for line in lines), lines)
    note(f"gave up after {took:.1f} s: {lines[0]}")
    taken.close()
    box.systemctl("reset-failed", "portd")
    box.systemctl("start", "portd")
    equal(box.portctl("health").stdout, "open\n", "health")


def test_a_port_that_comes_free_is_taken(box):
    """A failed start that would now succeed does: that is what the five tries are for."""
    taken = take_port(box)
    box.configure({**ECHO, "listener.address": "127.0.0.1:7777"})
    since = box.cursor()
    start = observe.begin(box, "start", "portd")
    observe.wait_said(box, since, "the port is taken", 3)
    taken.close()
    observe.finish(start, 10)
    box.wait_show("portd", 3, ActiveState="active", SubState="running")


def test_a_clipped_limit_is_told(box):
    """LimitNOFILE= asks for 1048576; systemd says nothing where the machine gives less."""
    box.configure(ECHO)
    since = box.cursor()
    box.systemctl("start", "portd")
    with open(f"/proc/{box.main_pid('portd')}/limits") as file:
        hard = int(re.search(r"^Max open files\s+\d+\s+(\d+)", file.read(), re.M)[1])
    found = [line for line in observe.said(box, since) if "RLIMIT_NOFILE" in line]
    note(f"hard limit {hard}: {found}")
    if hard >= 1048576 or box.stats()["budget"]["bound_by"] != "fds":
        equal(found, [], "a notice without a reason")
    else:
        equal(len(found), 1, "lines that name RLIMIT_NOFILE")
        check("1048576" in found[0] and str(hard) in found[0], found[0])
    equal(box.stats()["budget"]["fds"], hard, "descriptors that portd counts with")


if __name__ == "__main__":
    container.main()
