"""A NOTIFY_SOCKET of the tests' own: a real unix datagram socket, as systemd's is."""

import os
import re
import socket
import threading
import time

from tap import slow


class Notify:
    """A NOTIFY_SOCKET: a thread reads it all the time, so that portd never waits for us."""

    def __init__(self, path):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.settimeout(0.1)
        self.messages = []  # (time, text)
        self.store = {}     # name: descriptors; the test closes, or takes, what is its own
        self.news = threading.Condition()
        self.closing = False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.closing:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
            except socket.timeout:
                continue
            except OSError:
                return
            text = data.decode(errors="replace")
            with self.news:
                self.keep(text, fds)
                self.messages.append((time.monotonic(), text))
                self.news.notify_all()

    def keep(self, text, fds):
        """The descriptor store, as systemd has it: FDSTORE=1, FDSTOREREMOVE=1, FDNAME=."""
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        name = fields.get("FDNAME", "stored")
        if fields.get("FDSTOREREMOVE") == "1":
            for fd in self.store.pop(name, []):
                os.close(fd)
        elif fields.get("FDSTORE") == "1":
            self.store.setdefault(name, []).extend(fds)
            fds = []
        for fd in fds:
            os.close(fd)

    def lines(self, start=0):
        """Each line of the messages from number `start` on."""
        with self.news:
            return [line for _, text in self.messages[start:] for line in text.splitlines()]

    def wait(self, line, seconds, start=0, alive=lambda: True):
        """Waits for this line (or a line that begins with it, if it ends with "="); its number."""
        wanted = lambda seen: seen == line or (line.endswith("=") and seen.startswith(line))
        deadline = time.monotonic() + slow(seconds)
        with self.news:
            while True:
                for number, (_, text) in enumerate(self.messages[start:], start):
                    if any(wanted(seen) for seen in text.splitlines()):
                        return number
                left = deadline - time.monotonic()
                if left <= 0 or not alive():
                    return None
                self.news.wait(min(left, 0.02))

    def wait_match(self, pattern, seconds, start=0):
        """Waits for a line that is all of this regular expression; its match, or None."""
        deadline = time.monotonic() + slow(seconds)
        while True:
            with self.news:
                for line in (line for _, text in self.messages[start:] for line in text.splitlines()):
                    if match := re.fullmatch(pattern, line):
                        return match
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.news.wait(min(left, 0.02))

    def close(self):
        self.closing = True
        self.thread.join()
        self.sock.close()
        for fd in sum(self.store.values(), []):
            os.close(fd)
        self.store = {}
