"""The unit's confinement: what it takes from portd, and that portd needs none of it.

In most tests a forbidden system call is fatal (SIGSYS) instead of failing with EPERM, so that a
call which portd makes and the unit forgot cannot pass unnoticed.
"""

import contextlib
import json
import re
import subprocess

import container
import tap
from process import Process
from tap import TABLES, at_most, check, equal, for_each, note, slow

PORT = 7777
EXPOSURE = 12  # tenths, as systemd-analyze security --threshold counts
MESSAGE = b"busy\n"
FATAL = """\
[Service]
SystemCallErrorNumber=
# Pings of the watchdog come while the test runs.
WatchdogSec=2s
"""
BASE = {"workers.count": "2", "service.type": "echo", "log.level": "debug",
        "shed.queue_timeout": "300ms", "shed.message": "busy\\n"}


def start(box, options, unit="portd.service", instance=None, dropin=FATAL):
    box.configure({**BASE, **options}, instance)
    box.dropin(unit if instance is None else "portd@.service", dropin)
    box.systemctl("start", unit)


def finish(box, unit="portd.service"):
    """Stops it; nothing that it has done was forbidden."""
    equal(box.show(unit, "NRestarts", "ActiveState"), {"NRestarts": "0", "ActiveState": "active"},
          "before stop")
    box.systemctl("stop", unit)
    equal(box.show(unit, "Result", "ActiveState"),
          {"Result": "success", "ActiveState": "inactive"}, "after stop")


@for_each(unit=("portd.service", "portd@web.service"))
def test_exposure(box, unit):
    result = box.run("systemd-analyze", "security", "--no-pager", f"--threshold={EXPOSURE}", unit,
                     check=False)
    note(result.stdout.strip().splitlines()[-1])
    rows = json.loads(box.run("systemd-analyze", "security", "--json=short", unit).stdout)
    note("left:", *(f"{row['name']} {row['exposure']}" for row in rows if row["exposure"]))
    equal(result.returncode, 0, "exit status with the threshold")


def test_units_are_correct(box):
    result = box.run("systemd-analyze", "verify", "--man=no", "portd.service", "portd.socket",
                     "portd@web.service", check=False)
    equal((result.returncode, result.stdout + result.stderr), (0, ""), "systemd-analyze verify")


def test_process_has_nothing(box):
    start(box, {})
    pid = box.main_pid("portd")
    with open(f"/proc/{pid}/status") as file:
        status = dict(re.findall(r"^(\w+):\s+(.*)$", file.read(), re.M))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        equal(int(status[name], 16), 0, name)
    equal((status["NoNewPrivs"], status["Seccomp"], status["Umask"]), ("1", "2", "0077"),
          "NoNewPrivs, Seccomp, Umask")
    own = [int(word) for word in box.run("stat", "-c", "%u %g", "/run/portd").stdout.split()]
    for file, number in (("uid_map", own[0]), ("gid_map", own[1])):
        with open(f"/proc/{pid}/{file}") as lines:
            seen = sorted(tuple(map(int, line.split())) for line in lines)
        equal(seen, [(0, 0, 1), (number, number, 1)], file)
    mounts = {}
    with open(f"/proc/{pid}/mountinfo") as file:
        for line in file:
            words = line.split()
            mounts[words[4]] = (words[3], words[5].split(","), words[-1])
    writable = {path for path, (_, options, _) in mounts.items() if "rw" in options}
    # What portd may execute is root's, and only root's, to write to.
    may_execute = {path for path, (_, options, _) in mounts.items()
                   if "noexec" not in options and re.match("/usr/", path)}
    note("may be executed:", *sorted(may_execute))
    check({"/usr/sbin/portd", "/usr/bin/portctl"} < may_execute, may_execute)
    equal(box.run("find", *sorted(may_execute), "!", "-type", "l", "-writable", user="portd").stdout,
          "", "what portd may execute and change")
    writable -= may_execute
    # tmpfs of its own, the runtime directory, and what the kernel makes read-only by itself.
    equal({path for path in writable if not re.match(r"/(proc|dev/(pts|shm|mqueue))$", path)}
          - {"/run", "/run/lock", "/run/host/os-release", "/run/host/incoming"},
          {"/tmp", "/var/tmp", "/run/portd"}, "mounts that can be written to")
    check("subset=pid" in mounts["/proc"][2] and "hidepid" in mounts["/proc"][2], mounts["/proc"])
    for path in ("/home", "/root"):
        check("inaccessible" in mounts[path][0], f"{path} is not hidden")
    finish(box)


