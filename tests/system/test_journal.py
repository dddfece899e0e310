"""The journal: records with ids and fields, nothing raw, and nobody stops for a journal that does."""

import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import time
import types

import container
import root
from records import TABLE, records, wait_record
from process import LIBC, Trace, need
from tap import at_least, at_most, check, equal, for_each, note, slow, spread

JOURNALD = [f"systemd-journald{unit}" for unit in
            (".service", ".socket", "-dev-log.socket", "-audit.socket")]
# For flap(): clients that come while portd still learns that those before them have left must not
# be shed.
PATIENCE = f"{int(slow(100))}ms"
PIDFD_GETFD = 438
HOSTILE = b"\x1b]0;owned\x07\x1b[31m\r\nPORTD_FORGED=yes\nMESSAGE=forged\xff\xfe\xc3\x28\x7f\x9b31m"


def start(box, options=None):
    """Starts portd; returns its clients."""
    box.configure({"listener.address": "127.0.0.1:7777", "service.type": "echo",
                   "workers.count": "2", "timeouts.drain": "0s", **(options or {})})
    box.systemctl("start", "portd")
    return box.crowd(7777)


def set_limit(box, soft):
    """Changes the soft RLIMIT_NOFILE of the running portd, as only its own user may."""
    pid = box.show("portd", "MainPID")["MainPID"]
    box.run("prlimit", f"--pid={pid}", f"--nofile={soft}:", user="portd")


def wait_state(box, state, seconds=3):
    deadline = time.monotonic() + slow(seconds)
    while box.portctl("health", check=False).stdout.strip() != state:
        check(time.monotonic() < deadline, f"not {state} within {seconds} s")
        time.sleep(0.05)


@contextlib.contextmanager
def traced(box, *arguments, threads=slice(None)):
    """strace at work on the workers."""
    need("strace")
    pid = box.main_pid("portd")
    folder = tempfile.mkdtemp(prefix="portd-", dir="/tmp")
    tids = sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))[1:][threads]
    trace = Trace(types.SimpleNamespace(pid=pid, dir=folder, helpers=[]), arguments, tids)
    try:
        yield
        trace.stop()
    finally:
        trace.process.kill()
        trace.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def blocked_journal(box):
    """journald stands still."""
    pid = box.main_pid("systemd-journald")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stuff(box):
    """Fills the queue of the journal's socket for records; one sender alone may not."""
    path = box.path("/run/systemd/journal/socket")
    sent = 1
    while sent:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.sendto(b"MESSAGE=stuffing\n", path)
                    sent += 1


@contextlib.contextmanager
def no_journal(box):
    """journald and its sockets are stopped."""
    box.systemctl("stop", *JOURNALD)
    try:
        yield
    finally:
        box.systemctl("start", *JOURNALD)


