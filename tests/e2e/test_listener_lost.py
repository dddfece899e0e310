"""The listener is destroyed from outside, by `ss -K` or by shutdown(2) of a copy: portd listens again
at once, or says that it is down and ends with exit status 1."""

import os
import re
import socket
import subprocess
import time

import tap
from clients import Crowd
from harness import Portd
from process import need, need_root
from tap import TABLES, Skip, at_most, check, equal, for_each, note, slow

NAME = "portd-listener"
WAYS = ("ss -K", "shutdown")


def copy_of(portd):
    """portd's listener, from the store that it has given it to."""
    check(portd.notify.wait("FDSTORE=1", 2) is not None, "nothing was stored")
    return socket.socket(fileno=os.dup(portd.notify.store[NAME][0]))


def listens(port):
    return subprocess.run(["ss", "-ltnH", f"sport = :{port}"], text=True, check=True,
                          capture_output=True).stdout != ""


def kill_listener(port):
    need("ss")
    need_root()
    if not subprocess.run(["ss", "-KltnH", f"sport = :{port}"], text=True, capture_output=True,
                          check=False).stdout:
        raise Skip("this kernel destroys no socket for ss -K")


def destroy(portd, way):
    if way == "ss -K":
        kill_listener(portd.port)
    else:
        with copy_of(portd) as copy:
            copy.shutdown(socket.SHUT_RDWR)


def lost(options=None, **how):
    return Portd(options, env={"FDSTORE": "1"}, **how)


def connect_again(portd, crowd, what):
    """A client that is served, and when; clients until then are refused."""
    began = time.monotonic()
    while True:
        [client] = crowd.connect(send=b"x")
        crowd.wait(lambda c=client: c.answered, 5, what)
        if client.outcome == "served":
            return client, time.monotonic() - began
        check(time.monotonic() - began < slow(3), f"{what}: not within {slow(3):.1f} s")
        crowd.run(0.01)