def test_executes_nothing_else(box):
    """Not even through the loader; what it needs for start, reload and restart it has."""
    loader = box.run("sh", "-c", "ls -1 /lib64/ld-linux* /lib/ld-linux* 2>/dev/null | head -n 1").stdout
    box.write("/var/tmp/own", "#!/usr/sbin/portd --version\n", 0o755)
    for command in ("/usr/bin/true", "/bin/sh -c :", f"{loader.strip()} /usr/bin/true", "/var/tmp/own",
                    "/usr/bin/systemctl --version"):
        box.configure(BASE)
        box.dropin("portd.service", f"[Service]\nPrivateTmp=no\nRestart=no\nExecStartPre={command}\n")
        check(box.systemctl("start", "portd", check=False).returncode != 0, f"{command} is executed")
        note(command, box.show("portd", "ExecStartPre")["ExecStartPre"].rpartition("status=")[2])
        box.systemctl("reset-failed")
    # It is these two lines of the unit that keep it from that.
    start(box, {}, dropin=FATAL + "NoExecPaths=\nExecPaths=\nExecStartPre=/usr/bin/true\n")
    finish(box)
    start(box, {}, dropin=FATAL + "ExecStartPre=/usr/bin/portctl --version\n")
    box.systemctl("reload", "portd")
    box.systemctl("restart", "portd")
    with box.crowd(PORT) as crowd:
        fill(crowd, 3)
    finish(box)


