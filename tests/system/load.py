"""Clients that come at a fixed rate whatever portd does (an open loop), and miss nothing that happens
to them.

    with Load(box, clients=8, rate=500) as load:
        ...
        report = load.stop()
    equal(report.outcomes, {"served": report.started}, "what became of the clients")

Each client is a process of its own: connection n is due at start + n / rate, absolutely, so that a
portd that answers late does not slow them down. A connection sends 8 bytes of its own and is served
when it has got these back; it then ends with a reset, which leaves no TIME_WAIT.

As a program (what Load starts): load.py HOST PORT RATE SOURCE. It prints a line when it is ready,
reads the time of its first connection from standard input (CLOCK_MONOTONIC), goes on until the end of
that, and prints what it has seen as JSON.
"""

import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
IP_BIND_ADDRESS_NO_PORT = 24
PATIENCE = 15.0  # seconds to wait for the last answers


class Open:
    """A connection that has no answer yet."""

    __slots__ = ("sock", "began", "up", "word", "seen")

    def __init__(self, sock, began, word):
        self.sock, self.began, self.word = sock, began, word
        self.up, self.seen = None, b""


class Source:
    """The client itself."""

    def __init__(self, host, port, rate, source):
        self.target, self.rate, self.source = (host, port), rate, source
        self.epoll = select.epoll()
        self.open = {}
        self.waits = []  # [connect(), answer] of each that was served
        self.lost = []   # [outcome, connect(), connected or None, end] of all others
        self.started = 0
        self.late = 0.0  # the most that one was begun after it was due

    def begin(self, due):
        now = time.monotonic()
        self.late = max(self.late, now - due)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((self.source, 0))
        one = Open(sock, time.monotonic(), struct.pack("<Q", self.started))
        self.started += 1
        self.open[sock.fileno()] = one
        failed = sock.connect_ex(self.target)
        if failed not in (0, errno.EINPROGRESS):
            self.lose(one, failed)
            return
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        self.speak(one)  # on loopback it is up by now, if it will be at all without a wait

    def speak(self, one):
        try:
            one.sock.send(one.word)
            one.up = time.monotonic()
            self.epoll.modify(one.sock.fileno(), select.EPOLLIN)
        except BlockingIOError:
            self.epoll.modify(one.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError as failed:
            self.lose(one, failed.errno)

    def listen(self, one):
        try:
            data = one.sock.recv(64)
        except BlockingIOError:
            return
        except OSError as failed:
            self.lose(one, failed.errno)
            return
        one.seen += data
        if not data or not one.word.startswith(one.seen):
            self.lose(one, "closed" if not data else "wrong bytes")
        elif one.seen == one.word:
            self.waits.append([one.began, time.monotonic()])
            self.end(one)

    def lose(self, one, why):
        words = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}
        word = why if isinstance(why, str) else words.get(why, errno.errorcode.get(why, str(why)))
        self.lost.append([word, one.began, one.up, time.monotonic()])
        self.end(one)

    def end(self, one):
        del self.open[one.sock.fileno()]
        one.sock.close()

    def turn(self, seconds):
        for fd, events in self.epoll.poll(max(0.0, seconds)):
            one = self.open.get(fd)
            if one is not None and one.up is None:
                failed = one.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    self.lose(one, failed)
                    continue
                self.speak(one)
                one = self.open.get(fd)
            if one is not None and events & ~select.EPOLLOUT:
                self.listen(one)

    def run(self, start, told):
        """Until `told` (a descriptor) is at its end; then until all have an answer, or PATIENCE."""
        self.epoll.register(told, select.EPOLLIN)
        asked = select.poll()
        asked.register(told, select.POLLIN | select.POLLHUP)
        while not asked.poll(0):
            due = start + self.started / self.rate
            if time.monotonic() < due:
                self.turn(due - time.monotonic())
            else:
                self.begin(due)
                self.turn(0)
        self.epoll.unregister(told)
        took, end = time.monotonic() - start, time.monotonic() + PATIENCE
        while self.open and time.monotonic() < end:
            self.turn(end - time.monotonic())
        for one in list(self.open.values()):
            self.lose(one, "unanswered")
        return {"started": self.started, "seconds": took, "late": self.late,
                "waits": self.waits, "lost": self.lost}


class Report:
    """What became of all of them: `waits` [connect(), answer] of those that were served, `lost`
    [outcome, connect(), connected or None, end] of all others, `rate` really reached."""

    def __init__(self, parts):
        self.started = sum(part["started"] for part in parts)
        self.rate = sum(part["started"] / part["seconds"] for part in parts)
        self.late = max(part["late"] for part in parts)
        self.waits = [wait for part in parts for wait in part["waits"]]
        self.lost = [lost for part in parts for lost in part["lost"]]

    @property
    def outcomes(self):
        found = {"served": len(self.waits)}
        for outcome, *_ in self.lost:
            found[outcome] = found.get(outcome, 0) + 1
        return found

    def seconds(self, since=0.0):
        """From connect() to the answer, of those that began at `since` or later."""
        return [answer - began for began, answer in self.waits if began >= since]


class Load:
    """Clients in the container's network, each a process; they end with the block at the latest."""

    def __init__(self, box, port=7777, clients=8, rate=500):
        self.clients = []
        with box.network():
            for number in range(clients):
                self.clients.append(subprocess.Popen(
                    [sys.executable, "-BSE", os.path.abspath(__file__), "127.0.0.1", str(port),
                     str(rate), f"127.0.1.{number + 1}"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for client in self.clients:
            client.stdout.readline()
        self.start = time.monotonic() + 0.05
        for client in self.clients:
            client.stdin.write(f"{self.start!r}\n")
            client.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.kill()
            client.communicate()

    def stop(self):
        """Ends it: no more connections; waits for the answers that are due. Returns the Report."""
        for client in self.clients:
            client.stdin.close()
        parts = [json.loads(client.stdout.read()) for client in self.clients]
        for client in self.clients:
            client.wait()
            client.stdout.close()
        clients, self.clients = self.clients, []
        failed = [client.returncode for client in clients if client.returncode]
        if failed:
            raise RuntimeError(f"clients failed: {failed}")
        return Report(parts)


def main():
    host, port, rate, source = sys.argv[1:]
    client = Source(host, int(port), float(rate), source)
    print("ready", flush=True)
    start = float(os.read(0, 64))
    json.dump(client.run(start, 0), sys.stdout)


if __name__ == "__main__":
    main()
