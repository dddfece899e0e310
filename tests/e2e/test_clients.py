"""Clients as they are: gone before they are accepted, resetting, silent, never reading, half-closed."""

import hashlib
import os
import socket
import threading
import time

import tap
from clients import source
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, plain, slow, spread

MIB = 1 << 20


def connect(portd):
    sock = socket.create_connection((portd.host, portd.port), slow(5))
    sock.settimeout(slow(5))
    return sock


def read_all(sock):
    chunks = []
    while chunk := sock.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


@for_each(table=TABLES)
def test_reset_before_accept(table):
    with Portd({"service.type": "echo"}, table=table) as portd:
        crowd = portd.crowd()
        portd.pause()
        clients = crowd.connect(1000, send=b"never answered")
        for client in clients:
            client.close()
        portd.resume()
        portd.wait_until(lambda s: s["accept"]["accepted"] == 1000, 5, "all are accepted")
        portd.assert_rows("closed", {})
        stats = portd.assert_rows("shed", {"aborted": 1000})
        equal(stats["traffic"]["bytes_out"], 0, "bytes_out")
        equal(stats["state"], "open", "state")


@for_each(table=TABLES, timeout=("60s", "infinity"))
def test_reset_in_the_queue_while_full(table, timeout):
    with Portd({"budget.max_connections": "4", "shed.queue_timeout": timeout}, table=table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        gone = crowd.connect(1000, send=b"x")
        for client in gone:
            client.close()
        live = crowd.connect(2, send=b"x")
        crowd.run(0.1)
        served[0].close()
        crowd.wait_served(live[:1], 1, "the living one behind a thousand dead is served")
        note(f"served {1000 * (live[0].first - live[0].began):.0f} ms after its connect")
        stats = portd.assert_rows("shed", {"aborted": 1000})
        equal(stats["budget"]["connections"], 4, "connections")
        equal(live[1].end, None, "the second living one waits")


@for_each(table=TABLES)
def test_finished_before_accept(table):
    """Their data and their FIN are in the queue: they are alive, and get their echo."""
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        portd.pause()
        clients = crowd.connect(50, send=b"short and done")
        crowd.run(0.2, lambda: not any(c.pending for c in clients))
        for client in clients:
            client.shutdown()
        silent = crowd.connect(50)
        crowd.wait(lambda: all(c.up for c in silent), 5, "all are connected")
        for client in silent:
            client.shutdown()
        portd.resume()
        crowd.wait(lambda: all(c.end for c in clients + silent), 5, "all are served and closed")
        equal({(c.data, c.end) for c in clients}, {(b"short and done", "fin")}, "what they got")
        equal({(c.data, c.end) for c in silent}, {(b"", "fin")}, "what the silent ones got")
        portd.assert_rows("closed", {"client": 100})
        portd.assert_rows("shed", {})


@for_each(table=TABLES)
def test_reset_in_mid_transfer(table):
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(100, send=b"t" * MIB)
        crowd.wait_served(clients)
        for client in clients:
            client.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 0, 2, "all are closed")
        portd.assert_rows("closed", {"reset": 100})


@for_each(table=TABLES)
@plain
def test_never_reading(table):
    """portd stops reading from them, keeps little for each, and serves the others."""
    count = 12
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        before = portd.rss()
        deaf = crowd.connect(count, receive_buffer=8192)
        crowd.wait(lambda: all(c.up for c in deaf), 5, "all are connected")
        flood = bytes(64 * MIB)
        for client in deaf:
            client.read(False)
            client.pending = flood
        last, since = -1, time.monotonic()
        deadline = since + slow(15)
        while time.monotonic() - since < 0.7:
            sent = sum(c.sent for c in deaf)
            if sent != last:
                last, since = sent, time.monotonic()
            check(time.monotonic() < deadline, "portd goes on reading:", sent, "bytes so far")
            for client in deaf:
                crowd.flush(client)
            crowd.run(0.05)
        turns = None
        while turns is None or turns > 20 * took and time.monotonic() < deadline:
            loops, after, took = portd.watch(1.0)
            turns = sum(w["loops"] for w in after["workers"]) - sum(w["loops"] for w in loops["workers"])
        at_most(turns, 20 * took, "turns of the loops while they are blocked")
        grown = portd.rss() - before
        note(f"{last >> 20} MiB were sent before it stopped; portd grew by {grown >> 10} KiB")
        equal(sum(c.end is None for c in deaf), count, "open")
        at_most(grown, (4 + count / 4) * MIB, "growth of resident memory")
        good = crowd.connect(50, send=b"good")
        crowd.wait_served(good, 2, "others are served")
        at_most(max(c.first - c.began for c in good), slow(0.2), "their wait")


