"""Tuples: whoever differs in one part of the tuple is another client, and is told so."""

import socket

import tap
from clients import source
from harness import Portd
from tap import TABLES, Skip, at_most, check, equal, for_each, note, slow

TUPLE = {"service.type": "tuple"}
FLOOD = b"z" * (100 * 1024)


def line(src, dst):
    return f"tcp {src[0]} {src[1]} {dst[0]} {dst[1]}\n".encode()


def free_port(address, family=socket.AF_INET):
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def names(clients):
    """The line that each must get, from its own end of the connection. Before it ends."""
    return [line(c.sock.getsockname()[:2], c.sock.getpeername()[:2]) for c in clients]


def all_at_once(portd, crowd, connect):
    """portd stands still while connect() makes its clients, then serves them all."""
    portd.pause()
    try:
        clients = connect()
        crowd.wait(lambda: all(c.up for c in clients), 5, "all are connected")
        wanted = names(clients)
    finally:
        portd.resume()
    crowd.wait(lambda: all(c.end for c in clients), 5, "all get a line and the end")
    for client, text in zip(clients, wanted):
        equal(client.data, text, "the line")
        equal(client.end, "fin", "how it ended")
        equal(int(text.split()[4]), portd.port, "the destination port is the listener's")
    equal(len({c.data for c in clients}), len(clients), "different lines")
    return clients


def served(portd, count):
    """portd's own view: that many were served and closed by the service, none otherwise."""
    portd.assert_rows("closed", {"service": count})
    portd.assert_rows("shed", {})


@for_each(table=TABLES)
def test_same_port_on_many_addresses(table):
    with Portd(TUPLE, table=table) as portd:
        crowd = portd.crowd()
        port = free_port(source(0))
        all_at_once(portd, crowd, lambda: [crowd.connect(source=(source(n), port))[0]
                                           for n in range(250)])
        served(portd, 250)


@for_each(table=TABLES)
def test_same_address_many_ports(table):
    with Portd(TUPLE, table=table) as portd:
        crowd = portd.crowd()
        all_at_once(portd, crowd, lambda: crowd.connect(500, source=(source(7), 0)))
        served(portd, 500)


@for_each(listener=("0.0.0.0", "[::]"))
def test_one_source_to_two_destinations(listener):
    with Portd({**TUPLE, "listener.address": f"{listener}:0"}) as portd:
        crowd = portd.crowd("127.0.0.1")
        port = free_port(source(3))
        two = all_at_once(portd, crowd, lambda: [
            crowd.connect(source=(source(3), port), target=(dst, portd.port))[0]
            for dst in ("127.0.0.1", "127.0.0.2")])
        equal({c.data for c in two},
              {line((source(3), port), (dst, portd.port)) for dst in ("127.0.0.1", "127.0.0.2")},
              "IPv4 is shown as IPv4, each with its own destination")


def test_v6():
    try:
        free_port("::1", socket.AF_INET6)
    except OSError:
        raise Skip("no IPv6 on loopback") from None
    with Portd({**TUPLE, "listener.address": "[::1]:0"}) as portd:
        crowd = portd.crowd()
        for client in all_at_once(portd, crowd, lambda: crowd.connect(20)):
            check(client.data.startswith(b"tcp ::1 "), client.data)


def test_v4_and_v6_on_one_listener():
    with Portd({**TUPLE, "listener.address": "[::]:0"}) as portd:
        four, six = portd.crowd("127.0.0.1"), portd.crowd("::1")
        for crowd, host in ((four, b"127.0.0.1"), (six, b"::1")):
            for client in all_at_once(portd, crowd, lambda: crowd.connect(5)):
                check(client.data.startswith(b"tcp " + host + b" "), client.data)


@for_each(table=TABLES)
def test_line_arrives_although_100_kib_wait_unread(table):
    with Portd(TUPLE, table=table) as portd:
        crowd = portd.crowd()
        portd.pause()
        clients = crowd.connect(40, send=FLOOD)
        crowd.run(0.3, lambda: not any(c.pending for c in clients))
        wanted = names(clients)
        note("sent at least", min(c.sent for c in clients), "bytes before portd looked")
        portd.resume()
        crowd.wait(lambda: all(c.end for c in clients), 5, "all get the end")
        for client, text in zip(clients, wanted):
            equal(client.data, text, "the line")
        note(crowd.tally(), {end: sum(c.end == end for c in clients) for end in ("fin", "reset")})
        served(portd, 40)


@for_each(table=TABLES)
def test_line_arrives_while_the_client_goes_on_sending(table):
    """And a client that never stops, and never closes, does not keep its descriptor."""
    with Portd(TUPLE, table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(20, send=FLOOD * 100)
        crowd.wait(lambda: all(c.end for c in clients), 5, "all get the end")
        for client in clients:
            check(client.data.startswith(b"tcp 127.0.0.1 "), client.data[:80], client.end)
        served(portd, 20)


def test_client_that_keeps_its_side_open():
    """The line, the end of file; portd's descriptor is back although the client does not close."""
    with Portd(TUPLE) as portd:
        socks = [socket.create_connection((portd.host, portd.port)) for _ in range(20)]
        for sock in socks:
            sock.settimeout(slow(5))
            equal(sock.recv(200), line(sock.getsockname(), sock.getpeername()), "the line")
            equal(sock.recv(200), b"", "the end")
        portd.assert_no_leak(3)
        for sock in socks:
            sock.close()


def test_served_at_once():
    """One after the other, each waits for nothing."""
    with Portd(TUPLE) as portd:
        crowd = portd.crowd()
        waits = []
        for _ in range(200):
            client, = crowd.connect()
            crowd.wait(lambda: client.end, 5, "served")
            waits.append(client.ended - client.began)
        note("connect to end of file:", tap.spread(waits))
        at_most(sorted(waits)[len(waits) // 2], slow(0.005), "the median")
        at_most(sorted(waits)[197], slow(0.1), "the 99th percentile")


if __name__ == "__main__":
    tap.main()
