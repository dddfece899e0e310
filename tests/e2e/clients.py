"""Many TCP clients in one process: a Crowd is one epoll set of non-blocking sockets.

Nothing here sleeps: Crowd.run waits for events until a predicate holds or a deadline passes. Each
client records what it saw and when (time.monotonic), and closes with a reset by default, so that no
TIME_WAIT is left behind. A reset can reach a client inside its connect(): that is an answer like any
other.
"""

import collections
import errno
import select
import socket
import struct
import time

from tap import Fail, slow

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
IP_BIND_ADDRESS_NO_PORT = 24
KEPT = 65536  # bytes of what a client received that it remembers


def source(number):
    """An address of 127.0.0.0/8 for each number, never 127.0.0.1."""
    number += 2
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def close_with_reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()


class Client:
    """One connection. `end` is None while it is open, then fin, reset, refused or an errno's name."""

    __slots__ = ("crowd", "index", "sock", "fd", "began", "up", "first", "ended", "end", "data",
                 "received", "sent", "pending", "reading", "order", "mask")

    def __init__(self, crowd, index, sock):
        self.crowd = crowd
        self.index = index
        self.sock = sock
        self.fd = sock.fileno()
        self.began = time.monotonic()  # before connect()
        self.up = None                 # connected
        self.first = None              # first byte
        self.ended = None              # end
        self.end = None
        self.order = None              # how many answers the crowd had got before this one
        self.data = b""                # what came first, up to KEPT
        self.received = 0
        self.sent = 0
        self.pending = b""
        self.reading = True
        self.mask = 0

    @property
    def outcome(self):
        """connecting, up; served or message (bytes came); closed, reset, refused, or an errno."""
        if self.received:
            return "message" if self.data == self.crowd.message else "served"
        if self.end is None:
            return "up" if self.up else "connecting"
        return "closed" if self.end == "fin" else self.end

    @property
    def answered(self):
        return self.end is not None or self.received > 0

    @property
    def answered_at(self):
        return self.first if self.first is not None else self.ended

    def send(self, data):
        """Queues bytes; they go out as the connection takes them."""
        self.pending = bytes(self.pending) + data if self.pending else data
        self.crowd.flush(self)

    def shutdown(self):
        """Half-close; what is pending must have gone out."""
        self.sock.shutdown(socket.SHUT_WR)

    def read(self, on):
        """Stops or resumes reading."""
        self.reading = on
        self.crowd.watch(self)

    def close(self, reset=True):
        """Ends it from our side; `end` becomes "we"."""
        if self.sock is None:
            return
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.crowd.finish(self, "we")