def test_life(box):
    """open, full, not-full, reloaded, rejected, stopping, stopped: in this order, with the figures
    that the clients know."""
    since = box.cursor()
    crowd = start(box, {"budget.max_connections": "6", "shed.queue_timeout": "100ms",
                        "timeouts.drain": "200ms", "shed.low_watermark": "50%"})
    served = crowd.connect(6, send=b"x")
    crowd.wait_served(served)
    full = wait_record(box, since, "full")
    crowd.wait_answered(crowd.connect(2), 3)
    for client in served[:4]:
        client.close()
    wait_record(box, since, "not-full")
    box.systemctl("reload", "portd")
    box.write("/etc/portd.conf", "[budget]\nmax_connections = many\nno such line\n")
    check(box.systemctl("reload", "portd", check=False).returncode != 0, "a bad reload succeeds")
    box.systemctl("stop", "portd")

    told = records(box, since)
    equal(" ".join(word for word, _ in told), "open full not-full reloaded rejected stopping stopped", "records")
    seen = {word: {name.removeprefix("PORTD_"): value for name, value in record.items()}
            for word, record in told}
    figures = lambda word, *names: tuple(seen[word][name] for name in names)
    equal(figures("open", "STATE", "ADDRESS", "CONNECTIONS", "CONNECTIONS_MAX", "BOUND_BY",
                  "WORKERS"), ("open", "127.0.0.1:7777", "0", "6", "max_connections", "2"), "open")
    equal(figures("full", "STATE", "REASON", "CONNECTIONS_MAX", "BOUND_BY", "MORE"),
          ("full", "slots", "6", "max_connections", "0"), "full")
    at_least(int(seen["full"]["CONNECTIONS"]), 5, "open, and perhaps the last slot's is on its way")
    check(full["MESSAGE"].endswith("no slot left (max_connections); waiting clients are answered "
                                   "after 100ms with reset"), "the line:", full["MESSAGE"])
    equal(figures("not-full", "STATE", "REASON", "SHED", "SPELLS"), ("open", "slots", "2", "1"),
          "not-full")
    at_least(int(seen["not-full"]["LASTED_USEC"]), 100000, "the spell, us")
    took = (int(seen["not-full"]["_SOURCE_REALTIME_TIMESTAMP"]) -
            int(seen["full"]["_SOURCE_REALTIME_TIMESTAMP"]))
    at_most(int(seen["not-full"]["LASTED_USEC"]), took + slow(0.2) * 1e6, "the spell, us")
    equal(figures("reloaded", "STATE", "FILE", "CONNECTIONS", "CONNECTIONS_MAX"),
          ("open", "/etc/portd.conf", "2", "6"), "reloaded")
    equal(figures("rejected", "STATE", "FILE", "CONNECTIONS_MAX", "MISTAKES"),
          ("open", "/etc/portd.conf", "6", "2"), "rejected")
    check(re.match(r"/etc/portd\.conf:[23]: ", seen["rejected"]["REASON"]), seen["rejected"]["REASON"])
    equal(figures("stopping", "STATE", "ADDRESS", "CONNECTIONS", "DRAIN_USEC"),
          ("draining", "127.0.0.1:7777", "2", "200000"), "stopping")
    equal(figures("stopped", "CONNECTIONS", "ACCEPTED", "SHED", "CLOSED", "DRAINED"),
          ("0", "8", "2", "6", "2"), "stopped")
    at_least(int(seen["stopped"]["UPTIME_USEC"]), 200000, "the uptime, us")


def test_short_of_descriptors(box):
    """Another id than that of full, the errors counted, and systemctl status gives the reason."""
    since = box.cursor()
    crowd = start(box, {"shed.queue_timeout": "infinity"})
    served = crowd.connect(10, send=b"x")
    crowd.wait_served(served)
    pid = box.main_pid("portd")
    top = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
    with open(f"/proc/{pid}/limits") as file:
        old = re.search(r"^Max open files +(\d+)", file.read(), re.M)[1]
    set_limit(box, top + 1)
    waiting = crowd.connect(4, send=b"x")
    record = wait_record(box, since, "no-fds")
    equal((record["PORTD_STATE"], record["PORTD_REASON"]), ("full", "fds"), "state and reason")
    at_least(int(record["PORTD_EMFILE"]), 1, "EMFILE")
    equal(record["PORTD_ENFILE"], "0", "ENFILE")
    deadline = time.monotonic() + slow(10)
    while not (found := re.search(r"Status: \"(full: .*)\"",
                                  box.systemctl("status", "portd", check=False).stdout)):
        check(time.monotonic() < deadline, "systemctl status does not say that it is full")
        time.sleep(0.1)
    check(re.search(r"; out of descriptors \(EMFILE \d+\); clients wait until there is room$",
                    found[1]), "systemctl status:", found[1])
    set_limit(box, old)
    crowd.wait_served(waiting)
    equal(wait_record(box, since, "not-full")["PORTD_REASON"], "fds", "what it began with")
    equal([word for word, _ in records(box, since)], ["open", "no-fds", "not-full"], "the records")


