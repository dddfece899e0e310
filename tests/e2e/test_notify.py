"""What the service manager is told: real messages, received on a NOTIFY_SOCKET of either kind."""

import os
import re
import signal
import socket
import time

import tap
from harness import Portd, need
from notify import Notify
from tap import TABLES, Skip, at_least, at_most, check, equal, for_each, note, plain, slow, spread

NUMBER = r"\d{1,3}(?:,\d{3})*"
WHY = (r"(?:no slot left \((?:fds|memory|max_connections)\)|"
       r"out of descriptors \(E[A-Z]+ \d+(?:, E[A-Z]+ \d+)*\)); "
       r"(?:clients wait until there is room|newcomers are answered at once with \w+|"
       r"waiting clients are answered after \w+ with \w+)|"
       r"not yet down to low_watermark \(\d+ %\)")
STATUS = re.compile(rf"STATUS=(?P<state>open|shedding|full|draining): (?P<open>{NUMBER}) of "
                    rf"(?P<slots>{NUMBER}) connections \((?P<share>\d+) %\), (?P<rate>{NUMBER})/s, "
                    rf"queue (?P<queue>\d+)/(?P<backlog>\d+), shed (?P<shed>{NUMBER}), "
                    rf"EMFILE (?P<emfile>{NUMBER})(?:; (?P<why>{WHY}))?")


def times(portd, line, since=0.0):
    """When messages with this line came."""
    with portd.notify.news:
        return [at for at, text in portd.notify.messages if at >= since and line in text.splitlines()]


def statuses(portd, start=0):
    """(time, match) of each STATUS= message; all of them must have the form."""
    with portd.notify.news:
        messages = portd.notify.messages[start:]
    found = []
    for at, text in messages:
        for line in text.splitlines():
            if line.startswith("STATUS="):
                match = STATUS.fullmatch(line)
                check(match, "not the form that was promised:", line)
                equal(match["why"] is not None, match["state"] == "full", f"a reason in {line!r}")
                found.append((at, match))
    return found


def wait_state(portd, state, start, seconds, crowd=None):
    """The first STATUS= with this state since message number start."""
    deadline = time.monotonic() + slow(seconds)
    while True:
        for at, match in statuses(portd, start):
            if match["state"] == state:
                return at, match
        check(time.monotonic() < deadline, f"no STATUS={state} within {slow(seconds)} s:",
              portd.notify.lines(start))
        if crowd is not None:
            crowd.run(0.01)
        else:
            time.sleep(0.005)


@for_each(table=TABLES)
def test_ready_means_serving(table):
    """Its control socket answers, and a client that connects on READY=1 is served at once."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with Portd({"listener.address": f"127.0.0.1:{port}"}, table=table, start=False) as portd:
            portd.spawn()
            deadline = time.monotonic() + slow(10)
            while not times(portd, "READY=1"):
                check(time.monotonic() < deadline, "no READY=1")
            portd.port, portd.host = port, "127.0.0.1"
            crowd = portd.crowd()
            client, = crowd.connect(send=b"x")
            equal(portd.request("health"), "open\n", "health on READY=1")
            crowd.wait_served([client], 1, "a client on READY=1")
            portd.base_fds = 10**6  # not known


@plain
def test_ready_comes_after_listen():
    """Each listen(2) takes half a second: no READY=1 before the port's own has returned."""
    need("strace")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    portd = Portd({"listener.address": f"127.0.0.1:{port}"}, start=False)
    portd.wrapper = ["strace", "-D", "-f", "-qq", "-o", portd.dir + "/strace", "-e", "trace=listen",
                     "-e", "inject=listen:delay_exit=500000"]
    with portd:
        began = time.monotonic()
        portd.start()
        ready = times(portd, "READY=1")[0] - began
        note(f"READY=1 after {ready:.2f} s")
        at_least(ready, 1.0, "seconds until READY=1: two sockets listen")


@for_each(fault=("port taken", "wrong configuration"))
def test_no_ready_without_a_port(fault):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wrong = {"listener.address": f"127.0.0.1:{port}"} if fault == "port taken" else {
            "log.level": "loud"}
        portd = Portd(wrong, start=False)
        try:
            portd.spawn()
            portd.expect_exit(71 if fault == "port taken" else 78, 5)
            portd.notify.wait("READY=1", 0.2)
            equal(portd.notify.lines(), [], "what was told")
        finally:
            portd.kill()


def test_abstract_socket():
    name = f"portd-{os.getpid()}-{time.monotonic_ns()}"
    with Portd(start=False, env={"NOTIFY_SOCKET": "@" + name}) as portd:
        portd.notify.close()
        portd.notify = Notify("\0" + name)
        portd.start()
        check(portd.notify.wait("STATUS=", 2) is not None, "no STATUS=")
        portd.hup()
        statuses(portd)