class Crowd:
    """Clients of one listener. `message`: what a shed client is told, to tell it from service."""

    def __init__(self, host, port, message=None):
        self.target = (host, port)
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.message = message
        self.epoll = select.epoll()
        self.clients = []
        self.by_fd = {}
        self.answers = 0  # clients that have got something: service, a message, or an end
        self.ends = 0     # clients whose connection the other side has ended

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        return iter(self.clients)

    def __len__(self):
        return len(self.clients)

    def connect(self, count=1, send=b"", source=None, target=None, receive_buffer=None):
        """Starts connections and returns their clients. source: (address, port), port 0 for any."""
        new = []
        for _ in range(count):
            sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if not source[1]:
                    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind(source)
            client = Client(self, len(self.clients), sock)
            self.clients.append(client)
            self.by_fd[client.fd] = client
            self.epoll.register(client.fd, select.EPOLLIN | select.EPOLLOUT)
            client.mask = select.EPOLLIN | select.EPOLLOUT
            client.pending = send
            new.append(client)
            failed = sock.connect_ex(target or self.target)
            if failed == 0:
                self.is_up(client)
            elif failed != errno.EINPROGRESS:
                self.end(client, failed)
            elif send:
                self.flush(client)  # on loopback it is up by now
        return new

    def connect_gently(self, count, send=lambda number: b"", **options):
        """As connect, but handles events between the connects, so that times are true."""
        new = []
        for number in range(count):
            new += self.connect(1, send(number), **options)
            if number % 16 == 15:
                self.turn(0)
        # Until no one is ready any more: who stays in epoll's list for having connected is seen to be
        # answered before those who were answered earlier.
        while self.turn(0):
            pass
        return new

    def is_up(self, client):
        if client.up is None:
            client.up = time.monotonic()

    def watch(self, client):
        if client.sock is None:
            return
        mask = select.EPOLLIN if client.reading else 0
        if client.pending or client.up is None:
            mask |= select.EPOLLOUT
        if mask != client.mask:
            client.mask = mask
            self.epoll.modify(client.fd, mask)

    def flush(self, client):
        if client.sock is None:
            return
        client.pending = memoryview(client.pending)
        try:
            while client.pending:
                count = client.sock.send(client.pending[:262144])
                self.is_up(client)
                client.sent += count
                client.pending = client.pending[count:]
        except BlockingIOError:
            pass
        except OSError as failed:
            client.pending = b""
            if client.reading:
                # What the server said before its reset is still there to be read.
                self.receive(client, failed.errno)
            else:
                self.end(client, failed.errno)
            return
        self.watch(client)

    def receive(self, client, failed=0):
        """Reads what is there, and ends the client at its end."""
        while client.sock is not None:
            try:
                data = client.sock.recv(65536)
            except BlockingIOError:
                if failed:
                    self.end(client, failed)
                return
            except OSError as error:
                self.end(client, error.errno)
                return
            if not data:
                self.end(client, failed)
                return
            if client.first is None:
                client.first = time.monotonic()
                self.count_answer(client)
            client.received += len(data)
            if len(client.data) < KEPT:
                client.data += data

    def count_answer(self, client):
        if client.order is None:
            client.order = self.answers
            self.answers += 1

    def end(self, client, failed):
        words = {0: "fin", errno.ECONNRESET: "reset", errno.EPIPE: "reset",
                 errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout"}
        self.count_answer(client)
        self.ends += 1
        self.finish(client, words.get(failed) or errno.errorcode.get(failed, str(failed)))

    def finish(self, client, word):
        client.end = word
        client.ended = time.monotonic()
        client.pending = b""
        self.by_fd.pop(client.fd, None)
        client.sock.close()
        client.sock = None

    def handle(self, client, events):
        if client.up is None and events & (select.EPOLLERR | select.EPOLLHUP):
            self.end(client, client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            return
        self.is_up(client)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            if client.reading:
                self.receive(client)
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                failed = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self.end(client, failed or errno.ECONNRESET)
        if client.sock is not None and events & select.EPOLLOUT:
            self.flush(client)

    def turn(self, timeout):
        """One wait for events; returns how many there were."""
        events = self.epoll.poll(timeout)
        for fd, mask in events:
            client = self.by_fd.get(fd)
            if client is not None:
                self.handle(client, mask)
        return len(events)

    def run(self, seconds, until=None):
        """Handles events until `until()` holds (True) or the time is over (False)."""
        deadline = time.monotonic() + seconds
        while True:
            if until is not None and until():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.turn(left if until is None else min(left, 0.05))

    def wait(self, until, seconds, what):
        """As run, with a deadline that is scaled, and a failure when it passes."""
        if not self.run(slow(seconds), until):
            raise Fail(f"{what}: not within {slow(seconds):.1f} s; clients: {self.tally()}")

    def wait_served(self, clients, seconds=5.0, what="all are served"):
        """Waits until each of these has received something, and not the message to who is shed."""
        self.wait(lambda: all(c.outcome == "served" for c in clients), seconds, what)

    def wait_answered(self, clients, seconds=5.0, what="all are answered"):
        self.wait(lambda: all(c.answered for c in clients), seconds, what)

    def ask(self, clients, data=b"ping", seconds=5.0):
        """Each of these sends and gets the same back (echo), or this fails."""
        want = {c.index: c.received + len(data) for c in clients}
        for client in clients:
            client.send(data)
        self.wait(lambda: all(c.received >= want[c.index] for c in clients), seconds,
                  "echo on open connections")

    def tally(self, clients=None):
        """How many of each outcome."""
        return dict(collections.Counter(c.outcome for c in (clients or self.clients) if c))

    def close(self):
        """Ends all that is still open, with a reset."""
        for client in list(self.by_fd.values()):
            client.close()
        if not self.epoll.closed:
            self.epoll.close()