def test_gate(box):
    since = box.cursor()
    crowd = start(box, {"budget.max_connections": "2", "shed.gate": "on", "shed.gate_after": "0s"})
    served = crowd.connect(2, send=b"x")
    crowd.wait_served(served)
    record = wait_record(box, since, "gate-closed")
    equal((record["PORTD_STATE"], record["PORTD_QUEUE_DEPTH"]), ("full", "0"), "state, queue")
    for client in served:
        client.close()
    wait_record(box, since, "gate-open", 7)  # one line of a kind in five seconds


def test_stall(box):
    since = box.cursor()
    start(box)
    stall = min(slow(3.5), 7.0)  # the watchdog would end it after 10 s
    waits = "epoll_wait,epoll_pwait,epoll_pwait2"
    with traced(box, "-e", "trace=" + waits, "-e",
                f"inject={waits}:delay_enter={int(stall * 1e6)}:when=1", threads=slice(0, 1)):
        began = time.monotonic()
        stalled = wait_record(box, since, "stalled")
        at_most(time.monotonic() - began, slow(2.5), "seconds until it was told")
        turns = wait_record(box, since, "turns-again", stall + 3)
    for record, number in (stalled, "1"), (turns, "0"):
        equal((record["PORTD_STALLED"], record["PORTD_WORKERS"]), (number, "2"), "stalled, of")
    equal(turns["PORTD_WORKER"], stalled["PORTD_WORKER"], "the worker")


def test_accept_error(box):
    """An errno that portd has no row for."""
    since = box.cursor()
    crowd = start(box)
    with traced(box, "-e", "trace=accept4", "-e", "inject=accept4:error=EBADMSG:when=1"):
        client, = crowd.connect(1, send=b"x")
        record = wait_record(box, since, "accept-error")
        equal((record["PORTD_REASON"], record["ERRNO"]), ("EBADMSG", "74"), "the error")
        crowd.wait_served([client])


def test_manual_and_catalog(box):
    """The commands of portd(8) find what it says, and journalctl -x explains every id."""
    box.run("journalctl", "--update-catalog")
    since = box.cursor()
    crowd = start(box, {"budget.max_connections": "5"})
    crowd.wait_served(crowd.connect(5, send=b"x"))
    wait_record(box, since, "full")
    box.run("journalctl", "--sync")
    page = root.SOURCE + "/man/portd.8"
    with open(page) as file:
        commands = re.findall(r"^\$ (journalctl .*)$", file.read(), re.M)
    at_least(len(commands), 3, "commands in the manual")
    for command in commands:
        out = box.run(*command.split(), "--no-pager").stdout
        check(re.search(r"full: \d of 5 connections", out), f"{command}:", out)
        if "-x" in command.split():
            check("Subject: portd is full" in out and "All 5 slots are taken." in out, out)
    for id, (word, _, fields) in TABLE.items():
        text = box.run("journalctl", "--dump-catalog", id).stdout
        check(f"-- {id}" in text and "Defined-By: portd" in text, f"{word} is not in the catalog")


