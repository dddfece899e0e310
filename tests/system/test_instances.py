"""portd@NAME: several ports side by side, each with its own configuration, control socket, listener and
end.
"""

import os
import signal

import container
import observe
from tap import check, equal, note, slow

ECHO = {"service.type": "echo"}
PORTS = {"a": 7781, "b": 7782}
ANY = "0" * 32  # [::], as the kernel prints it


def configure(box, name, **more):
    box.configure({**ECHO, "listener.address": f"[::]:{PORTS[name]}", "timeouts.drain": "300ms", **more},
                  instance=name)


def connected(box, port, count=5):
    """A crowd that is served there, and stays."""
    crowd = box.crowd(port)
    crowd.wait_served(crowd.connect(count, send=b"x"))
    return crowd


def identity(box, name=None):
    """What another instance's life must not change: process, listening socket, control socket."""
    unit, port = (f"portd@{name}", PORTS[name]) if name else ("portd", 7777)
    run = f"/run/portd-{name}" if name else "/run/portd"
    return (box.main_pid(unit), observe.listener(box, port),
            os.stat(box.path(run + "/control.sock")).st_ino, os.stat(box.path(run)).st_ino)


def side_by_side(box):
    """portd, portd@a and portd@b, each with five clients; their crowds."""
    box.configure({**ECHO, "timeouts.drain": "300ms"})
    configure(box, "a")
    configure(box, "b")
    box.systemctl("start", "portd", "portd@a", "portd@b")
    return connected(box, 7777), connected(box, 7781), connected(box, 7782)


def test_each_has_its_own(box):
    """Configuration with its drop-ins, runtime directory, control socket, figures, listener."""
    box.configure(ECHO)
    configure(box, "a")
    box.write("/etc/portd/a.conf.d/50-size.conf", "[budget]\nmax_connections = 11\n")
    box.write("/etc/portd/a.conf.d/60-size.conf", "[budget]\nmax_connections = 12\n")
    configure(box, "b", **{"budget.max_connections": "13",
                           # The unit's own wins, or b would take portd's.
                           "control.socket": "/run/portd/control.sock"})
    box.systemctl("start", "portd@a", "portd@b", "portd")
    equal(sorted(observe.listeners(box)), [(ANY, 7777), (ANY, 7781), (ANY, 7782)], "listening sockets")
    clients = {None: (7777, 1), "a": (7781, 2), "b": (7782, 3)}
    for name, (port, count) in clients.items():
        connected(box, port, count)
    for name, (port, count) in clients.items():
        stats = box.stats(instance=name)
        equal((stats["listener"]["address"], stats["budget"]["connections"]), (f"[::]:{port}", count),
              f"address and connections of {name}")
        folder = os.stat(box.path(f"/run/portd-{name}" if name else "/run/portd"))
        unit = f"portd@{name}" if name else "portd"
        equal((folder.st_mode & 0o777, folder.st_uid),
              (0o755, int(box.run("id", "-u", "portd").stdout)), f"runtime directory of {unit}")
        equal(box.show(unit, "NFileDescriptorStore")["NFileDescriptorStore"], "1", f"{unit}: stored")
    equal(box.stats("a")["budget"]["max_connections"], 12, "a's drop-in")
    equal(box.stats("b")["budget"]["max_connections"], 13, "b's own")
    equal(len({identity(box, name)[0] for name in clients}), 3, "processes")
    equal(box.portctl("-i", "a", "health", user="friend").stdout, "open\n", "health for a member")
    equal(box.portctl("-i", "a", "health", user="stranger", check=False).returncode, 2,
          "health for another")


def test_stopping_one_leaves_the_others_alone(box):
    """Also portd itself, which is no instance: in each order."""
    crowds = side_by_side(box)
    names = (None, "a", "b")
    for gone in names:
        others = [name for name in names if name != gone]
        before = {name: identity(box, name) for name in others}
        box.systemctl("stop", f"portd@{gone}" if gone else "portd")
        check(not os.path.exists(box.path(f"/run/portd-{gone}" if gone else "/run/portd")),
              f"the runtime directory of {gone} is left")
        result = box.portctl(*(["-i", gone] if gone else []), "health", check=False)
        equal(result.returncode, 2, f"health of {gone} when it is stopped")
        port = PORTS.get(gone, 7777)
        check((ANY, port) not in observe.listeners(box), f"port {port} still listens")
        equal({name: identity(box, name) for name in others}, before, f"the others without {gone}")
        for name, crowd in zip(names, crowds):
            if name != gone:
                crowd.ask(list(crowd), b"still here")
                equal(box.portctl(*(["-i", name] if name else []), "health").stdout, "open\n", "health")
        box.systemctl("start", f"portd@{gone}" if gone else "portd")
        number = names.index(gone)
        crowds = (*crowds[:number], connected(box, port), *crowds[number + 1:])