def free_port():
    """One that the kernel gives to nobody by itself, and that no other test begins with."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8") as file:
        first = int(file.read().split()[0])
    half = first // 2
    for step in range(half):
        port = half + (os.getpid() * 31 + step) % (first - half)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Skip("no port is free below the clients' range")


@for_each(way=WAYS, port=("any", "own"), table=TABLES)
def test_it_listens_again(way, port, table):
    address = f"127.0.0.1:{free_port() if port == 'own' else 0}"
    with lost({"listener.address": address, "timeouts.keepalive": "20s"}, table=table) as portd:
        crowd = portd.crowd()
        old = crowd.connect(20, send=b"x")
        crowd.wait_served(old)
        for number in range(3):
            lines = len(portd.log_lines())
            destroy(portd, way)
            client, took = connect_again(portd, crowd, "it listens again")
            note(f"{way}: served again after {took:.3f} s")
            at_most(took, slow(1.2), "from the end to service")
            crowd.ask(old + [client])
            crowd.ask(crowd.connect(10, send=b"x"))
            portd.wait_until(lambda s: s["state"] == "open", 2, "open")
            equal(portd.stats()["listener"]["backlog_effective"], 4096, "the backlog")
            if number == 0:
                said = portd.log_lines()[lines:]
                check(any("destroyed" in line for line in said), "the log does not say so:", said)
                check(any("listening on 127.0.0.1:" in line for line in said), "the log:", said)
                at_most(len(said), 2, "lines of the log")
        equal(portd.stats()["state"], "open", "state")
        events = [line.split()[1] for line in portd.portctl("events").stdout.splitlines()]
        equal(events.count("down"), 3, "events «down»")
        equal(events.count("up"), 3, "events «up»")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


@for_each(way=WAYS, table=TABLES)
def test_while_full(way, table):
    """One is held and others wait: these are reset with the queue, the held one gets its slot."""
    with lost({"budget.max_connections": "4", "shed.queue_timeout": "1min"}, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 4)
        waiting = crowd.connect(6, send=b"y")
        portd.wait_until(lambda s: s["budget"]["held"] == 1 and s["listener"]["queue_depth"] == 5, 2,
                         "one is held")
        destroy(portd, way)
        crowd.wait(lambda: all(c.end for c in waiting[1:]), 2, "the queue is reset")
        portd.wait_until(lambda s: s["listener"]["backlog_effective"] > 0, 2, "it listens again")
        late = crowd.connect(2, send=b"z")
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 2, 2, "two wait")
        inside[0].close()
        crowd.wait_served(waiting[:1], 2, "who was held is served")
        inside[1].close()
        inside[2].close()
        crowd.wait_served(late, 3, "who came after is served")
        equal(sum(portd.assert_books()["shed"].values()), 0, "shed")


def take_over(portd):
    """Another process has the port, before portd can listen again."""
    portd.pause()
    with copy_of(portd) as copy:
        copy.shutdown(socket.SHUT_RDWR)
    thief = socket.create_server(("127.0.0.1", portd.port), backlog=8)
    portd.resume()
    return thief


def assert_down(portd):
    portd.wait_until(lambda s: s["state"] == "down", 2, "the state is down")
    asked = portd.portctl("health")
    equal((asked.stdout, asked.returncode), ("down\n", 1), "portctl health")
    asked = portd.portctl("health", "--live")
    check(asked.returncode == 1 and "down" in asked.stderr, "health --live:", asked)
    check(re.search(r'portd_state\{state="down"\} 1\n', portd.request("stats prometheus")),
          "no metric says so")
    check("nobody listens" in portd.request("explain 127.0.0.1"), "explain:",
          portd.request("explain 127.0.0.1"))
    check("Address already in use" in portd.log(), "the log:", portd.log())
    check(portd.notify.wait_match("STATUS=down: .* cannot listen again: .*", 2), "STATUS:",
          portd.notify.lines())


def test_the_port_is_taken():
    """Down, not healthy, not live; the open connections go on; exit status 1 after some seconds."""
    with lost({"timeouts.drain": "infinity"}) as portd:
        crowd = Crowd(portd.host, portd.port)
        open_ones = crowd.connect(5, send=b"x")
        crowd.wait_served(open_ones)
        began = time.monotonic()
        thief = take_over(portd)
        assert_down(portd)
        crowd.ask(open_ones)
        crowd.run(slow(9), lambda: portd.notify.wait("STOPPING=1", 0.01) is not None)
        note(f"stopping after {time.monotonic() - began:.1f} s")
        crowd.ask(open_ones, b"still here")
        equal(portd.portctl("health").returncode, 1, "portctl health")
        for client in open_ones:
            client.close()
        portd.expect_exit(1, 5)
        portd.process = None
        crowd.close()
        thief.close()


def test_the_port_is_given_back():
    with lost() as portd:
        thief = take_over(portd)
        assert_down(portd)
        thief.close()
        crowd = portd.crowd()
        connect_again(portd, crowd, "it listens again")
        portd.wait_until(lambda s: s["state"] == "open", 2, "open")
        check("up: listening" in portd.log(), "the log:", portd.log())
        crowd.run(0.2)
        equal(portd.portctl("health", "--live").stdout, "live\n", "health --live")


def test_a_reload_listens_right():
    """listen(2) alone would give connections that are shut down already, or another port."""
    for way in WAYS:
        with lost() as portd:
            portd.pause()
            destroy(portd, way)
            portd.resume()
            equal(portd.reload().splitlines()[0], "reloaded", "the verdict")
            crowd = portd.crowd()
            client, _ = connect_again(portd, crowd, "after the reload")
            crowd.ask([client])
            check("destroyed" in portd.log(), "the log does not say so:", portd.log())


def lift_gate(portd, crowd, gate, inside):
    """The spell of being full is over, or portctl says so."""
    if gate == "drain":
        portd.portctl("drain")
        portd.portctl("drain", "--off")
    for client in inside:
        client.close()
    portd.wait_until(lambda s: s["state"] == "open", 5, "open", crowd)


@for_each(way=WAYS, port=("any", "own"), gate=("closes", "opens", "drain"))
def test_the_gate_listens_right(way, port, gate):
    """The gate's listen(2) may come before any look at the kernel."""
    options = {"listener.address": f"127.0.0.1:{free_port() if port == 'own' else 0}",
               "budget.max_connections": "2", "shed.gate": "on",
               "shed.gate_after": "1s" if gate == "closes" else "0s",
               "shed.queue_timeout": "infinity", "timeouts.drain": "0s"}
    with lost(options) as portd:
        crowd = portd.crowd()
        began = time.monotonic()
        inside = portd.fill(crowd, 2)
        if gate == "closes":
            crowd.run(max(0, began + 0.9 - time.monotonic()))
        else:
            portd.wait_until(lambda s: s["listener"]["backlog_effective"] == 0, 5, "closed", crowd)
        destroy(portd, way)
        if gate == "closes":
            portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 5, "closed", crowd)
        lift_gate(portd, crowd, gate, inside)
        client, _ = connect_again(portd, crowd, "after the gate")
        crowd.ask([client])
        portd.wait_until(lambda s: s["listener"]["backlog_effective"] == 4096, 5, "the backlog", crowd)
        crowd.run(0.1)
        check(any("destroyed" in line for line in portd.log_lines()), "the log:", portd.log())
        check(any("up: listening" in line for line in portd.log_lines()), "the log:", portd.log())
        events = [line.split()[1] for line in portd.portctl("events").stdout.splitlines()]
        equal((events.count("down"), events.count("up")), (1, 1), "events")