def ask(box, request):
    """The answer to one request on the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(slow(5))
        sock.connect(box.path("/run/portd/control.sock"))
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65536):
                answer += data
        return answer


def test_hostile_bytes(box):
    """Escape sequences, newlines and broken UTF-8, wherever they come from, reach neither the
    journal nor systemctl status raw, and forge no field."""
    since = box.cursor()
    crowd = start(box)
    client, = crowd.connect(1, send=HOSTILE)
    crowd.wait_served([client])
    for request in (HOSTILE, HOSTILE + b"\n", b"stats " + HOSTILE, b"reload" + HOSTILE,
                    b"drain\x1b[31m\n"):
        answer = ask(box, request)
        check(re.fullmatch(rb"[\x20-\x7e\n]*", answer), "a raw answer:", answer)
    place = box.path("/etc/portd.conf").encode()
    folder = place + b".d/"
    os.makedirs(folder)
    for name, text in ((place, b"[log]\nlevel = " + HOSTILE + b"\n[" + HOSTILE + b"]\n" + HOSTILE),
                       (folder + HOSTILE.replace(b"/", b"") + b".conf",
                        b"[shed]\nmessage = " + HOSTILE)):
        with open(name, "wb") as file:
            file.write(text)
    try:
        result = box.systemctl("reload", "portd", check=False)
        check(result.returncode != 0, "a bad reload succeeds")
        shown = box.systemctl("show", "--value", "--property=StatusText", "portd").stdout
        check(re.fullmatch(r"reload failed: [\x20-\x7e]*\n", shown), f"STATUS={shown!r}")
        wait_record(box, since, "rejected")
        box.systemctl("stop", "portd")
        check(box.systemctl("start", "portd", check=False).returncode != 0, "it starts")
    finally:
        shutil.rmtree(folder)

    said = [record for record in box.journal(since)
            if record.get("SYSLOG_IDENTIFIER") == "portd" or record.get("_COMM") == "portd"]
    forged = [record for record in said if "PORTD_FORGED" in record
              or str(record["MESSAGE"]).startswith("forged")]
    equal(forged, [], "forged records")
    names = sorted({name for record in said for name in record
                    if name == "MESSAGE" or name.startswith("PORTD_")})
    for record in said:
        for name in names:
            # Bytes that journalctl does not think text come as a list of numbers.
            check(isinstance(record.get(name, ""), str) and
                  re.fullmatch(r"[\x20-\x7e]*", record.get(name, "")), f"{name}={record.get(name)!r}")
    text = "\n".join(record["MESSAGE"] for record in said)
    at_least(text.count(r"\x1b]0;owned\x07\x1b[31m"), 4, "escaped sequences")
    raw = box.run("journalctl", "-q", "-o", "export", f"--after-cursor={since}",
                  "SYSLOG_IDENTIFIER=portd").stdout.encode()
    check(re.fullmatch(rb"[\x20-\x7e\n]+", raw), "raw bytes in the export:",
          set(re.findall(rb"[^\x20-\x7e\n]", raw)))
    # How it starts with such a file: exit 78, and lines of error that are readable.
    equal(box.show("portd", "ExecMainStatus", "NRestarts"),
          {"ExecMainStatus": "78", "NRestarts": "0"}, "the start")
    lines = [r for r in said if r["_TRANSPORT"] == "stdout" and "/etc/portd.conf" in r["MESSAGE"]]
    pids = {r["_PID"] for r in lines}
    equal(len(pids), 2, "processes that named a mistake")
    equal({r["PRIORITY"] for r in lines}, {"3"}, "the priority of mistakes")


def test_hostile_file_name(box):
    """What the log alone has to make safe: the name of the file goes into a field as it is."""
    name = "a\x1b[31m\nPORTD_FORGED=yes\nMESSAGE=forged\x7f\u009b\u00e9.conf"
    quoted = "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in name)
    box.dropin("portd.service", f'[Service]\nExecStart=\nExecStart=/usr/sbin/portd -c "/etc/{quoted}"\n')
    box.write("/etc/" + name, "[listener]\naddress = 127.0.0.1:7777\n")
    since = box.cursor()
    try:
        box.systemctl("start", "portd")
        box.systemctl("reload", "portd")
        record = wait_record(box, since, "reloaded")
    finally:
        box.remove("/etc/" + name)
    equal(record["PORTD_FILE"], r"/etc/a\x1b[31m\x0aPORTD_FORGED=yes\x0aMESSAGE=forged\x7f"
          r"\xc2\x9b\xc3\xa9.conf", "PORTD_FILE")
    equal([r for r in box.journal(since) if "PORTD_FORGED" in r or r.get("MESSAGE") == "forged"], [],
          "forged records")


def flap(box, crowd, slots, seconds):
    """portd gets full and open again, over and over; returns how long each client waited."""
    waits, spells, until = [], 0, time.monotonic() + seconds
    while time.monotonic() < until:
        served = crowd.connect(slots, send=b"x")
        crowd.wait_served(served, 2)
        waits += [client.first - client.began for client in served]
        crowd.wait_answered(crowd.connect(2), 2, "those without a slot are answered")
        for client in served:
            client.close()
        spells += 1
    return waits, spells


@for_each(table=("shared", "private"))
def test_blocked_journal(box, table):
    """journald stands still for longer than the watchdog waits, under load: nobody notices, and
    what was said meanwhile is read when it goes on. With no room for records they are lines."""
    box.dropin("portd.service", "[Service]\nWatchdogSec=2s\n")
    since = box.cursor()
    crowd = start(box, {"budget.max_connections": "4", "shed.queue_timeout": PATIENCE,
                        "shed.low_watermark": "50%", "workers.fd_table": table})
    pid, waits, asked = box.main_pid("portd"), [], []
    with blocked_journal(box):
        for turn in range(4):
            if turn == 1:
                stuff(box)
            more, spells = flap(box, crowd, 4, 1.5)
            waits += more
            began = time.monotonic()
            check(box.portctl("health", check=False).stdout.strip() in ("open", "full"), "health")
            asked.append(time.monotonic() - began)
            at_least(spells, 5, "spells in 1.5 s")
        equal((box.main_pid("portd"), box.show("portd", "NRestarts", "ActiveState")),
              (pid, {"NRestarts": "0", "ActiveState": "active"}), "process and unit")
    note("from connect to service:", spread(waits))
    note("portctl:", spread(asked))
    at_most(max(waits), slow(0.5), "the longest wait for service, s")
    at_most(max(asked), slow(1.0), "the slowest answer to portctl, s")
    wait_state(box, "open")
    wait_record(box, since, "full")  # it waited in the socket
    said = [r for r in box.journal(since) if r.get("SYSLOG_IDENTIFIER") == "portd"]
    check([r for r in said if r["MESSAGE"].startswith("full: ") and r["_TRANSPORT"] == "stdout" and
           "MESSAGE_ID" not in r], "no record has become a line:", [r["MESSAGE"] for r in said])
    equal([r["MESSAGE"] for r in said if "were lost" in r["MESSAGE"]], [],
          "lost lines: there was room for these few")
    since = box.cursor()
    flap(box, crowd, 4, 1)
    wait_record(box, since, "full")


def shrink_stream(box, size):
    """portd's standard error takes no more bytes at once. systemd asks for 8 MiB, which no tool of an
    operator's can fill."""
    pidfd = os.pidfd_open(box.main_pid("portd"))
    fd = LIBC.syscall(PIDFD_GETFD, pidfd, 2, 0)
    os.close(pidfd)
    check(fd >= 0, "pidfd_getfd(2) does not give portd's standard error")
    with socket.socket(fileno=fd) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def test_lost_lines(box):
    """More than the stream holds while journald stands still: nothing waits, and the number of
    lines that are missing is told."""
    box.dropin("portd.service", "[Service]\nLogRateLimitIntervalSec=0\n")
    since = box.cursor()
    crowd = start(box)
    clients = crowd.connect(8, send=b"x")
    crowd.wait_served(clients)
    # A line of the log takes 1,280 bytes of the stream's buffer.
    mistakes, reloads, waits = 20, 8, []
    shrink_stream(box, 32768)
    with blocked_journal(box):
        box.write("/etc/portd.conf", "[log]\n" + ("\x01" * 130 + "\n") * mistakes)
        for _ in range(reloads):
            began = time.monotonic()
            equal(box.portctl("reload", check=False).returncode, 1, "a bad reload")
            crowd.ask(clients)
            check(box.portctl("health").stdout == "open\n", "health")
            waits.append(time.monotonic() - began)
    note("verdict, echo and portctl:", spread(waits))
    at_most(max(waits), slow(5.0), "the longest of these")
    told = box.wait_journal(since, lambda r: "lost: nobody read them" in r.get("MESSAGE", ""), 30)
    lost = int(re.match(r"(\d+) log lines? w", told["MESSAGE"])[1])
    out = box.run("journalctl", "-q", "-o", "cat", f"--after-cursor={since}").stdout
    kept = out.count("has a control character")
    note(f"{kept} lines about mistakes are in the journal, {lost} lines were lost")
    at_least(kept, 10, "lines that waited for it")
    at_least(lost, 10, "lines that did not")
    at_least(kept + lost, mistakes * reloads, "lines kept and lost")
    at_most(kept + lost, mistakes * reloads + 20, "lines kept and lost")


