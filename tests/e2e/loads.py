"""One portload that runs, the objects that it prints, and small servers for it that behave badly."""

import json
import os
import socket
import struct
import subprocess
import threading

import tap
from harness import BUILD
from tap import check, equal, slow

PORTLOAD = os.path.abspath(os.environ.get("PORTLOAD", os.path.join(BUILD, "portload")))
HISTOGRAM = ["count", "mean", "p50", "p90", "p99", "p999", "max"]


class Load:
    """One portload that runs; the objects that it prints, and its exit status."""

    def __init__(self, *arguments, nofile=None, wrapper=(), env=None):
        command = ["prlimit", f"--nofile={nofile}:{nofile}"] if nofile else list(wrapper)
        command += [PORTLOAD, *map(str, arguments)]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                        env=tap.leaks(dict(os.environ) if env is None else env),
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self):
        """Byte by byte: what readline() had read ahead would be lost for finish()."""
        text = ""
        while not text.endswith("\n") and (byte := os.read(self.process.stdout.fileno(), 1)):
            text += byte.decode()
        check(text, "portload ended:", self.process.stderr.read() if not text else "")
        return books(json.loads(text))

    def finish(self, status=0):
        out, err = self.process.communicate(timeout=slow(30))
        equal(self.process.returncode, status, f"exit status ({err!r})")
        equal(err, "", "standard error")
        return books(json.loads(out)) if out.startswith("{") else out

    def children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return [int(pid) for pid in file.read().split()]


def books(report):
    """Every attempt has its outcome."""
    equal(sum(report["outcomes"].values()) + report["undecided"], report["attempted"],
          f"outcomes and undecided of {report}")
    for name in ("connect_seconds", "first_byte_seconds", "shed_seconds"):
        equal(list(report[name]), HISTOGRAM, name)
        times = [report[name][key] for key in ("p50", "p90", "p99", "p999", "max")]
        equal(times, sorted(times), f"percentiles of {name}")
    return report


def load(command, target, *arguments, status=0, nofile=None):
    """Runs it to its end."""
    words = ["--json"] if "--text" not in arguments else []
    arguments = [a for a in arguments if a != "--text"]
    with Load(command, target, *arguments, *words, nofile=nofile) as run:
        return run.finish(status)


def outcomes(report):
    return {name: n for name, n in report["outcomes"].items() if n}


def target(portd):
    return f"{portd.host}:{portd.port}" if ":" not in portd.host else f"[{portd.host}]:{portd.port}"


class Server:
    """A small server on a port of its own: behave(socket) is called with each that it accepts."""

    def __init__(self, behave=None, backlog=128):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.kept = []
        self.behave = behave
        if behave:
            self.thread = threading.Thread(target=self.serve, daemon=True)
            self.thread.start()

    def serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
                self.kept.append(sock)
                self.behave(sock)
            except OSError:
                if self.listener.fileno() < 0:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for sock in self.kept:
            sock.close()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def say(text, then=lambda sock: sock.close()):
    def behave(sock):
        sock.sendall(text)
        sock.recv(100)
        then(sock)
    return behave
