"""From one portd to the next: nobody is refused, whatever ends the first one.

The clients of a restart under load are load.py's: four processes, 200 connections a second each,
whether portd answers or not.
"""

import os
import re
import signal
import time

import container
import observe
from load import Load
from tap import at_least, at_most, check, equal, for_each, note, slow, spread

ECHO = {"service.type": "echo"}
CLIENTS, RATE = 4, 200
RESTARTS = 3


def accepted_by_all(box, since):
    """How many connections the portds since the cursor have accepted: those that have ended say so in
    their last line, the one that runs in its figures."""
    ended = [int(found[1]) for line in observe.said(box, since)
             if (found := re.match(r"stopped after \d+ s: (\d+) accepted, 0 shed, \1 closed", line))]
    return ended, box.stats()["accept"]["accepted"]


def tell(report, what):
    note(f"{what}: {report.started} connections of {CLIENTS} clients, {report.rate:.0f} a second in "
         f"all, none begun later than {1000 * report.late:.0f} ms after it was due; "
         f"{report.outcomes}; connect to answer {spread(report.seconds())}")


def busy(report):
    """Seconds to allow for a machine that has other things to do: what its clients had to wait for a
    processor says how many."""
    return 3 * report.late


def restart_under_load(box, what):
    """Three restarts; nobody is lost, and nobody waits for a second."""
    box.systemctl("reset-failed", "portd")  # as many restarts in 5 s as we like
    report = restart_three_times(box, what)
    at_most(max(report.seconds()), slow(1.0) + busy(report), "seconds from connect to answer")
    at_least(report.started, RATE, "connections begun")


def restart_three_times(box, what):
    since = box.cursor()
    pids, took = [box.stats()["pid"]], []
    before, inode = box.stats()["accept"]["accepted"], observe.listener(box)
    with Load(box, clients=CLIENTS, rate=RATE) as load:
        time.sleep(0.4)
        for _ in range(RESTARTS):
            began = time.monotonic()
            box.systemctl("restart", "portd")
            took.append(time.monotonic() - began)
            pids.append(box.stats()["pid"])
            time.sleep(0.3)
        report = load.stop()
    tell(report, what)
    note(f"systemctl restart took {spread(took)}")
    equal(report.outcomes, {"served": report.started}, "what became of the clients")
    equal(len(set(pids)), RESTARTS + 1, f"portds: {pids}")
    ended, now = accepted_by_all(box, since)
    equal(len(ended), RESTARTS, "portds that have stopped, with all accounted for")
    equal(sum(ended) + now - before, report.started, "accepted by all of them")
    check(all(count > 0 for count in (ended[0] - before, *ended[1:], now)),
          "one of them did nothing:", ended, now)
    equal(observe.listener(box), inode, "the listening socket")
    equal(box.stats()["listener"]["kernel_drops"], 0, "connections that the kernel dropped")
    equal(box.show("portd", "NRestarts")["NRestarts"], "0", "starts that nobody asked for")
    return report


@for_each(table=("shared", "private"))
def test_restarts_under_load(box, table):
    """The watchdog is content meanwhile, also with a short period."""
    box.configure({**ECHO, "workers.fd_table": table})
    box.dropin("portd.service", "[Service]\nWatchdogSec=1s\n")
    box.systemctl("start", "portd")
    restart_under_load(box, f"stored listener, fd_table {table}")


def test_restarts_under_load_with_a_socket_unit(box):
    box.configure(ECHO)
    box.systemctl("start", "portd.socket", "portd.service")
    restart_under_load(box, "listener of portd.socket")
    equal(box.show("portd.socket", "SubState")["SubState"], "running", "portd.socket")


@for_each(listener=("stored", "portd.socket"))
def test_killed_under_load(box, listener):
    """SIGKILL: those that it had accepted are lost, nobody else is, and the next one is there within
    a second. Once more where the machine was too busy for that."""
    box.configure(ECHO)
    if listener == "portd.socket":
        box.systemctl("start", "portd.socket")
    box.systemctl("start", "portd")
    for number in range(3):
        back, limit = kill_under_load(box, listener, number)
        if back <= limit:
            return
    at_most(back, limit, "seconds until somebody is served again")