def test_rate(box):
    """However portd flaps, its load makes at most one line a second."""
    since = box.cursor()
    crowd = start(box, {"budget.max_connections": "4", "shed.queue_timeout": PATIENCE,
                        "shed.low_watermark": "50%"})
    began = time.monotonic()
    _, spells = flap(box, crowd, 4, 6)
    took = time.monotonic() - began
    at_least(spells, 20, "spells")
    # What happened last is told too, when its time has come.
    while True:
        told = [(word, r) for word, r in records(box, since) if word in ("full", "not-full")]
        counted = sum(int(r["PORTD_SPELLS"]) for word, r in told if word == "not-full")
        if counted >= spells and told[-1][0] == "not-full":
            break
        check(time.monotonic() - began < took + slow(7), f"{counted} spells were told of")
        time.sleep(0.1)
    note(f"{spells} spells in {took:.1f} s, {len(told)} records")
    at_most(len(told), took / 2.5 + 4, "records: one of each kind in 5 s")
    times = sorted(int(record["_SOURCE_REALTIME_TIMESTAMP"]) for _, record in told)
    at_least(min(b - a for a, b in zip(times, times[1:])), 0.95e6, "us between two")
    at_most(counted, 2 * spells, "spells in not-full")  # two if both that wait come late
    more = sum(int(r["PORTD_MORE"]) + 1 for word, r in told if word == "full")
    at_most(more, counted, "spells in full")
    at_least(more, counted / 2, "spells in full")