def check_shedding_ends(portd, crowd, asked):
    start = len(portd.notify.messages)
    told, _ = wait_state(portd, "open", start, 8, crowd)
    at_most(told - asked, slow(6.2), "seconds until STATUS=open, 5 s after the last was shed")
    equal(len(statuses(portd, start)), 1, "messages meanwhile")


@for_each(table=TABLES)
def test_status_of_states(table):
    """Each change of state is told at once, in the promised form, with true figures."""
    with Portd({"budget.max_connections": "1200", "shed.queue_timeout": "60s",
                "listener.backlog": "40", "workers.count": "1"}, table=table) as portd:
        crowd = portd.crowd()
        equal(wait_state(portd, "open", 0, 2)[1]["slots"], "1,200", "slots")
        start = len(portd.notify.messages)
        served = []
        for _ in range(48):  # the queue is not to overflow
            served += crowd.connect(25, send=b"x")
            crowd.wait_served(served[-25:])
        told, status = wait_state(portd, "full", start, 2, crowd)
        at_most(told - served[-1].first, slow(0.4), "seconds from the last slot to STATUS=full")
        equal((status["open"], status["share"], status["backlog"], status["emfile"]),
              ("1,200", "100", "40", "0"), "figures")
        equal(status["why"], "no slot left (max_connections); waiting clients are answered after "
              "60s with reset", "the reason")
        start = len(portd.notify.messages)
        for client in served[:1100]:
            client.close()
        left = time.monotonic()
        told, status = wait_state(portd, "open", start, 2, crowd)
        at_most(told - left, slow(0.4), "seconds until STATUS=open")

        start, asked = len(portd.notify.messages), time.monotonic()
        equal(portd.request("drain"), "draining\n", "drain")
        told, status = wait_state(portd, "draining", start, 2, crowd)
        at_most(told - asked, slow(0.4), "seconds until STATUS=draining")
        equal((status["open"], status["share"]), ("100", "8"), "figures")
        crowd.wait_answered(crowd.connect(7), 2)
        start, asked = len(portd.notify.messages), time.monotonic()
        equal(portd.request("drain off"), "open\n", "drain off")
        told, status = wait_state(portd, "open", start, 2, crowd)
        at_most(told - asked, slow(0.4), "seconds until STATUS=open")
        equal(status["shed"], "7", "shed")

        portd.write_config({"budget.rate": "1", "budget.burst": "1"})
        equal(portd.reload(), "reloaded\n", "the verdict")
        start, asked = len(portd.notify.messages), time.monotonic()
        crowd.wait_answered(crowd.connect(5, send=b"x"), 2)
        told, status = wait_state(portd, "shedding", start, 2, crowd)
        if table == TABLES[0]:
            check_shedding_ends(portd, crowd, asked)


@for_each(options=[{}, {"shed.queue_timeout": "infinity"},
                   {"shed.queue_timeout": "infinity", "shed.evict_idle": "1ms"},
                   {"shed.queue_timeout": "infinity", "source.priority": "127.0.0.9"}])
def test_status_under_pressure(options):
    """With start_at nobody waits, and nobody is evicted, for an ordinary client; unless nobody looks."""
    unseen = options == {"shed.queue_timeout": "infinity"}
    with Portd({"budget.max_connections": "10", "shed.queue_timeout": "60s", "shed.start_at": "80%",
                "shed.answer": "close", "timeouts.idle": "0s", **options}) as portd:
        crowd = portd.crowd()
        start = len(portd.notify.messages)
        while portd.stats()["budget"]["connections"] < 10:
            client, = crowd.connect(1, send=b"x")
            crowd.wait(lambda: client.end or client.first, 2, "served, or answered")
        why = "no slot left (max_connections); " + (
            "clients wait until there is room" if unseen else "newcomers are answered at once with close")
        equal(wait_state(portd, "full", start, 2, crowd)[1]["why"], why, "the reason in STATUS=")
        full = [line for line in portd.log_lines() if " full: " in line]
        equal(len(full), 1, "lines of the log about it")
        check(full[0].endswith(why), "the log:", full[0])
        before = portd.stats()["shed"]["pressure"]
        late = crowd.connect(5, send=b"x")
        if unseen:
            portd.wait_until(lambda s: s["listener"]["queue_depth"] == 5, 2, "they wait", crowd)
        else:
            crowd.wait_answered(late, 2)
        stats = portd.stats()
        equal((stats["shed"]["pressure"] - before, stats["closed"]["evicted"]), (0 if unseen else 5, 0),
              "shed, evicted")