def kill_under_load(box, listener, number):
    """Returns after how many seconds somebody was served again, and how many are right."""
    pid, inode = box.main_pid("portd"), observe.listener(box)
    with Load(box, clients=CLIENTS, rate=RATE) as load:
        time.sleep(0.3)
        before = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        box.wait_show("portd", 5, ActiveState="active", SubState="running", NRestarts=number + 1)
        time.sleep(0.3)
        report = load.stop()
    tell(report, f"SIGKILL, {listener} listener")
    back = min(answer for _, answer in report.waits if answer > killed + 0.1) - before
    queued = [wait for wait in report.waits if wait[0] <= killed + 0.05 and wait[1] > killed + 0.1]
    note(f"served again {back:.3f} s after the kill; {len(report.lost)} were lost, "
         f"{len(queued)} came before the end of it and were served by the next")
    for outcome, began, up, _ in report.lost:
        check(outcome in ("reset", "closed") and up is not None and began <= killed,
              f"{outcome} although connect() was {began - killed:+.3f} s from the kill")
    at_most(len(report.lost), 40, "clients that it had accepted and not yet answered")
    equal(observe.listener(box), inode, "the listening socket")
    check(box.main_pid("portd") != pid, "the same process")
    return back, slow(1.0) + busy(report)


def test_killed_with_a_queue(box):
    """What was queued when it was killed is served, every one, and in its order."""
    box.configure({**ECHO, "workers.count": "1"})
    box.systemctl("start", "portd")
    pid = box.main_pid("portd")
    crowd = box.crowd(7777)
    [accepted] = crowd.connect(1, send=b"x")
    crowd.wait_served([accepted])
    observe.pause(pid)
    clients = crowd.connect_gently(300, lambda n: b"%d" % n)
    crowd.run(0.2)
    equal(sum(c.answered for c in clients), 0, "served by a portd that is stopped")
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    crowd.wait_answered(clients, 3)
    equal(crowd.tally(clients), {"served": 300}, "those that were queued")
    equal([c.data for c in clients], [b"%d" % n for n in range(300)], "their echoes")
    at_most(max(c.first for c in clients) - killed, slow(1.0), "seconds from the kill")
    note(f"300 queued: the first was served {min(c.first for c in clients) - killed:.3f} s after the "
         f"kill, the last {max(c.first for c in clients) - killed:.3f} s")
    check(accepted.end in ("reset", "fin"), "the accepted one:", accepted.end)
    check(box.main_pid("portd") != pid, "the same process")


@for_each(timeout=("infinity", "60s"), table=("shared", "private"))
def test_restart_while_full(box, timeout, table):
    """Neither the queue nor the held client is reset: each is served, by the one or the next."""
    box.configure({**ECHO, "budget.max_connections": "4", "shed.queue_timeout": timeout,
                   "timeouts.drain": "500ms", "workers.fd_table": table})
    box.systemctl("start", "portd")
    since = box.cursor()
    crowd = box.crowd(7777)
    served = crowd.connect(4, send=b"x")
    crowd.wait_served(served)
    waiting = crowd.connect_gently(20, lambda n: b"%02d" % n)
    held = int(timeout != "infinity")
    observe.wait_until(lambda: (s := box.stats())["state"] == "full" and s["budget"]["held"] == held
                       and s["listener"]["queue_depth"] == 20 - held, 2, "full", crowd)
    old = box.stats()["pid"]
    restart = observe.begin(box, "restart", "portd")
    # As they are served they go, and make room for the next four.
    done = []

    def go_on():
        for client in waiting:
            if client.received and client not in done:
                done.append(client)
                client.close()
        return len(done) == 20 and restart.poll() is not None

    crowd.wait(go_on, 5, "all that waited are served")
    equal(observe.finish(restart, 5), (0, ""), "systemctl restart")
    equal([c.data for c in waiting], [b"%02d" % n for n in range(20)], "their echoes")
    equal({c.end for c in waiting}, {"we"}, "who ended them")
    check(all(c.end for c in served), "a connection has outlived its portd")
    check(box.stats()["pid"] != old, "the same process")
    last = [line for line in observe.said(box, since) if line.startswith("stopped after")]
    # The held one was closed by its client, or by the deadline if portd was quicker.
    check(len(last) == 1 and f": {4 + held} accepted, 0 shed, {4 + held} closed" in last[0],
          "the old one's account:", last)