def test_never_reading_is_idle():
    """A client that does not read is idle when nothing moves, however much waits for it."""
    with Portd({"timeouts.idle": "1s"}) as portd:
        crowd = portd.crowd()
        deaf, = crowd.connect(1, receive_buffer=8192)
        crowd.wait(lambda: deaf.up, 5, "connected")
        deaf.read(False)
        deaf.send(bytes(64 * MIB))
        portd.wait_until(lambda s: s["closed"]["idle"] == 1, 8, "closed as idle", crowd)
        portd.assert_books()


@for_each(key=("timeouts.idle", "shed.evict_idle"))
def test_slow_reader_is_not_idle(key):
    """A client that reads without a pause moves, though portd waits long for room to send it more."""
    limit = slow(1.0)
    options = {key: f"{round(1000 * limit)}ms", "budget.max_connections": "1", "shed.queue_timeout": "60s"}
    with Portd(options) as portd, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect((portd.host, portd.port))
        sock.setblocking(False)
        began = last = time.monotonic()
        received, full, other = 0, False, None
        # As much as it takes; then no more, or what is sent would be what moves.
        while (now := time.monotonic()) - began < 4 * limit:
            tap.only_within(last, limit / 2, "a client that reads")
            last = now
            try:
                while not full:
                    sock.send(bytes(65536))
            except BlockingIOError:
                full = now - began > 0.5 * limit
            try:
                received += len(sock.recv(20000))
            except BlockingIOError:
                pass
            if full and not other:
                other = portd.crowd().connect(1)
            time.sleep(0.05 * slow(1.0))
        note(f"{received >> 10} KiB were read")
        portd.assert_rows("closed", {})


def test_slow_reader_gets_everything():
    with Portd() as portd, connect(portd) as sock:
        data = os.urandom(8 * MIB)
        writer = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        writer.start()
        digest, received = hashlib.sha256(), 0
        while chunk := sock.recv(65536):
            digest.update(chunk)
            received += len(chunk)
            if received % 7 == 0:
                time.sleep(0.002)
        writer.join()
        equal((received, digest.digest()), (len(data), hashlib.sha256(data).digest()), "the echo")
        portd.assert_rows("closed", {"client": 1})


@for_each(table=TABLES)
def test_half_close(table):
    """Send 1 MiB, say that this is all, and still get all of it."""
    with Portd(table=table) as portd, connect(portd) as sock:
        data = os.urandom(MIB)

        def write():
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.2)  # the echo piles up first
        check(read_all(sock) == data, "the echo differs")
        writer.join()
        stats = portd.assert_rows("closed", {"client": 1})
        equal((stats["traffic"]["bytes_in"], stats["traffic"]["bytes_out"]), (MIB, MIB), "traffic")


def test_half_close_without_data():
    with Portd() as portd, connect(portd) as sock:
        sock.shutdown(socket.SHUT_WR)
        equal(sock.recv(10), b"", "the end")
        portd.assert_rows("closed", {"client": 1})


@for_each(table=TABLES)
def test_first_byte(table):
    limit = slow(0.4)
    with Portd({"timeouts.first_byte": f"{round(1000 * limit)}ms"}, table=table) as portd:
        crowd = portd.crowd()
        began = time.monotonic()
        silent = crowd.connect(50)
        talking = crowd.connect(10, send=b"x")
        late = crowd.connect(10)
        crowd.run(limit / 2)
        for client in late:
            client.send(b"just in time")
        tap.only_within(began, limit, "just in time")
        crowd.wait(lambda: all(c.end for c in silent), 3, "silent clients are closed")
        times = [c.ended - c.began for c in silent]
        note("closed after", spread(times))
        at_least(min(times), limit - 0.005, "first_byte, not before")
        at_most(max(times), limit + slow(0.2), "first_byte, in time")
        crowd.run(0.5)
        equal(sum(c.end is None for c in talking + late), 20, "those that sent are open")
        crowd.ask(talking + late)
        portd.assert_rows("closed", {"first_byte": 50})


@for_each(table=TABLES, service=("echo", "discard"))
def test_idle(table, service):
    limit = slow(0.5)
    options = {"timeouts.idle": f"{round(1000 * limit)}ms", "service.type": service}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        heard = time.monotonic()
        quiet, silent, busy = (crowd.connect(20, send=b"x"), crowd.connect(20),
                               crowd.connect(10, send=b"x"))
        crowd.run(limit / 2)
        touched = time.monotonic()
        for client in quiet:
            client.send(b"y")
        ends = time.monotonic() + 3 * limit
        while time.monotonic() < ends:
            for client in busy:
                client.send(b"z")
            tap.only_within(heard, limit, "busy clients")
            heard = time.monotonic()
            crowd.run(limit / 5)
        equal(sum(c.end is None for c in busy), 10, "busy clients are open")
        crowd.wait(lambda: all(c.end for c in quiet + silent), 2, "idle clients are closed")
        times, silences = [c.ended - touched for c in quiet], [c.ended - c.began for c in silent]
        note("after the last byte:", spread(times), "- silent:", spread(silences))
        for what, least in (("last byte", min(times)), ("connect", min(silences))):
            at_least(least, limit - 0.005, f"idle since the {what}, not before")
        at_most(max(times), limit + slow(0.3), "idle since the last byte, in time")
        at_most(max(silences), limit + slow(0.3), "idle since the connect, in time")
        portd.assert_rows("closed", {"idle": 40})


