"""Listings of connections (`conns`) while portd stands still, and by clients that hang up or do not read:
healthy workers are not named as missing, what threads share is safe, root is not locked out."""

import contextlib
import os
import time

import tap
from harness import Portd
from once import NOBODY
from process import Trace, need_root
from tap import TABLES, Skip, check, equal, for_each, note, slow
from test_conns import PLACES, ports, read_all, stream


@for_each(table=TABLES)
def test_after_a_pause(table):
    """All of portd stands still in the midst of a piece, for longer than any worker may."""
    with Portd({"workers.count": "1"}, table=table) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3, send=b"x"))
        # The first thread after main: a sanitizer's own comes before it.
        tid = portd.worker_tids()[-1]
        # A piece takes 0.2 s: less than a stall, and enough to stop portd meanwhile.
        trace = Trace(portd, ["-e", "trace=getpeername", "-e", "inject=getpeername:delay_enter=70ms"],
                      [tid])
        with stream(portd) as sock:
            end = time.monotonic() + slow(3)
            while "(" not in trace.text():
                check(time.monotonic() < end, "the piece is not begun")
                time.sleep(0.001)
            portd.pause()
            time.sleep(1.1)
            portd.resume()
            text = read_all(sock)
        trace.stop()
        if "has stalled" in portd.log():
            raise Skip("under strace the piece took as long as a stall")
        check("missing" not in text and text.endswith("\nend 3\n"), text)
        equal(len(ports(text)), 3, "rows")
        equal(portd.request("health live"), "live\n", "health live")


@for_each(table=TABLES)
def test_hang_up(table):
    """Clients of listings from a network hang up at any moment: its memory goes once (ASan, TSan)."""
    with Portd({"workers.count": "3"}, table=table) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(900, send=b"x"), 10)
        end, rounds = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            socks = [stream(portd, b"conns 127.0.0.0/8\n", buffer=4096) for _ in range(3)]
            for number, sock in enumerate(socks):
                if (rounds + number) % 3:
                    sock.recv(1000)
                sock.close()
            rounds += 1
        note(f"{rounds} rounds")
        # The last ones that hung up may still have their places.
        end = time.monotonic() + slow(5)
        while (text := portd.request("conns 127.0.0.0/8")).startswith("error: 4 listings"):
            check(time.monotonic() < end, "no place for a listing")
        equal(len(ports(text)), 900, "rows afterwards")


@contextlib.contextmanager
def user(uid):
    """What this process connects to sees it as this user."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_root_is_not_locked_out():
    """Somebody who may ask reads slowly at all places: the oldest ends for root's listing, no other."""
    need_root()
    with Portd({"control.mode": "0666"}) as portd:
        os.chmod(portd.dir, 0o755)
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(6000, send=b"x", source=("127.0.5.1", 0)), 20)
        with user(NOBODY):
            slow_ones = [stream(portd, buffer=4096) for _ in range(PLACES)]
            for sock in slow_ones:
                check(sock.recv(10).startswith(b"open "), "it has begun")
            busy = portd.request("conns")
        equal(busy, "error: 4 listings of connections are under way; try again\n", "their fifth")
        for _ in range(3):
            equal(portd.request("conns 10.0.0.0/8"), "open 6000\nend 0\n", "a listing for root")
        texts = [read_all(sock) for sock in slow_ones]
        for sock in slow_ones:
            sock.close()
        equal(["\nend 6000\n" in text for text in texts], [False, True, True, True], "whole listings")
        # Root's own are no different: a fifth has to wait.
        socks = [stream(portd, buffer=4096) for _ in range(PLACES)]
        check(portd.request("conns").startswith("error: 4 listings"), "root's fifth")
        for sock in socks:
            sock.close()


if __name__ == "__main__":
    tap.main()