@for_each(who=("the deadline", "its client"))
def test_a_long_connection_across_a_restart(box, who):
    """It is drained as configured; newcomers wait for the next portd, and are not refused."""
    box.configure({**ECHO, "timeouts.drain": "1s" if who == "the deadline" else "20s"})
    box.systemctl("start", "portd")
    since = box.cursor()
    crowd = box.crowd(7777)
    [lasting] = crowd.connect(1, send=b"x")
    crowd.wait_served([lasting])
    began = time.monotonic()
    restart = observe.begin(box, "restart", "portd")
    observe.wait_said(box, since, "stopping: 1 connection is open", 2)
    newcomers = crowd.connect(10, send=b"new")
    crowd.ask([lasting], b"still here")
    crowd.run(0.3)
    equal(sum(c.answered for c in newcomers), 0, "newcomers served by a portd that stops")
    equal(lasting.end, None, "the end of the long connection")
    if who == "its client":
        began = time.monotonic()
        lasting.close()
    crowd.wait_served(newcomers, 3)
    took = max(c.first for c in newcomers) - began
    equal(crowd.tally(newcomers), {"served": 10}, "newcomers")
    equal(observe.finish(restart, 5), (0, ""), "systemctl restart")
    lines = observe.said(box, since)
    if who == "the deadline":
        check(lasting.end in ("fin", "reset"), "the long connection:", lasting.end)
        at_least(lasting.ended - began, 0.95, "seconds until it was ended")
        at_most(lasting.ended - began, slow(1.3), "seconds until it was ended")
        at_most(took, slow(1.6), "seconds until newcomers are served")
    else:
        at_most(took, slow(0.6), "seconds from its end until newcomers are served")
    drained = int(who == "the deadline")
    check(any(line.endswith(f"1 accepted, 0 shed, 1 closed, {drained} of them at the end of the drain")
              for line in lines), "the account:", lines)
    note(f"ended by {who}: newcomers were served {took:.3f} s after "
         f"{'the restart began' if drained else 'the end'}")


# The address.

def served_at(box, port, host="127.0.0.1"):
    """"served", or how it ended."""
    with box.crowd(port, host) as crowd:
        [client] = crowd.connect(1, send=b"x")
        crowd.wait_answered([client], 1)
        return client.outcome


def restart(box):
    box.systemctl("reset-failed", "portd")  # as many restarts in 5 s as we like
    box.systemctl("restart", "portd")


def test_a_changed_address_is_honoured(box):
    """After a restart: another port, another address on the same port, and back; each time the old one
    is closed. Without a change the socket is the same one."""
    wanted = (("[::]:7778", "0" * 32), ("0.0.0.0:7778", "0" * 8), ("127.0.0.1:7778", "0100007F"),
              ("[::1]:7778", "0" * 24 + "01000000"), ("[::]:7777", "0" * 32),
              ("127.0.0.1:7777", "0100007F"), ("[::]:7777", "0" * 32))
    box.configure(ECHO)
    box.systemctl("start", "portd")
    before = [observe.listener(box)]
    since = box.cursor()
    for address, place in wanted:
        box.configure({**ECHO, "listener.address": address})
        restart(box)
        port = int(address[-4:])
        equal(list(observe.listeners(box)), [(place, port)], f"listening sockets with {address}")
        equal(served_at(box, port, "::1" if "::1" in address else "127.0.0.1"), "served",
              f"a client of {address}")
        equal(served_at(box, 15555 - port), "refused", f"a client of the other port with {address}")
        before.append(observe.listener(box, port))
        equal(box.stats()["listener"]["address"], address, "what portd says")
    equal(len(set(before)), len(wanted) + 1, f"listening sockets: {before}")
    told = [line for line in observe.said(box, since) if line.startswith("[listener] address is")]
    equal(len(told), len(wanted), f"lines that tell of the change: {told}")
    restart(box)
    equal(observe.listener(box), before[-1], "the socket after a restart without a change")
    equal(served_at(box, 7777), "served", "a client after a restart without a change")


