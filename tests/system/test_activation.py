"""portd.socket: the first connection starts portd; ports below 1024; what becomes of the socket when portd
cannot start, and how it is revived.
"""

import re

import container
import observe
from tap import at_most, check, equal, for_each, note, slow, spread

ECHO = {"service.type": "echo"}
ANY = "0" * 32  # [::], as the kernel prints it


def states(box):
    """(sub-state, result) of portd.socket, and of portd.service."""
    return [tuple(box.show(unit, "SubState", "Result")[name] for name in ("SubState", "Result"))
            for unit in ("portd.socket", "portd.service")]


def ask(box, port):
    """One client that leaves at once: what became of it, and how long its answer took."""
    with box.crowd(port) as crowd:
        [client] = crowd.connect(1, send=b"x")
        crowd.wait_answered([client], 3)
        return client.outcome, client.answered_at - client.began


def test_the_first_connection_starts_portd(box):
    """Enabled as the administrator does it; also after portd was stopped."""
    box.configure(ECHO)
    box.systemctl("enable", "--now", "portd.socket")
    try:
        equal(box.show("portd.socket", "UnitFileState", "ActiveState"),
              {"UnitFileState": "enabled", "ActiveState": "active"}, "portd.socket")
        took = []
        for _ in range(2):
            equal(box.show("portd", "ActiveState")["ActiveState"], "inactive", "portd before")
            outcome, seconds = ask(box, 7777)
            equal(outcome, "served", "the client that starts portd")
            took.append(seconds)
            equal(box.stats()["accept"]["accepted"], 1, "accepted")
            box.systemctl("stop", "portd")
            equal(list(observe.listeners(box)), [(ANY, 7777)], "listening sockets after a stop")
        note(f"the client that starts portd: {spread(took)}")
        at_most(max(took), slow(1.0), "seconds until it is served")
        with box.crowd(7777) as many:
            many.wait_served(many.connect(200, send=b"x"), 3, "200 that come at once")
    finally:
        box.systemctl("disable", "portd.socket")


def test_its_listener_is_not_stored(box):
    """But it outlives each portd. With the same address nothing is warned of."""
    box.configure(ECHO)
    since = box.cursor()
    box.systemctl("start", "portd.socket", "portd.service")
    inode = observe.listener(box)
    for _ in range(2):
        equal(box.show("portd", "NFileDescriptorStore")["NFileDescriptorStore"], "0", "stored")
        box.systemctl("restart", "portd")
    equal(observe.listener(box), inode, "the listening socket")
    equal([line for line in observe.said(box, since) if "[listener] address" in line], [], "warnings")


def test_port_80(box):
    """Without any capability; the socket's address wins, and the difference is told."""
    box.configure(ECHO)
    box.dropin("portd.socket", "[Socket]\nListenStream=\nListenStream=80\n")
    since = box.cursor()
    box.systemctl("start", "portd.socket")
    equal(ask(box, 80)[0], "served", "a client on port 80")
    equal(list(observe.listeners(box)), [(ANY, 80)], "listening sockets")
    equal(box.stats()["listener"]["address"], "[::]:80", "what portd says")
    with open(f"/proc/{box.main_pid('portd')}/status") as file:
        capabilities = dict(re.findall(r"^(Cap\w+):\s+(\w+)$", file.read(), re.M))
    equal(set(capabilities.values()), {"0" * 16}, f"capabilities {capabilities}")
    found = [r for r in observe.records(box, since) if r["PRIORITY"] == "4"]
    equal(len(found), 1, f"warnings: {[observe.text(r) for r in found]}")
    words = observe.text(found[0])
    check("[listener] address is [::]:7777" in words and "[::]:80" in words, words)
    note(words)


def test_port_80_without_the_socket_unit(box):
    """Refused, in words that help."""
    box.configure({**ECHO, "listener.address": "[::]:80"})
    since = box.cursor()
    check(box.systemctl("start", "portd", check=False).returncode != 0, "the start succeeds")
    equal(box.show("portd", "ExecMainStatus")["ExecMainStatus"], "71", "exit status")
    line = observe.said(box, since)[0]
    check("cannot listen on [::]:80: permission denied" in line, line)
    check("portd.socket" in line, "it does not name the way:", line)


def test_two_sockets_are_refused(box):
    """portd holds one port. Exit 78, one line that says what to do."""
    box.configure(ECHO)
    box.dropin("portd.socket", "[Socket]\nListenStream=7778\n")
    since = box.cursor()
    box.systemctl("start", "portd.socket")
    check(box.systemctl("start", "portd", check=False).returncode != 0, "the start succeeds")
    equal(box.show("portd", "ActiveState", "ExecMainStatus", "NRestarts"),
          {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}, "portd.service")
    lines = observe.said(box, since)
    equal(len(lines), 1, f"lines: {lines}")
    check("second socket" in lines[0] and "ListenStream=" in lines[0], lines[0])
    note(lines[0])