def test_keepalive_keeps_the_living():
    """Eight thousand that came together and are silent, and alive: the kernel's timers for their
    probes fire together, and only a thousand of them fit into the queue of the loopback device."""
    clients = 8000
    with Portd({"timeouts.keepalive": "12s"}) as portd:
        crowd = portd.crowd()
        everybody = crowd.connect_gently(clients, lambda number: b"x")
        crowd.wait_served(everybody, 20)
        crowd.run(15)  # longer than who is dead is kept
        equal(portd.stats()["closed"]["timeout"], 0, "closed for keepalive")
        equal(crowd.tally(everybody), {"served": clients}, "clients")
        crowd.ask(everybody, seconds=20)


def test_far_deadline():
    """A worker sets no timer for what is seconds away: it is in time all the same, and not only with
    the pulse that comes after, one in 0.9 s."""
    with Portd({"timeouts.idle": "6s", "timeouts.keepalive": "0s"}) as portd:
        crowd, clients = portd.crowd(), []
        for _ in range(3):
            clients += crowd.connect(1, send=b"x")
            crowd.run(0.3)
        crowd.wait(lambda: all(c.end for c in clients), 8, "the idle clients are closed")
        late = sorted(c.ended - c.began - 6 for c in clients)
        note("late", spread(late))
        at_least(late[0], -0.01, "idle, not before")
        # With the pulse one of them is late by up to 0.3 s, and each of the others by 0.3 s more.
        at_most(late[1], 0.28, "idle, in time")
        portd.assert_rows("closed", {"idle": 3})


def test_idle_changes_with_a_reload():
    """A shorter idle time counts for connections that are open already."""
    with Portd({"timeouts.idle": "10min"}) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(20, send=b"x")
        crowd.wait_served(clients)
        portd.write_config({"timeouts.idle": "300ms"})
        equal(portd.reload(), "reloaded\n", "the verdict")
        crowd.wait(lambda: all(c.end for c in clients), 2, "idle clients are closed")
        portd.assert_rows("closed", {"idle": 20})


@for_each(table=TABLES)
def test_discard(table):
    with Portd({"service.type": "discard"}, table=table) as portd:
        with connect(portd) as sock:
            sock.sendall(bytes(4 * MIB))
            sock.shutdown(socket.SHUT_WR)
            equal(read_all(sock), b"", "what discard says")
        stats = portd.assert_rows("closed", {"client": 1})
        equal((stats["traffic"]["bytes_in"], stats["traffic"]["bytes_out"]), (4 * MIB, 0), "traffic")
        crowd = portd.crowd()
        clients = crowd.connect(50, send=b"x" * 1000)
        portd.wait_until(lambda s: s["traffic"]["bytes_in"] == 4 * MIB + 50000, 2, "read", crowd)
        for client in clients:
            client.close()
        portd.wait_until(lambda s: s["closed"]["reset"] == 50, 2, "all reset", crowd)


@for_each(table=TABLES)
def test_workers_share_evenly(table):
    """Long-lived connections: the fullest worker holds at most 1.1 times the emptiest.

    Who accepts depends on who gets a CPU, and on a busy machine a worker may get none for a while:
    three tries.
    """
    with Portd({"workers.count": "4"}, table=table) as portd:
        for _ in range(3):
            crowd = portd.crowd()
            crowd.wait_served(crowd.connect_gently(4000, lambda n: b"e"), 10)
            held = [w["connections"] for w in portd.assert_books()["workers"]]
            ratio = max(held) / min(held)
            note(f"connections of each worker: {held}, {ratio:.3f}")
            equal(sum(held), 4000, "connections")
            if ratio <= 1.1:
                return
            crowd.close()
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "all are closed")
        at_most(ratio, 1.1, "the fullest worker, by the emptiest")


def test_fifteen_thousand_come_and_go():
    """portctl stats shows the truth meanwhile: every snapshot is plausible, the last one exact."""
    with Portd({"service.type": "tuple"}) as portd:
        crowd = portd.crowd()
        done, off = 0, []
        while done < 15000:
            clients = crowd.connect_gently(500, source=(source(done), 0))
            stats = portd.stats()
            off.append(abs(portd.books(stats)))
            crowd.wait(lambda: all(c.end for c in clients), 5, "served")
            done += len(clients)
        note("books off by at most", max(off), "in snapshots under load")
        stats = portd.assert_rows("closed", {"service": 15000})
        equal(stats["accept"]["accepted"], 15000, "accepted")


if __name__ == "__main__":
    tap.main()