def test_no_journal(box):
    """The journal goes and comes back: portd serves, reloads and stops, and is heard again."""
    since = box.cursor()
    crowd = start(box, {"budget.max_connections": "4"})
    pid = box.main_pid("portd")
    with no_journal(box):
        crowd.wait_served(crowd.connect(4, send=b"x"))
        wait_state(box, "full")
        box.systemctl("reload", "portd")
        equal(box.main_pid("portd"), pid, "the process")
    lost = box.wait_journal(since, lambda r: "lost: nobody read them" in r.get("MESSAGE", ""), 5)
    equal(lost.get("_SYSTEMD_UNIT"), "portd.service", "whose line it is")
    since = box.cursor()
    box.portctl("drain")
    line = box.wait_journal(since, lambda r: r.get("MESSAGE", "").startswith("draining"), 3)
    equal((line["PRIORITY"], line["SYSLOG_IDENTIFIER"]), ("6", "portd"), "a line without its stream")
    box.portctl("drain", "--off")
    box.systemctl("reload", "portd")
    wait_record(box, since, "reloaded")


def test_start_without_journal(box):
    with no_journal(box):
        crowd = start(box)
        crowd.wait_served(crowd.connect(8, send=b"x"))
        box.systemctl("reload", "portd")
        box.write("/etc/portd.conf", "nonsense\n")
        check(box.systemctl("reload", "portd", check=False).returncode != 0, "a bad reload succeeds")
        crowd.wait_served(crowd.connect(8, send=b"x"))
        box.systemctl("stop", "portd")
        equal(box.show("portd", "Result"), {"Result": "success"}, "how it ended")


if __name__ == "__main__":
    container.main()
