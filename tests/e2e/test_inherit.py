"""The listener outlives portd: it comes from the service manager, and is given into its keeping.

Here the manager is the test: it hands descriptors over as $LISTEN_FDS and keeps what FDSTORE=1
brings. tests/system has the same with systemd.
"""

import os
import random
import signal
import socket
import threading
import time

import tap
from clients import RESET_ON_CLOSE, Crowd
from harness import Portd
from tap import Skip, TABLES, check, equal, for_each, note, slow

NAME = "portd-listener"
STORE = {"FDSTORE": "1"}


def inode(fd):
    return os.fstat(fd).st_ino


def socket_inodes(portd):
    links = portd.list_fds().values()
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


def listener():
    """On a port that no client gets by itself: it may be asked for on other addresses, too."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8") as file:
        first = int(file.read().split()[0])
    for _ in range(1000):
        try:
            return socket.create_server(("127.0.0.1", random.randrange(first // 2, first)), backlog=64)
        except OSError:
            pass
    raise Skip("no port is free below the clients' range")


def stored(portd):
    """What portd has given away, in a descriptor of our own."""
    check(portd.notify.wait("FDSTORE=1", 2) is not None, "nothing was stored")
    equal(list(portd.notify.store), [NAME], "names in the store")
    equal(len(portd.notify.store[NAME]), 1, "descriptors under that name")
    return os.dup(portd.notify.store[NAME][0])


def ask_to_stop(portd):
    portd.process.send_signal(signal.SIGTERM)
    check(portd.notify.wait("STOPPING=1", 2) is not None, "no STOPPING=1")


class Lives:
    """Several portds, one after the other; what is left of them is ended with the block."""

    def __init__(self):
        self.all = []

    def __enter__(self):
        return self

    def start(self, options=None, **how):
        portd = Portd(options, **how)
        self.all.append(portd)
        return portd

    def end(self, portd):
        """A good end, at rest."""
        for crowd in portd.crowds:
            crowd.close()
        portd.assert_no_leak()
        portd.process.send_signal(signal.SIGTERM)
        portd.expect_exit(0)

    def __exit__(self, kind, *_):
        for portd in self.all:
            if kind is not None:
                portd.tell()
            portd.kill()


@for_each(table=TABLES)
def test_a_restart_refuses_nobody(table):
    with Lives() as lives:
        first = lives.start({"timeouts.drain": "10s"}, table=table, env=STORE)
        fd = stored(first)
        check(inode(fd) in socket_inodes(first), "what was stored is not portd's listener")
        check("FDPOLL=0" in first.notify.lines(), "the manager is to watch the listener")
        # Not the first portd's crowd, which ends with it.
        crowd = Crowd("127.0.0.1", first.port)
        [old] = crowd.connect(1, send=b"old")
        crowd.wait_served([old])

        ask_to_stop(first)
        waiting = crowd.connect(20, send=b"new")
        crowd.ask([old], b"still here")
        check(not any(c.answered for c in waiting), "served or ended by who is stopping:",
              crowd.tally())
        stats = first.stats()
        equal(stats["state"], "draining", "state")
        equal(stats["listener"]["queue_depth"], 20, "clients that wait for the next portd")
        check("newcomers wait for the next portd" in first.log(), "it does not say so:", first.log())
        old.close()
        crowd.run(slow(5), lambda: first.process.poll() is not None)
        first.expect_exit(0)
        check(not any(c.answered for c in waiting), "ended with the old portd:", crowd.tally())

        second = lives.start({"listener.address": f"127.0.0.1:{first.port}"}, table=table, env=STORE,
                             listeners=[(NAME, fd)])
        crowd.wait_served(waiting)
        check(inode(fd) in socket_inodes(second), "the second portd has another listener")
        check("FDSTORE=1" not in second.notify.lines(), "stored again")
        crowd.close()
        lives.end(second)
        # The manager, which is us, lets go of it too.
        os.close(fd)
        for kept in first.notify.store.pop(NAME):
            os.close(kept)
        with Crowd("127.0.0.1", first.port) as late:
            [client] = late.connect()
            late.wait_answered([client])
            equal(client.end, "refused", "after the store has let go")


@for_each(table=TABLES)
def test_who_is_held_is_served_before_the_end(table):
    """Full, one held, others queued: the held one cannot go back into the queue."""
    with Lives() as lives:
        portd = lives.start({"budget.max_connections": "2", "timeouts.drain": "20s",
                             "shed.queue_timeout": "1min"}, table=table, env=STORE)
        fd = stored(portd)
        crowd = Crowd("127.0.0.1", portd.port)
        inside = portd.fill(crowd)
        waiting = crowd.connect(5, send=b"me too")
        portd.wait_until(lambda s: s["budget"]["held"] == 1 and s["listener"]["queue_depth"] == 4, 2,
                         "one is held")
        ask_to_stop(portd)
        crowd.wait_served(waiting[:1], what="who was held is served")
        crowd.ask(inside)
        check(not any(c.answered for c in waiting[1:]), "the queue is for the next portd")
        equal(portd.assert_books()["shed"]["draining"], 0, "shed for draining")
        for client in inside + waiting[:1]:
            client.close()
        portd.expect_exit(0)
        second = lives.start({"listener.address": f"127.0.0.1:{portd.port}"}, table=table,
                             listeners=[(NAME, fd)])
        os.close(fd)
        crowd.wait_served(waiting[1:])
        crowd.close()
        lives.end(second)


@for_each(table=TABLES)
def test_who_is_being_accepted_is_served(table):
    """portd is told to stop while accept4 has a client that nobody has counted yet."""
    with Lives() as lives:
        portd = lives.start({"workers.count": "1", "timeouts.drain": "20s"}, table=table, env=STORE)
        portd.strace("-e", "trace=accept4", "-e", "inject=accept4:delay_exit=500ms:when=1",
                     tids=portd.tids()[1:])
        crowd = Crowd("127.0.0.1", portd.port)
        [client] = crowd.connect(1)
        crowd.run(slow(2), lambda: portd.ss()[0] == 0)
        ask_to_stop(portd)
        portd.wait_until(lambda s: s["budget"]["connections"] == 1, 2, "it is open after all")
        crowd.ask([client])
        client.close()
        portd.expect_exit(0)
        crowd.close()


def ask_all_the_time(port, stop, served, lost):
    """A client after the other, each to get its tuple."""
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), slow(10)) as sock:
                sock.settimeout(slow(10))
                line = sock.makefile("rb").readline()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            if line.startswith(b"tcp 127.0.0.1 "):
                served.append(line)
            else:
                lost.append(f"got {line!r}")
        except OSError as failed:
            lost.append(repr(failed))


@for_each(table=TABLES)
def test_handing_over_under_load_loses_nobody(table):
    options = {"service.type": "tuple", "timeouts.drain": "5s"}
    served, lost, stop = [], [], threading.Event()
    with Lives() as lives:
        portd = lives.start(options, table=table, env=STORE)
        fd = stored(portd)
        options["listener.address"] = f"127.0.0.1:{portd.port}"
        threads = [threading.Thread(target=ask_all_the_time, args=(portd.port, stop, served, lost))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                want, deadline = len(served) + 200, time.monotonic() + slow(10)
                while len(served) < want and time.monotonic() < deadline:
                    time.sleep(0.01)
                check(len(served) >= want, f"{want - len(served)} of 200 were not served")
                portd.process.send_signal(signal.SIGTERM)
                portd.expect_exit(0)
                portd = lives.start(options, table=table, env=STORE, listeners=[(NAME, fd)])
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        note(f"{len(served)} served, {len(lost)} lost")
        equal(lost[:5], [], "clients without an answer")
        lives.end(portd)
        os.close(fd)


@for_each(changed=("127.0.0.2:0", "0.0.0.0:same", "[::]:same"))
def test_a_changed_address_is_honoured(changed):
    with Lives() as lives:
        kept = listener()
        port = kept.getsockname()[1]
        portd = lives.start({"listener.address": changed.replace("same", str(port))}, env=STORE,
                            listeners=[(NAME, kept.fileno())])
        check(portd.notify.wait("FDSTOREREMOVE=1", 2) is not None, "the old one stays in the store")
        new = stored(portd)
        check(inode(new) in socket_inodes(portd), "the new listener is not the one stored")
        check(inode(kept.fileno()) not in socket_inodes(portd), "the old listener is still open")
        check(f"127.0.0.1:{port}" in portd.log(), "the dropped address is not named:", portd.log())
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(4, send=b"x"))
        if "same" not in changed:
            kept.close()
            [late] = crowd.connect(1, target=("127.0.0.1", port))
            crowd.wait_answered([late])
            equal(late.end, "refused", "at the old address")
        lives.end(portd)
        kept.close()
        os.close(new)


def test_a_socket_units_listener_wins():
    with Lives() as lives:
        given, kept = listener(), listener()
        os.set_blocking(given.fileno(), True)
        portd = lives.start({"listener.address": "127.0.0.1:1"}, env=STORE,
                            listeners=[(NAME, kept.fileno()), ("portd.socket", given.fileno())])
        equal(portd.port, given.getsockname()[1], "port")
        warned = [line for line in portd.log_lines() if "warning" in line and "127.0.0.1:1," in line]
        equal(len(warned), 1, "warnings that name the configured address")
        check("portd.socket" in warned[0] and str(portd.port) in warned[0], warned[0])
        equal(given.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1, "keepalive")
        equal(given.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 32767, "TCP_KEEPIDLE")
        check(not os.get_blocking(given.fileno()), "the listener blocks")
        check("FDSTORE=1" not in portd.notify.lines(), "a socket unit's listener was stored")
        check(portd.notify.wait("FDSTOREREMOVE=1", 2) is not None, "the stored one is not forgotten")
        crowd = Crowd("127.0.0.1", portd.port)
        crowd.wait_served(crowd.connect(4, send=b"x"))
        crowd.close()
        lives.end(portd)
        with Crowd("127.0.0.1", portd.port) as late:
            [client] = late.connect(1, send=b"x")
            late.run(0.05)
            equal(client.outcome, "up", "the socket unit's queue still takes clients")
        given.close()
        kept.close()


def test_the_same_address_is_no_warning():
    with Lives() as lives:
        given = listener()
        portd = lives.start({"listener.address": f"127.0.0.1:{given.getsockname()[1]}",
                             "timeouts.keepalive": "0s"}, listeners=[("web", given.fileno())])
        check("warning" not in portd.log(), portd.log())
        equal(given.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 0, "keepalive off")
        lives.end(portd)
        given.close()


def refused(listeners):
    """portd does not start with these; its exit status and what it said."""
    portd = Portd(listeners=listeners, start=False)
    try:
        portd.spawn()
        return portd.process.wait(slow(10)), portd.log_lines()
    finally:
        portd.kill()


def test_what_is_no_listener_is_refused_in_words():
    two = [listener(), listener()]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("\0portd-test-%d" % os.getpid())
    unix.listen()
    client = socket.create_connection(two[0].getsockname())
    pipe = os.pipe()
    cases = (([("a", two[0].fileno()), ("b", two[1].fileno())], "second socket"),
             ([("u", udp.fileno())], "no TCP socket"),
             ([("x", unix.fileno())], "no TCP socket"),
             ([("p", pipe[0])], "no TCP socket"),
             ([("c\x1b[2J", client.fileno())], "Accept=no"))
    for listeners, word in cases:
        status, lines = refused(listeners)
        equal(status, 78, f"exit status for {word}")
        equal(len(lines), 1, f"lines for {word}: {lines}")
        check(word in lines[0] and "\x1b" not in lines[0], lines[0])
    for thing in (*two, udp, unix, client):
        thing.close()
    for fd in pipe:
        os.close(fd)


@for_each(what=("words", "too many", "not ours", "names that are missing", "one that is missing"))
def test_a_wrong_environment_is_survived(what):
    env = {"words": {"LISTEN_FDS": "three"}, "too many": {"LISTEN_FDS": "100"},
           "not ours": {"LISTEN_FDS": "1"},
           "names that are missing": {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"},
           # It must not be whatever portd has opened first.
           "one that is missing": {"LISTEN_FDS": "1", "LISTEN_FDNAMES": NAME}}
    with Lives() as lives:
        # The shell becomes portd, and $$ is its process id; "not ours" has another one's.
        pid = "1" if what == "not ours" else "$$"
        portd = lives.start(env=env[what], wrapper=["sh", "-c", f'LISTEN_PID={pid} exec "$@"', "sh"])
        check("warning: nothing is taken over: $LISTEN_FDS" in portd.log(), "no warning")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(2, send=b"x"))
        lives.end(portd)


@for_each(places=("none", "0", "many"))
def test_without_a_store_the_listener_ends_with_portd(places):
    with Lives() as lives:
        portd = lives.start({"timeouts.drain": "10s"},
                            env={} if places == "none" else {"FDSTORE": places})
        crowd = portd.crowd()
        [client] = crowd.connect(1, send=b"x")
        crowd.wait_served([client])
        ask_to_stop(portd)
        [late] = crowd.connect(1)
        crowd.wait_answered([late])
        equal(late.end, "refused", "a newcomer while draining")
        client.close()
        portd.expect_exit(0)
        check("FDSTORE=1" not in portd.notify.lines(), "stored all the same")


if __name__ == "__main__":
    tap.main()
