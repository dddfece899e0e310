"""Floods: ten times as many clients as there are slots, most of them each from a network of its own
and a handful from heavy ones; and priority sources that get in while it goes on.
"""

import os
import select
import signal
import socket
import time

import tap
from clients import close_with_reset
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

SLOTS = 300
LIGHT = 2000  # networks of one client each
HEAVY = 5     # networks of 200 each: with the light ones ten times the slots
EACH = 200
MAY = 4       # connections of one network
STAY = 0.02   # how long a light one stays after it was served
FRIEND = "127.250.0.1"


def light_at(number):
    return f"127.{10 + number // 250}.{number % 250}.7"


def heavy_at(network, number):
    return f"127.200.{network}.{1 + number % 250}"


class Flood:
    """A process that connects from one address after the other, and resets when it is answered.

    waiting: how many connections it keeps under way. It ends with stop(), or with its parent.
    """

    def __init__(self, portd, waiting):
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.run((portd.host, portd.port), waiting)
            finally:
                os._exit(1)

    def run(self, target, waiting):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        parent, epoll, open_now, number = os.getppid(), select.epoll(), {}, 0
        while os.getppid() == parent:
            while len(open_now) < waiting:
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                sock.bind((light_at(number % LIGHT), 0))
                number += 1
                sock.connect_ex(target)
                epoll.register(sock.fileno(), select.EPOLLIN)
                open_now[sock.fileno()] = sock
            for fd, _ in epoll.poll(0.1):
                close_with_reset(open_now.pop(fd))

    def stop(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def flood_of_networks(portd):
    """The heavy ones come first and stay, the light ones close when they were served. Returns both
    when nothing moves any more."""
    crowd = portd.crowd()
    heavy = [[] for _ in range(HEAVY)]
    for number in range(EACH):
        for network, clients in enumerate(heavy):
            clients += crowd.connect(1, send=b"x", source=(heavy_at(network, number), 0))
    light = []
    for number in range(LIGHT):
        light += crowd.connect(1, send=b"x", source=(light_at(number), 0))
        if number % 16 == 0:
            crowd.turn(0)

    leave = lambda: [c.close() for c in light
                     if c.end is None and c.first and time.monotonic() - c.first > STAY]
    deadline = time.monotonic() + slow(15)
    while not all(c.end for c in light):
        check(time.monotonic() < deadline, "light clients wait for ever:", crowd.tally(light))
        leave()
        crowd.run(0.01)
    everybody = [c for clients in heavy for c in clients]
    crowd.wait(lambda: all(c.answered for c in everybody), 5, "the heavy ones are answered")
    return crowd, heavy, light


def share_of(clients):
    return sum(c.received > 0 for c in clients) / len(clients)


@for_each(table=TABLES)
def test_light_networks_are_served_beside_heavy_ones(table):
    options = {"budget.max_connections": str(SLOTS), "source.prefix4": "24",
               "source.max_connections": str(MAY), "shed.queue_timeout": "10s"}
    with Portd(options, table=table) as portd:
        began = time.monotonic()
        crowd, heavy, light = flood_of_networks(portd)
        note(f"{100 * share_of(light):.1f} % of the light ones served, in",
             f"{time.monotonic() - began:.2f} s, after", spread([c.first - c.began for c in light if c.first]))
        equal(crowd.tally(light), {"served": LIGHT}, "light clients")
        for clients in heavy:
            equal(crowd.tally(clients), {"served": MAY, "reset": EACH - MAY}, "a heavy network")
        stats = portd.assert_rows("shed", {"source_limit": HEAVY * (EACH - MAY)})
        equal(stats["accept"]["accepted"], LIGHT + HEAVY * EACH, "accepted")
        equal(stats["sources"]["open"], HEAVY, "networks with open connections")
        crowd.ask([c for clients in heavy for c in clients if c.end is None])


@for_each(table=TABLES)
def test_a_rate_holds_heavy_networks_up(table):
    rate, burst = 2, 10
    options = {"budget.max_connections": str(SLOTS), "source.prefix4": "24",
               "source.rate": str(rate), "source.burst": str(burst), "shed.queue_timeout": "10s"}
    with Portd(options, table=table) as portd:
        began = time.monotonic()
        crowd, heavy, light = flood_of_networks(portd)
        took = time.monotonic() - began
        equal(crowd.tally(light), {"served": LIGHT}, "light clients")
        served = [sum(c.received > 0 for c in clients) for clients in heavy]
        note(f"of each heavy network's {EACH} in {took:.2f} s:", served)
        at_least(min(served), burst, "the burst")
        at_most(max(served), burst + rate * took, "burst + rate * t")
        portd.assert_rows("shed", {"source_rate": HEAVY * EACH - sum(served)})


@for_each(table=TABLES[:1])
def test_without_limits_heavy_ones_starve_the_rest(table):
    """The same flood: what the limits above are for."""
    options = {"budget.max_connections": str(SLOTS), "source.prefix4": "24",
               "shed.queue_timeout": "500ms"}
    with Portd(options, table=table) as portd:
        crowd, heavy, light = flood_of_networks(portd)
        note(f"{100 * share_of(light):.1f} % of the light ones served")
        equal(share_of(light), 0, "share of the light ones served")
        at_least(sum(share_of(clients) for clients in heavy) * EACH, SLOTS, "heavy ones served")


def friends_during(portd, flood, times, pause):
    """So many friends, one after the other; (what they waited until served, how many were not)."""
    took, lost = [], 0
    for _ in range(times):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(slow(5))
            sock.bind((FRIEND, 0))
            began = time.monotonic()
            try:
                sock.connect((portd.host, portd.port))
                sock.sendall(b"x")
                data = sock.recv(1)
            except OSError as failed:
                note("a friend:", failed)
                data = b""
            took.append(time.monotonic() - began)
            lost += data != b"x"
            close_with_reset(sock)
        time.sleep(pause)
    return took, lost


@for_each(table=TABLES, timeout=("0s", "300ms"))
def test_priority_sources_get_in(table, timeout):
    options = {"budget.max_connections": "50", "budget.priority": "4", "shed.queue_timeout": timeout,
               "source.priority": FRIEND}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 50)
        flood = Flood(portd, 16 if timeout == "0s" else 1000)
        try:
            shed = lambda s: sum(s["shed"].values())
            before = portd.wait_until(lambda s: shed(s) > 1000, 10, "the flood is on")
            began = time.monotonic()
            times, pause = (300, 0.002) if timeout == "0s" else (12, 0.02)
            took, lost = friends_during(portd, flood, times, pause)
            seconds = time.monotonic() - began
            after = portd.stats()
        finally:
            flood.stop()
        rate = (shed(after) - shed(before)) / seconds
        note(f"{rate:.0f} shed a second; friends served after", spread(took))
        equal(lost, 0, "friends that were not served")
        at_least(shed(after) - shed(before), 500, "strangers shed meanwhile")
        if timeout == "0s":
            at_most(sorted(took)[len(took) // 2], slow(0.010), "half of the friends")
            at_most(sorted(took)[int(0.99 * len(took))], slow(0.050), "99 % of the friends")
        else:
            at_most(max(took), slow(0.3 + 0.2), "the last friend: queue_timeout, and a bit")
        equal(after["budget"]["connections"] >= 50, True, "slots taken")
        crowd.ask(inside)
        rows = {name for name, n in after["shed"].items() if n}
        check(rows <= {"full", "backlog", "aborted"}, "shed for", rows)


if __name__ == "__main__":
    tap.main()