def test_another_kind_of_socket_is_refused(box):
    box.configure(ECHO)
    box.dropin("portd.socket", "[Socket]\nListenStream=\nListenDatagram=7777\n")
    since = box.cursor()
    box.systemctl("start", "portd.socket")
    check(box.systemctl("start", "portd", check=False).returncode != 0, "the start succeeds")
    equal(box.show("portd", "ExecMainStatus", "NRestarts"),
          {"ExecMainStatus": "78", "NRestarts": "0"}, "portd.service")
    lines = observe.said(box, since)
    equal(len(lines), 1, f"lines: {lines}")
    check("no TCP socket" in lines[0], lines[0])


# portd cannot start.

def test_a_wrong_file_without_clients(box):
    """portd.socket goes on listening; portd has tried once; a mended file is all that is needed."""
    box.configure({"service.type": "nonsense"})
    box.systemctl("start", "portd.socket")
    since = box.cursor()
    check(box.systemctl("start", "portd", check=False).returncode != 0, "the start succeeds")
    equal(states(box), [("listening", "success"), ("failed", "exit-code")], "portd.socket, .service")
    equal(len(observe.said(box, since)), 1, "lines")
    box.configure(ECHO)
    equal(ask(box, 7777)[0], "served", "a client when the file is mended")


def test_a_wrong_file_with_a_client(box):
    """The client starts portd, five times in a row; then portd.socket has failed, and the port refuses.
    Revived as portd(8) says."""
    box.configure({"service.type": "nonsense"})
    since = box.cursor()
    box.systemctl("start", "portd.socket")
    outcome, seconds = ask(box, 7777)
    equal(outcome, "reset", "the client")
    box.wait_show("portd.socket", 2, ActiveState="failed", SubState="failed",
                  Result="service-start-limit-hit")
    box.wait_show("portd", 2, ActiveState="failed", ExecMainStatus="78", NRestarts="0")
    lines = observe.said(box, since)
    equal(len(lines), 5, f"lines: {lines}")
    check(all("/etc/portd.conf:2: [service] type: 'nonsense'" in line for line in lines), lines)
    equal(ask(box, 7777)[0], "refused", "a client afterwards")
    note(f"the client was reset after {seconds:.2f} s, after {len(lines)} starts")

    box.configure(ECHO)
    box.systemctl("reset-failed", "portd.service", "portd.socket")
    box.systemctl("start", "portd.socket")
    equal(ask(box, 7777)[0], "served", "a client when it is revived")
    equal(states(box), [("running", "success"), ("running", "success")], "portd.socket, .service")


def test_a_restart_with_a_wrong_file(box):
    """Who is queued waits until the file is mended, as long as nobody else comes."""
    box.configure(ECHO)
    box.systemctl("start", "portd.socket", "portd.service")
    inode = observe.listener(box)
    box.configure({"service.type": "nonsense"})
    check(box.systemctl("restart", "portd", check=False).returncode != 0, "the restart succeeds")
    equal(states(box), [("listening", "success"), ("failed", "exit-code")], "portd.socket, .service")
    equal(observe.listener(box), inode, "the listening socket")
    box.configure(ECHO)
    box.systemctl("start", "portd")
    equal(ask(box, 7777)[0], "served", "a client when the file is mended")


# From one way to the other.

def test_the_socket_unit_after_portd_itself(box):
    """While portd has the port, systemd refuses to start portd.socket; portd must be stopped first."""
    box.configure(ECHO)
    box.systemctl("start", "portd")
    check(box.systemctl("start", "portd.socket", check=False).returncode != 0,
          "portd.socket beside a portd that has the port")
    equal(ask(box, 7777)[0], "served", "a client of the portd that is there")
    box.systemctl("stop", "portd")
    box.systemctl("start", "portd.socket")
    equal(ask(box, 7777)[0], "served", "a client of portd.socket")
    equal(box.show("portd", "NFileDescriptorStore")["NFileDescriptorStore"], "0", "stored")


@for_each(how=("a restart", "SIGKILL"))
def test_portd_itself_after_the_socket_unit(box, how):
    """portd.socket is stopped: portd serves on, and the next one binds the port itself."""
    box.configure(ECHO)
    box.systemctl("start", "portd.socket", "portd.service")
    box.systemctl("stop", "portd.socket")
    equal(ask(box, 7777)[0], "served", "a client of the portd that is there")
    if how == "a restart":
        box.systemctl("restart", "portd")
    else:
        box.systemctl("kill", "--signal=KILL", "portd")
        box.wait_show("portd", 3, ActiveState="active", NRestarts="1")
    equal(ask(box, 7777)[0], "served", f"a client after {how}")
    observe.wait_until(lambda: box.show("portd", "NFileDescriptorStore")["NFileDescriptorStore"] == "1",
                       2, "the listener is stored")
    inode = observe.listener(box)
    box.systemctl("restart", "portd")
    equal(observe.listener(box), inode, "the listening socket from now on")


if __name__ == "__main__":
    container.main()