def test_a_changed_address_under_an_established_connection(box):
    """The old port stays closed to newcomers, and the new one answers, while the old one drains."""
    box.configure({**ECHO, "timeouts.drain": "500ms"})
    box.systemctl("start", "portd")
    crowd = box.crowd(7777)
    [lasting] = crowd.connect(1, send=b"x")
    crowd.wait_served([lasting])
    box.configure({**ECHO, "listener.address": "127.0.0.1:7777"})
    box.systemctl("restart", "portd")
    equal(list(observe.listeners(box)), [("0100007F", 7777)], "listening sockets")
    equal(served_at(box, 7777), "served", "a newcomer")
    crowd.wait(lambda: lasting.end, 1, "the old connection")


def test_a_stop_closes_the_stored_listener(box):
    box.configure(ECHO)
    for _ in range(2):
        box.systemctl("start", "portd")
        box.systemctl("restart", "portd")
        equal(box.show("portd", "NFileDescriptorStore")["NFileDescriptorStore"], "1", "stored")
        box.systemctl("stop", "portd")
        equal(observe.listeners(box), {}, "listening sockets after a stop")
        equal(served_at(box, 7777), "refused", "a client after a stop")
    box.systemctl("start", "portd")
    equal(served_at(box, 7777), "served", "a client after another start")


def test_a_restart_with_a_wrong_file(box):
    """The old one has gone by then, so the port is closed, readably; that is why reload comes first."""
    box.configure(ECHO)
    box.systemctl("start", "portd")
    since = box.cursor()
    box.configure({**ECHO, "listener.backlog": "0"})
    check(box.systemctl("restart", "portd", check=False).returncode != 0, "the restart succeeds")
    show = box.show("portd", "ActiveState", "ExecMainStatus", "NRestarts")
    equal(show, {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}, "the unit")
    equal(observe.listeners(box), {}, "listening sockets")
    equal(len([line for line in observe.said(box, since) if "/etc/portd.conf:" in line]), 1,
          "lines that name the mistake")
    box.configure(ECHO)
    box.systemctl("start", "portd")
    equal(served_at(box, 7777), "served", "a client when the file is mended")


def test_a_stalled_worker_is_dealt_with(box):
    """health --live tells; the journal says which; the watchdog ends it; the next one serves what had
    waited."""
    box.configure({**ECHO, "workers.count": "3"})
    box.dropin("portd.service", "[Service]\nWatchdogSec=2s\n")
    box.systemctl("start", "portd")
    pid = box.main_pid("portd")
    since = box.cursor()
    equal(box.portctl("health", "--live").stdout, "live\n", "health --live before")
    crowd = box.crowd(7777)
    worker = 1
    with observe.stalled(observe.threads(pid)[1 + worker]):
        began, began_at = time.monotonic(), time.time()
        record = observe.wait_said(box, since, "has stalled", 2)
        told = int(record["__REALTIME_TIMESTAMP"]) / 1e6 - began_at
        check(f"worker {worker} has stalled" in observe.text(record), observe.text(record))
        equal(record["PRIORITY"], "3", "priority of the line")
        live = box.portctl("health", "--live", check=False)
        equal((live.returncode, live.stdout, live.stderr),
              (1, "", f"portctl: error: worker {worker} has stalled\n"), "health --live")
        equal(box.portctl("health").stdout, "open\n", "health meanwhile")
        clients = crowd.connect(20, send=b"x")
        crowd.wait_served(clients, 1, "served by the other workers")
        record = box.wait_journal(since, lambda r: "Watchdog timeout" in observe.text(r), 4)
        acted = int(record["__REALTIME_TIMESTAMP"]) / 1e6 - began_at
        box.wait_show("portd", 3, ActiveState="active", SubState="running", NRestarts="1")
        back = time.monotonic() - began
        newcomers = crowd.connect(5, send=b"x")
        crowd.wait_served(newcomers, 1)
    check(box.main_pid("portd") != pid, "the same process")
    equal(box.portctl("health", "--live").stdout, "live\n", "health --live afterwards")
    # A quarter of the period until the last ping, the period, and the slack of systemd's timers.
    at_most(acted, slow(3.0), "seconds until the watchdog acted")
    at_most(back - acted, slow(2.0), "seconds from then until portd was back")
    note(f"told after {told:.2f} s, the watchdog acted after {acted:.2f} s, back after {back:.2f} s")


if __name__ == "__main__":
    container.main()
