"""Who is alive and silent stays, who is dead goes: clients that drop every packet play the dead."""

import socket
import struct
import time

import tap
from ctypes import addressof, create_string_buffer
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow

SO_ATTACH_FILTER = 26
DROP_ALL = create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET: no byte of it
LIVING, DEAD = 3000, 100


def die(client):
    """Nothing that comes reaches it: it is gone without a word."""
    program = struct.pack("HxxxxxxP", 1, addressof(DROP_ALL))
    client.sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@for_each(table=TABLES)
def test_the_dead_and_the_living(table):
    """The dead are closed within 1.5 times the period in force, and none of the living; while portd is
    stopped nobody is."""
    with Portd({"timeouts.keepalive": "3s"}, table=table) as portd:
        crowd = portd.crowd()
        living = crowd.connect_gently(LIVING, lambda number: b"x")
        dying = crowd.connect(DEAD, send=b"x")
        crowd.wait_served(living + dying, 20)
        period = portd.stats()["keepalive"]["period_seconds"]
        equal(period, 3, "the period in force")
        for client in dying:
            die(client)
        died = time.monotonic()
        portd.wait_until(lambda s: s["closed"]["timeout"] == DEAD, 1.5 * period + 1, "the dead are closed", crowd)
        took = time.monotonic() - died
        note(f"closed after {took:.2f} s")
        at_least(took, 0.5 * period, "not before they were probed again and again")
        probes = portd.stats()["keepalive"]["probes"]
        portd.pause()
        crowd.run(1.2 * period)
        portd.resume()
        portd.wait_until(lambda s: s["keepalive"]["probes"] > probes + LIVING, 10, "all are probed again", crowd)
        equal(portd.stats()["closed"]["timeout"], DEAD, "closed for keepalive")
        crowd.ask(living, seconds=20)
        for client in dying:
            client.close()


def test_a_dead_one_that_is_held():
    """The head of the queue waits for a slot for as long as it wants, if it is alive."""
    with Portd({"timeouts.keepalive": "3s", "budget.max_connections": "1", "shed.queue_timeout": "1h"}) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 1)
        for number in range(2):
            client, = crowd.connect(1)
            portd.wait_until(lambda s: s["budget"]["held"] == 1, 5, "it is held", crowd)
            if number == 1:
                die(client)
                portd.wait_until(lambda s: s["shed"]["aborted"] == 1, 10, "it is found dead", crowd)
            else:
                crowd.run(5)
                equal(portd.stats()["budget"]["held"], 1, "held")
            client.close()
            portd.wait_until(lambda s: s["budget"]["held"] == 0, 5, "nobody is held", crowd)


def test_who_does_not_read_is_not_dead():
    """A client that is alive and takes nothing: its kernel answers."""
    with Portd({"timeouts.keepalive": "3s"}) as portd:
        crowd = portd.crowd()
        client, = crowd.connect(1, receive_buffer=4096)
        client.read(False)
        client.send(b"x" * 8000000)
        crowd.run(6)
        stats = portd.stats()
        check(stats["traffic"]["bytes_in"] < 8000000, "portd has read everything")
        equal(stats["budget"]["connections"], 1, "connections")
        client.read(True)
        crowd.wait(lambda: client.received == 8000000, 20, "all of it")


def test_off():
    with Portd({"timeouts.keepalive": "0s"}) as portd:
        portd.fill(portd.crowd(), 10)
        equal(portd.stats()["keepalive"], {"probes": 0, "period_seconds": 0}, "keepalive")
        text = portd.portctl("stats").stdout
        check("keepalive         off" in text, text)


if __name__ == "__main__":
    tap.main()
