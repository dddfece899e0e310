"""Somebody else sits behind the control socket: portctl prints nothing that a terminal obeys, and keeps
within bounds of memory and time, whatever comes."""

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time

import tap
from harness import PORTCTL
from tap import at_most, check, equal, for_each, note, slow

EVIL = b"a\x1b]0;owned\x07b\x1b[31mc\x9b31md\x00e\x7ff\xc2\x9bg\rh\n"
MEMORY = {"stats": 40, "conns": 320}  # MiB that portctl may take in all
COMMANDS = (["stats"], ["stats", "--json"], ["stats", "--prometheus"], ["health"], ["limits"],
            ["limits", "--json"], ["events"], ["events", "--json"], ["events", "--utc"],
            ["explain", "192.0.2.1"], ["explain", "--json", "192.0.2.1"], ["conns"], ["conns", "--json"],
            ["drain"], ["drain", "--off"], ["reload"])


def speak(listener, first, then):
    """Answers one request: first, and then the same again and again until nobody listens."""
    with contextlib.suppress(OSError):
        with listener.accept()[0] as sock:
            sock.recv(1000)
            sock.sendall(first)
            while then:
                sock.sendall(then)


def ask(words, first, then=b"", seconds=20):
    """portctl's exit status, output, words, MiB of memory, and seconds, asking a fake portd."""
    with tempfile.TemporaryDirectory(prefix="portd-", dir="/tmp") as folder:
        path = folder + "/fake.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen()
            thread = threading.Thread(target=speak, args=(listener, first, then))
            thread.start()
            began = time.monotonic()
            out, err = folder + "/out", folder + "/err"
            with open(out, "wb") as stdout, open(err, "wb") as stderr:
                child = subprocess.Popen([PORTCTL, "-s", path, *words], stdin=subprocess.DEVNULL,
                                         stdout=stdout, stderr=stderr)
            timer = threading.Timer(slow(seconds), child.kill)
            timer.start()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            timer.cancel()
            thread.join()
            with open(out, "rb") as stdout, open(err, "rb") as stderr:
                return (child.returncode, stdout.read(), stderr.read(), usage.ru_maxrss // 1024,
                        time.monotonic() - began)


def clean(data):
    return all(byte == 10 or 32 <= byte <= 126 for byte in data)


@for_each(answer=("data", "error", "row", "limits"))
def test_escapes(answer):
    said = {"data": EVIL, "error": b"error: " + EVIL, "row": b"open 1\n" + EVIL,
            "limits": b"".join(b"%s 1\n" % name for name in (
                b"pid", b"workers", b"tables", b"fd_table_private", b"fds", b"fds_per_connection",
                b"max_connections", b"connections", b"backlog_configured"))
            + b"".join(b"%s %s" % (name, EVIL) for name in (
                b"version", b"state", b"service", b"bound_by", b"config", b"listener.address",
                b"place.budget.max_connections"))}[answer]
    for words in COMMANDS:
        status, out, err, _, _ = ask(words, said)
        check(status >= 0, words, "was killed")
        check(clean(out) and clean(err), words, "printed", out[:300], err[:300])
        if answer == "error" and words[0] != "limits":
            equal((status, out), (1, b""), f"{words}")
            check(err.startswith(b"portctl: error: a?]0;owned?b"), err)


@for_each(command=("stats", "explain", "health", "events"), kind=("rows", "line"))
def test_endless(command, kind):
    words = {"explain": ["explain", "192.0.2.1"]}.get(command, [command])
    status, out, err, memory, took = ask(words, b"x", (b"y" * 60 + b"\n" if kind == "rows" else b"y" * 61)
                                         * 1000)
    note(f"exit {status} after {took:.2f} s, {memory} MiB")
    equal((status, out), (2, b""), "exit status, output")
    check(b"longer than any of portd's" in err, err)
    if not os.environ.get("PORTD_SANITIZERS"):
        at_most(memory, MEMORY["stats"], "MiB of memory")


@for_each(kind=("rows", "line"))
def test_endless_refusal(kind):
    """It ends, so portctl prints it; but not all of it."""
    said = b"error: " + (b"z" * 1_000_000 + b"\n" if kind == "line" else b"z" * 60 + b"\n" + b"yy\n" * 50000)
    for words in (["stats"], ["reload"], ["explain", "192.0.2.1"], ["conns"]):
        status, out, err, _, _ = ask(words, said)
        check(status in (1, 2) and out == b"", words, status, out[:100])
        at_most(len(err), 8000, f"bytes that {words} says")
        at_most(err.count(b"\n"), 101, "lines")


@for_each(kind=("rows", "missing", "errors"))
def test_endless_conns(kind):
    row = b"192.0.2.1 1 192.0.2.2 2 0 1 1 1 1\n"
    first, then = {"rows": (b"open 1\n", row * 20000), "missing": (b"open 1\n", b"missing 5\n" * 10000),
                   "errors": (b"", b"error: x\n" * 10000)}[kind]
    status, out, err, memory, took = ask(["conns", "--json"], first, then)
    note(f"exit {status} after {took:.2f} s, {memory} MiB, {err.decode().strip()}")
    equal((status, out), ({"rows": 1, "missing": 2, "errors": 1}[kind], b""), "exit status, output")
    equal(err.count(b"\n"), 1, "lines of words")
    if not os.environ.get("PORTD_SANITIZERS"):
        at_most(memory, MEMORY["conns"], "MiB of memory")


if __name__ == "__main__":
    tap.main()