def outside(box, options):
    """The budget that the same portd has without the unit, with the unit's RLIMIT_NOFILE."""
    with open(f"/proc/{box.main_pid('portd')}/limits") as file:
        hard = re.search(r"^Max open files\s+\d+\s+(\d+)", file.read(), re.M)[1]
    options = {**BASE, **options, "listener.address": "127.0.0.1:7999",
               "control.socket": "/tmp/outside.sock"}
    command = ["prlimit", f"--nofile=1024:{hard}", "portd", "-c", "/dev/null"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    with subprocess.Popen(box.command(command, "portd"), stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as portd:
        try:
            lines = []
            check(any("open on" in line for line in portd.stderr if lines.append(line) is None),
                  "portd does not start:", *lines)
            return json.loads(box.portctl("-s", "/tmp/outside.sock", "stats", "--json").stdout)
        finally:
            portd.terminate()


@for_each(bound=("fds", "memory"))
def test_counts_as_outside(box, bound):
    """What the confinement hides is nothing that the budget is computed from."""
    tables = {"workers.fd_table": "private", "workers.count": "128"}
    options = {"fds": {}, "memory": tables}[bound]
    start(box, options)
    inside, free = box.stats(), outside(box, options)
    names = ("fds", "max_connections", "bound_by", "fds_per_connection")
    pick = lambda stats: {name: stats["budget"][name] for name in names}
    note(pick(inside))
    equal(inside["budget"]["bound_by"], bound, "bound_by")
    equal(pick(inside), pick(free), "the budget inside and outside")
    equal(inside["listener"]["backlog_effective"], free["listener"]["backlog_effective"],
          "the backlog inside and outside")
    finish(box)


def fill(crowd, count):
    clients = crowd.connect(count, send=b"x")
    crowd.wait_served(clients)
    return clients


def pass_slots_on(crowd, served, rounds=8):
    """Each round one client leaves, and the one that waits is served in its place: held, and with
    private tables passed to the worker that has the slot."""
    for number in range(rounds):
        waiting = crowd.connect(1, send=b"y")
        served.pop(0 if number % 3 else -1).close()
        crowd.wait_served(waiting, 2, "the slot goes on")
        served += waiting


def ask_everything(box):
    for arguments in (["stats"], ["stats", "--json"], ["stats", "--prometheus"],
                      ["stats", "--openmetrics"], ["health", "--live"]):
        box.portctl(*arguments)
        box.portctl(*arguments, user="friend")


@for_each(table=TABLES)
def test_full(box, table):
    """Full, with each answer, set by reload; figures; draining; IPv6; stop with a drain."""
    options = {"budget.max_connections": "4", "workers.fd_table": table, "timeouts.drain": "500ms"}
    box.write("/etc/portd.conf.d/a.conf", "[shed]\nlow_watermark = 90%\n")
    start(box, options)
    with box.crowd(PORT, message=MESSAGE) as crowd:
        served = fill(crowd, 4)
        for answer, end in (("reset", "reset"), ("close", "closed"), ("message", "message")):
            box.configure({**BASE, **options, "shed.answer": answer})
            box.systemctl("reload", "portd")
            pass_slots_on(crowd, served)
            # Silent ones: what is closed unread would be a reset.
            shed = crowd.connect(3)
            crowd.wait_answered(shed)
            equal(crowd.tally(shed), {end: 3}, "answers")
            ask_everything(box)
        box.portctl("drain")
        equal(box.portctl("health", check=False).returncode, 1, "health while draining")
        box.portctl("drain", "--off")
        box.systemctl("kill", "--signal=HUP", "portd")
        box.write("/etc/portd.conf.d/b.conf", "[shed]\nlow_watermark = many\n")
        check(box.systemctl("reload", "portd", check=False).returncode != 0, "a bad reload succeeds")
        box.remove("/etc/portd.conf.d/b.conf")
        served.pop().close()
        with box.crowd(PORT, "::1") as other:
            fill(other, 1)
        finish(box)
        crowd.wait(lambda: all(c.end for c in served), 2, "the drain ends the open ones")


@for_each(table=TABLES)
def test_short_of_descriptors(box, table):
    """EMFILE, made from outside, and its end."""
    start(box, {"workers.fd_table": table, "shed.answer": "message"})
    portd = Process()
    portd.pid = box.main_pid("portd")
    with box.crowd(PORT, message=MESSAGE) as crowd:
        served, top = portd.fill_tables(crowd, 40)
        soft = portd.limit_nofile(top + 1)[0]
        shed = crowd.connect(5, send=b"y")
        crowd.wait_answered(shed)
        equal(crowd.tally(shed), {"message": 5}, "answers")
        # These do not go when they are answered, and yet the next gets the descriptor.
        slow_ones = crowd.connect(5)
        for client in slow_ones:
            client.read(False)
        crowd.wait(lambda: box.stats()["shed"]["fds"] == 10, 5, "five more are answered")
        ask_everything(box)
        box.systemctl("reload", "portd")
        check(box.stats()["accept"]["errors"]["EMFILE"] > 0, "no EMFILE")
        portd.limit_nofile(soft)
        served[0].close()
        crowd.wait_served(crowd.connect(1, send=b"z"), 3, "service is back")
        # Longer than the watchdog waits: it was fed all the time.
        crowd.run(slow(2.2))
    finish(box)


@for_each(table=TABLES, service=("tuple", "echo", "discard"))
def test_services(box, table, service):
    start(box, {"workers.fd_table": table, "service.type": service})
    with contextlib.ExitStack() as stack:
        for host in ("127.0.0.1", "::1"):
            crowd = stack.enter_context(box.crowd(PORT, host))
            clients = crowd.connect(20, send=b"x" * 100000)
            if service != "discard":
                crowd.wait_served(clients)
            for client in clients[:10]:
                crowd.wait(lambda: client.end or not client.pending, 5, "all is sent")
                if client.end is None:
                    client.shutdown()
            crowd.wait(lambda: all(c.end for c in clients[:10]), 5, "half-closed clients end")
    finish(box)


@for_each(held=("by itself", "by portd.socket"))
def test_listener_from_the_manager(box, held):
    """A restart with the listener in the descriptor store, or from the socket unit at port 80."""
    port = PORT
    if held == "by portd.socket":
        port = 80
        box.dropin("portd.socket", "[Socket]\nListenStream=\nListenStream=80\n")
        box.systemctl("start", "portd.socket")
    start(box, {"listener.address": f"[::]:{port}"})
    for _ in range(2):
        with box.crowd(port) as crowd:
            fill(crowd, 3)
        box.systemctl("restart", "portd")
    with box.crowd(port) as crowd:
        fill(crowd, 3)
    box.systemctl("stop", "portd.socket", check=False)
    finish(box)


@for_each(wrong=("section", "port"))
def test_failed_start_says_why(box, wrong):
    """No system call on the way to an error is forbidden either."""
    options, status, words = {
        "section": ({"nothing.at": "all"}, "78", "'nothing' is no section"),
        "port": ({"listener.address": "0.0.0.0:80"}, "71", "permission denied"),
    }[wrong]
    box.configure(options)
    box.dropin("portd.service", FATAL + "Restart=no\n")
    mark = box.cursor()
    check(box.systemctl("start", "portd", check=False).returncode != 0, "it starts")
    equal(box.show("portd", "ExecMainStatus")["ExecMainStatus"], status, "exit status")
    record = box.wait_journal(mark, lambda r: re.search(words, r["MESSAGE"]), 5)
    note(record["MESSAGE"])


def test_instance(box):
    start(box, {"listener.address": "127.0.0.1:7801"}, "portd@web.service", "web")
    with box.crowd(7801) as crowd:
        fill(crowd, 3)
    equal(box.stats("web")["listener"]["address"], "127.0.0.1:7801", "address")
    box.systemctl("reload", "portd@web")
    finish(box, "portd@web.service")


def test_group_of_the_control_socket(box):
    """Its own group by default; another one by Group=. Its place may be anywhere in /run/portd."""
    start(box, {})
    state = lambda path: box.run("stat", "-c", "%U %G %a", path).stdout.strip()
    equal(state("/run/portd/control.sock"), "portd portd 660", "the socket")
    box.portctl("health", user="friend")
    for user in ("stranger", "nobody"):
        refused = box.portctl("health", user=user, check=False)
        equal(refused.returncode, 2, f"portctl of {user}")
        note(refused.stderr.strip())
    for command in ("reload", "drain"):
        equal(box.portctl(command, user="friend", check=False).returncode, 1, f"{command} of a member")
        box.portctl(command, user="portd")
    finish(box)
    path = "/run/portd/deep/control.sock"
    start(box, {"control.group": "stranger", "control.socket": path},
          dropin=FATAL + "Group=stranger\n")
    equal(state(path), "portd stranger 660", "the socket")
    box.portctl("-s", path, "health", user="stranger")
    equal(box.portctl("-s", path, "health", user="friend", check=False).returncode, 2,
          "portctl of friend")
    finish(box)


def test_forbidden_call_is_fatal(box):
    """The tests above can fail: with one call less on the list portd dies of it."""
    box.configure(BASE)
    box.dropin("portd.service", FATAL + "SystemCallFilter=~sysinfo\nRestart=no\n")
    check(box.systemctl("start", "portd", check=False).returncode != 0, "it starts")
    equal(box.show("portd", "ExecMainStatus")["ExecMainStatus"], "31", "the signal, SIGSYS")


if __name__ == "__main__":
    container.main()