@for_each(table=TABLES)
def test_status_of_a_shortage(table):
    """The reason is the one that holds: descriptors, then slots that are free but not enough."""
    with Portd({"budget.max_connections": "60", "shed.queue_timeout": "0s", "workers.count": "1",
                "shed.low_watermark": "50%", "shed.answer": "close"}, table=table) as portd:
        crowd = portd.crowd()
        served = crowd.connect(40, send=b"x")
        crowd.wait_served(served)
        top = portd.top_fd()
        start = len(portd.notify.messages)
        old, _ = portd.limit_nofile(top + 1)
        crowd.wait_answered(crowd.connect(3), 2)
        _, status = wait_state(portd, "full", start, 2, crowd)
        check(re.fullmatch(r"out of descriptors \(EMFILE \d+\); newcomers are answered at once with "
                           "close", status["why"]), "the reason:", status["why"])
        portd.limit_nofile(old)
        for client in served[:20]:
            client.close()
        wait_state(portd, "open", start, 2, crowd)
        start = len(portd.notify.messages)
        crowd.wait_served(crowd.connect(40, send=b"x"))
        equal(wait_state(portd, "full", start, 2, crowd)[1]["why"],
              "no slot left (max_connections); newcomers are answered at once with close", "why")
        start = len(portd.notify.messages)
        for client in served[20:29]:
            client.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 51, 2, "nine have left", crowd)
        portd.hup()  # for a new STATUS=
        equal(wait_state(portd, "full", start, 2, crowd)[1]["why"],
              "not yet down to low_watermark (50 %)", "why")


def test_status_every_ten_seconds():
    with Portd() as portd:
        first = wait_state(portd, "open", 0, 2)[0]
        number = len(portd.notify.messages)
        check(portd.notify.wait("STATUS=", 11, number) is not None, "no second STATUS=")
        gap = statuses(portd)[-1][0] - first
        note(f"{gap:.2f} s")
        at_most(gap, slow(10.1), "seconds between two")
        at_least(gap, 1.0, "seconds between two: nothing changed")
        equal(times(portd, "WATCHDOG=1"), [], "pings that nobody asked for")


def test_messages_of_a_stop():
    """STOPPING=1, then more time is asked for again before what was asked for is over."""
    portd = Portd({"timeouts.drain": "3s"}, env={"WATCHDOG_USEC": "1000000"})
    try:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3, send=b"x"))
        start, began = len(portd.notify.messages), time.monotonic()
        portd.process.send_signal(signal.SIGTERM)
        portd.expect_exit(0, 6)
        ended = time.monotonic()
        at_least(ended - began, 2.9, "seconds that it took")
        told = portd.notify.messages[start:]
        words = [(at, line) for at, text in told for line in text.splitlines()]
        kinds = [line.split("=")[0] for _, line in words if not line.startswith("WATCHDOG")]
        equal(kinds[0], "STOPPING", f"the first of {kinds}")
        check("READY" not in kinds and "RELOADING" not in kinds, kinds)
        until = began + 90  # systemd's own default
        asked = 0
        for at, line in words:
            if match := re.fullmatch(r"EXTEND_TIMEOUT_USEC=(\d+)", line):
                at_most(at, until, "the time at which more was asked for")
                until, asked = at + int(match[1]) / 1e6, asked + 1
        at_least(asked, 2, "EXTEND_TIMEOUT_USEC= in 3 s")
        at_least(until, ended, "the time that was asked for")
        _, status = statuses(portd, start)[0]
        equal((status["state"], status["open"]), ("draining", "3"), "STATUS= of the stop")
        pings = times(portd, "WATCHDOG=1", began) + [ended]
        at_most(max(b - a for a, b in zip(pings, pings[1:])), slow(1.0), "the longest gap of pings")
    finally:
        portd.kill()


def test_deaf_service_manager():
    """Nobody reads: portd never waits, and what it owes is said once there is room again."""
    with Portd(start=False) as portd:
        deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = portd.dir + "/deaf"
        deaf.bind(path)
        portd.env["NOTIFY_SOCKET"] = path
        portd.spawn()
        deaf.settimeout(slow(10))
        equal(deaf.recv(4096).strip(), b"READY=1", "the first message")
        portd.read_address()
        portd.base_fds = portd.count_fds()
        crowd = portd.crowd()
        took = []
        for _ in range(200):
            began = time.monotonic()
            equal(portd.reload(), "reloaded\n", "the verdict")
            took.append(time.monotonic() - began)
        crowd.wait_served(crowd.connect(20, send=b"x"), 1)
        note("a reload took", spread(took))
        at_most(max(took), slow(0.5), "the longest reload")
        deaf.setblocking(False)
        queued = drain(deaf)
        at_most(len(queued), 400, "messages that fitted")
        deaf.settimeout(slow(3))
        late = [deaf.recv(4096).decode() for _ in range(2)]
        check(any("READY=1" in text for text in late), "READY=1 is still owed; it said", late)
        os.unlink(path)
        deaf.close()
        equal(portd.reload(), "reloaded\n", "the verdict without a service manager")
        crowd.wait_served(crowd.connect(20, send=b"x"), 1)


def drain(sock):
    texts = []
    while True:
        try:
            texts.append(sock.recv(4096))
        except BlockingIOError:
            return texts


if __name__ == "__main__":
    tap.main()