def test_restart_and_kill_of_one(box):
    """It keeps its own listener; the others do not notice."""
    crowds = side_by_side(box)
    before = {name: identity(box, name) for name in (None, "a", "b")}
    box.systemctl("restart", "portd@b")
    equal({name: identity(box, name) for name in (None, "a")},
          {name: before[name] for name in (None, "a")}, "the others after a restart of b")
    after = identity(box, "b")
    check(after[0] != before["b"][0], "b is the same process")
    equal(after[1], before["b"][1], "b's listener")
    os.kill(after[0], signal.SIGKILL)
    [late] = crowds[2].connect(1, send=b"x")
    crowds[2].wait_served([late], 2, "who comes while b is away")
    box.wait_show("portd@b", 3, ActiveState="active", SubState="running", NRestarts="1")
    equal(observe.listener(box, PORTS["b"]), before["b"][1], "b's listener after SIGKILL")
    equal({name: identity(box, name) for name in (None, "a")},
          {name: before[name] for name in (None, "a")}, "the others after b was killed")
    for crowd in crowds[:2]:
        crowd.ask(list(crowd), b"still here")


def test_reload_of_one(box):
    """systemctl reload portd@NAME is the verdict of that instance."""
    side_by_side(box)
    configure(box, "a", **{"budget.max_connections": "21"})
    configure(box, "b", **{"budget.max_connections": "wrong"})
    box.systemctl("reload", "portd@a")
    check(box.systemctl("reload", "portd@b", check=False).returncode != 0, "b's reload succeeds")
    equal(box.stats("a")["budget"]["max_connections"], 21, "a's, changed")
    check(box.stats("b")["budget"]["max_connections"] > 21, "b's, not changed")
    status = {name: box.show(f"portd@{name}", "StatusText")["StatusText"] for name in PORTS}
    check(status["a"].startswith("open: "), status["a"])
    check(status["b"].startswith("reload failed: /etc/portd/b.conf:"), status["b"])
    equal(box.portctl("-i", "a", "drain").stdout, "draining\n", "drain of a")
    equal([box.portctl(*which, "health", check=False).stdout for which in ([], ["-i", "b"])],
          ["open\n", "open\n"], "the others")


def test_a_missing_file(box):
    """Exit 78, no loop, one line that names it; not the built-in defaults, nor portd.conf's."""
    box.configure(ECHO)
    since = box.cursor()
    check(box.systemctl("start", "portd@nobody", check=False).returncode != 0, "the start succeeds")
    equal(box.show("portd@nobody", "ActiveState", "ExecMainStatus", "NRestarts"),
          {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}, "the unit")
    lines = observe.said(box, since, "portd@nobody.service")
    equal(len(lines), 1, f"lines: {lines}")
    check("/etc/portd/nobody.conf" in lines[0], lines[0])
    note(lines[0])
    equal(observe.listeners(box), {}, "listening sockets")


def test_one_port_for_two(box):
    """The second says so and gives up; the first is not disturbed."""
    configure(box, "a")
    configure(box, "b", **{"listener.address": "[::]:7781"})
    box.systemctl("start", "portd@a")
    crowd = connected(box, PORTS["a"])
    before = identity(box, "a")
    since = box.cursor()
    check(box.systemctl("start", "portd@b", check=False).returncode != 0, "the start succeeds")
    box.wait_show("portd@b", 1, ActiveState="activating", SubState="auto-restart", ExecMainStatus="71")
    line = observe.said(box, since, "portd@b.service")[0]
    check("[::]:7781: the port is taken" in line, line)
    crowd.run(slow(0.7))  # another try
    crowd.ask(list(crowd), b"still here")
    equal(identity(box, "a"), before, "the first")


def test_a_name_with_everything(box):
    """What systemctl takes as it is, portctl -i takes too."""
    name = "web-1.example_x:y"
    box.configure({**ECHO, "listener.address": "[::]:7783"}, instance=name)
    box.systemctl("start", f"portd@{name}")
    equal(box.stats(name)["listener"]["address"], "[::]:7783", "address")
    connected(box, 7783).close()
    box.systemctl("reload", f"portd@{name}")
    box.systemctl("stop", f"portd@{name}")


if __name__ == "__main__":
    container.main()