@for_each(way=WAYS)
def test_the_gate_lifts_right_at_stop(way):
    """What the service manager keeps for the next process gives no dead connections."""
    with lost({"budget.max_connections": "2", "shed.gate": "on", "shed.gate_after": "0s",
               "shed.queue_timeout": "infinity", "timeouts.drain": "0s"}) as portd:
        crowd = Crowd(portd.host, portd.port)
        portd.fill(crowd, 2)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 5, "closed", crowd)
        with copy_of(portd) as kept:
            portd.pause()
            destroy(portd, way)
            portd.process.terminate()
            portd.resume()
            portd.expect_exit(0)
            portd.process = None
            equal(kept.getsockname()[1], portd.port, "the port")
            kept.settimeout(slow(5))
            with socket.create_connection((portd.host, portd.port), slow(5)) as client:
                accepted, _ = kept.accept()
                with accepted:
                    client.sendall(b"x")
                    accepted.settimeout(slow(5))
                    equal(accepted.recv(1), b"x", "what the next process reads")
        check("destroyed" in portd.log(), "the log:", portd.log())
        crowd.close()


@for_each(way=WAYS)
def test_from_a_socket_unit(way):
    """What a socket unit hands over was destroyed while nobody ran: it listens again."""
    sock = socket.create_server(("127.0.0.1", free_port()), backlog=64)
    if way == "ss -K":
        kill_listener(sock.getsockname()[1])
    else:
        sock.shutdown(socket.SHUT_RDWR)
    with sock, Portd(listeners=[("web.socket", sock.fileno())]) as portd:
        equal(portd.port, sock.getsockname()[1], "the port")
        crowd = portd.crowd()
        clients = crowd.connect(10, send=b"x")
        crowd.wait_served(clients)
        crowd.ask(clients)
        check("did not listen any more" in portd.log(), "the log:", portd.log())


@for_each(error=("EDOM", "EPERM", "ECONNABORTED", "ENETDOWN", "EINTR"))
def test_accept_fails_for_ever(error):
    """From every worker, for as long as one watches: an error that portd does not know, or one that
    would be of one client only, but takes none off the queue."""
    with Portd({"timeouts.drain": "1s"}) as portd:
        crowd = Crowd(portd.host, portd.port)
        portd.strace("-e", "trace=accept4", "-e", f"inject=accept4:error={error}",
                     tids=portd.worker_tids())
        crowd.run(0.3)
        equal(portd.portctl("health").stdout, "open\n", "nobody has come")
        waiting = crowd.connect(3, send=b"x")
        began = time.monotonic()
        portd.wait_until(lambda s: s["state"] == "down", 5, "the state is down", crowd)
        check("cannot accept" in portd.log(), "the log does not name the error:", portd.log())
        note(f"down after {time.monotonic() - began:.1f} s")
        check("accept4 fails" in portd.request("explain 127.0.0.1"), "explain:",
              portd.request("explain 127.0.0.1"))
        equal(portd.portctl("health", "--live").returncode, 1, "health --live")
        crowd.run(slow(9), lambda: portd.process.poll() is not None)
        portd.expect_exit(1)
        portd.process = None
        note(f"ended after {time.monotonic() - began:.1f} s")
        check(not any(c.received for c in waiting), "served:", crowd.tally())
        crowd.close()


def test_accept_fails_in_one_worker():
    """The other one serves: nothing is down."""
    with Portd() as portd:
        crowd = portd.crowd()
        trace = portd.strace("-e", "trace=accept4", "-e", "inject=accept4:error=EDOM",
                             tids=portd.worker_tids()[:1])
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            crowd.wait_served(crowd.connect(1, send=b"x"), 5)
            equal(portd.stats()["state"], "open", "state")
        trace.stop()


if __name__ == "__main__":
    tap.main()
