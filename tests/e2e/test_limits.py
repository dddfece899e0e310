"""portctl limits: every value beside its source, what binds, and whether the remedies are ones."""

import json
import os
import re
import socket
import subprocess
import tempfile
import threading

import once
import tap
from harness import PORTCTL, Portd, config_text, need, need_root
from once import EX_USAGE, NOBODY
from tap import TABLES, at_least, at_most, check, equal, for_each

OPEN_ROWS = ["nofile_hard", "nofile_soft", "fd_table", "fds_per_connection", "fds",
             "max_connections", "priority", "nr_open", "file_max", "memory_total", "cgroup_memory",
             "socket_memory", "tcp_mem", "cgroup_pids", "conntrack"]
# A shell in a mount namespace of its own, before a program takes its place.
PRIVATE = ["unshare", "-m", "sh", "-euc"]


def need_namespaces():
    """A container's root may be one that may not make them."""
    need_root()
    need("unshare", "setpriv")
    made = subprocess.run(["unshare", "-mn", "true"], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise tap.Skip(f"no namespaces: {made.stderr.strip()}")


def limits(portd, *wrapper, status=0):
    """portctl limits --json as a dict, the rows by name under "row"."""
    result = subprocess.run([*wrapper, PORTCTL, "-s", portd.control, "limits", "--json"], text=True,
                            capture_output=True, timeout=tap.slow(10))
    equal((result.returncode, result.stderr), (status, ""), "portctl limits --json")
    return checked(result.stdout)


def checked(text):
    """What holds for every answer."""
    seen = json.loads(text)
    seen["row"] = {row["name"]: row for row in seen["limits"]}
    equal(len(seen["row"]), len(seen["limits"]), "names of rows")
    binding = [row["name"] for row in seen["limits"] if row["group"] == "open" and row["binds"]]
    equal(binding, [seen["binding_limit"]], "rows that bind")
    below = [row for row in seen["limits"] if row["below"]]
    first = min(below, key=lambda row: row["allows"], default=seen["row"][binding[0]])
    equal(seen["reached_first"], first["name"], "reached_first")
    equal(seen["holds"], first["allows"] if below else seen["max_connections"], "holds")
    return seen


def text_of(portd, *wrapper):
    result = subprocess.run([*wrapper, PORTCTL, "-s", portd.control, "limits"], text=True,
                            capture_output=True, timeout=tap.slow(10))
    equal((result.returncode, result.stderr), (0, ""), "portctl limits")
    check(result.stdout.isascii(), "not ASCII:", result.stdout)
    wide = [line for line in result.stdout.splitlines() if len(line) > 100]
    equal(wide, [], "lines of more than 100 columns")
    equal([line for line in result.stdout.splitlines() if line.endswith(" ")], [], "blank ends")
    return result.stdout


def number(path, field=0, key=""):
    """A number of such a file; None if it is not there."""
    try:
        with open(path) as file:
            line = next(line for line in file if line.startswith(key))
        return int(line[len(key):].split()[field])
    except FileNotFoundError:
        return None


@for_each(table=TABLES)
def test_values(table):
    """Each number is that of the file that it names."""
    with Portd(table=table) as portd:
        portd.crowd().wait_served(portd.crowds[0].connect(5, send=b"x"))
        seen, stats = limits(portd), portd.stats()
        rows, budget = seen["row"], stats["budget"]
        equal([n for n in rows if rows[n]["group"] == "open"], OPEN_ROWS, "rows")
        nofile = f"/proc/{portd.pid}/limits"
        for name, value, source in (
                ("nofile_soft", number(nofile, 0, "Max open files"), nofile),
                ("nofile_hard", number(nofile, 1, "Max open files"), nofile),
                ("nr_open", number("/proc/sys/fs/nr_open"), "/proc/sys/fs/nr_open"),
                ("file_max", number("/proc/sys/fs/file-max"), "/proc/sys/fs/file-max"),
                ("memory_total", 1024 * number("/proc/meminfo", 0, "MemTotal:"), "/proc/meminfo"),
                ("tcp_mem", number("/proc/sys/net/ipv4/tcp_mem", 2), "/proc/sys/net/ipv4/tcp_mem"),
                ("conntrack", number("/proc/sys/net/netfilter/nf_conntrack_max"),
                 "/proc/sys/net/netfilter/nf_conntrack_max"),
                ("fds", budget["fds"], "portd"),
                ("max_connections", budget["max_connections"], "portd"),
                ("fds_per_connection", budget["fds_per_connection"], "[service] type = echo"),
                ("fd_table", 2 if table == "private" else 1, f"[workers] fd_table = {table}"),
                ("backlog", stats["listener"]["backlog_configured"], "portd"),
                ("somaxconn", number("/proc/sys/net/core/somaxconn"),
                 "/proc/sys/net/core/somaxconn"),
                ("tcp_syncookies", number("/proc/sys/net/ipv4/tcp_syncookies"),
                 "/proc/sys/net/ipv4/tcp_syncookies"),
                ("tcp_max_syn_backlog", number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
                 "/proc/sys/net/ipv4/tcp_max_syn_backlog"),
                ("tcp_abort_on_overflow", number("/proc/sys/net/ipv4/tcp_abort_on_overflow"),
                 "/proc/sys/net/ipv4/tcp_abort_on_overflow")):
            if value is None:
                value = "not loaded"
            equal((rows[name]["value"], rows[name]["from"]), (value, source), name)
        low, high = (number("/proc/sys/net/ipv4/ip_local_port_range", i) for i in (0, 1))
        equal(rows["ip_local_port_range"]["value"], f"{low}-{high}", "ports")
        at_most(rows["ip_local_port_range"]["allows"], high - low + 1, "ports of a client")
        equal((seen["running"], seen["pid"], seen["process_seen"], seen["network"], seen["state"],
               seen["address"], seen["connections"], seen["workers"], seen["fd_table"]),
              (True, portd.pid, True, "same", "open", stats["listener"]["address"], 5, 2, table),
              "what portd is")
        equal((seen["binds"], seen["holds"]), (budget["bound_by"], budget["max_connections"]),
              "the answer beside portd's own")
        equal(rows["nofile_hard"]["allows"], budget["max_connections"], "what RLIMIT_NOFILE allows")
        at_least(rows["file_max"]["allows"], budget["max_connections"], "what fs.file-max allows")


@for_each(table=TABLES)
def test_what_binds(table):
    """A small RLIMIT_NOFILE, a small fds and a small max_connections, in turn."""
    for options, nofile, name in (({"budget.max_connections": "9"}, 600, "max_connections"),
                                  ({}, 600, "nofile_hard"), ({}, 100, "nofile_hard"),
                                  ({"budget.fds": "400"}, 600, "fds")):
        with Portd(options, table=table, nofile=nofile) as portd:
            seen, stats = limits(portd), portd.stats()["budget"]
            equal((seen["binding_limit"], seen["binds"], seen["holds"]),
                  (name, stats["bound_by"], stats["max_connections"]), "what binds")
            equal(seen["row"][name]["allows"], seen["holds"], f"what {name} allows")
            equal(seen["row"]["nofile_hard"]["value"], nofile, "RLIMIT_NOFILE")


def test_priority_slots():
    """They are beside the others: 5 and 16 hold 21."""
    with Portd({"budget.max_connections": "5", "source.priority": "127.0.0.1"}) as portd:
        portd.fill(portd.crowd(), 21)
        seen, text = limits(portd), text_of(portd)
        equal((seen["connections"], seen["priority_connections"], seen["holds"],
               seen["holds_priority"], seen["row"]["priority"]["value"]), (21, 16, 5, 16, 16), "--json")
        for words in (" 21 connections now (16 in priority slots), ",
                      "This port holds 5 connections at the same time, and beside them 16 of priority "
                      "sources. What stops it: ", " [budget] priority 16 - portd "):
            check(words in " ".join(text.split()), f"{words!r} is not in:", text)


def test_memory_binds():
    """A control group's limit, as portd sees it; and as portctl does where it may look."""
    need_namespaces()
    need("nsenter")
    fake = ("mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/memory; "
            "echo 33554432 | tee /sys/fs/cgroup/memory.max "
            ">/sys/fs/cgroup/memory/memory.limit_in_bytes; exec \"$@\"")
    with Portd(wrapper=[*PRIVATE, fake, "sh"]) as portd:
        inside = ["nsenter", f"--mount=/proc/{portd.pid}/ns/mnt"]
        for wrapper, source in ((inside, "/sys/fs/cgroup/.*memory"), ([], "portd$")):
            seen = limits(portd, *wrapper)
            row = seen["row"]["cgroup_memory"]
            equal((seen["binds"], seen["binding_limit"], seen["holds"], row["value"], row["allows"]),
                  ("memory", "cgroup_memory", 2048, 33554432, 2048), "what binds")
            check(re.match(source, row["from"]), "where it comes from:", row["from"])
        equal(portd.stats()["budget"]["bound_by"], "memory", "bound_by")


def test_lowered_under_a_running_portd():
    """The soft limit counts at once, and the command that is named brings it back."""
    need_root()
    need("prlimit")
    with Portd(nofile=600) as portd:
        before = limits(portd)
        portd.limit_nofile(100)
        seen = limits(portd)
        row = seen["row"]["nofile_soft"]
        equal((seen["reached_first"], row["value"], row["below"]), ("nofile_soft", 100, True),
              "what is reached first")
        at_most(seen["holds"], 60, "what it holds")
        equal(seen["binding_limit"], "nofile_hard", "what its slots come from")
        text = text_of(portd)
        check(re.search(r"^But RLIMIT_NOFILE, soft allows no more than \d+ .*reached first", text, re.M)
              and re.search("^  !! RLIMIT_NOFILE, soft +100", text, re.M), text)
        subprocess.run(["sh", "-c", row["raise"]["command"]], check=True, timeout=10)
        after = limits(portd)
        equal((after["holds"], after["reached_first"]), (before["holds"], before["reached_first"]),
              "what it holds after the remedy")


def test_text():
    with Portd({"budget.max_connections": "9"}) as portd:
        text = text_of(portd)
        for line in (f"portd [0-9.]+, pid {portd.pid}, open, at 127.0.0.1:{portd.port}: echo, .*",
                     "This port holds 9 connections at the same time[.] What stops it: "
                     r"\[budget\] max_connections .*", r"  => \[budget\] max_connections +9 +9  portd",
                     " +raise: .*max_connections = auto in .*",
                     r"  => \[listener\] backlog +4,096 +4,096  portd", ".*too little seen.*"):
            check(re.search(f"^{line}$", text, re.M), f"no line is {line!r}:", text)
        equal(text.count("=> "), 2 + 2, "marks, with the verdict and the legend")


def test_without_a_portd():
    """What a portd started here would have is what one that is started here has."""
    with tempfile.TemporaryDirectory(prefix="portctl-", dir="/tmp") as folder:
        path = folder + "/nobody.sock"
        result = once.portctl("-s", path, "limits", "--json", nofile=700)
        equal((result.returncode, result.stderr), (0, ""), "limits without a portd")
        seen = checked(result.stdout)
        equal((seen["running"], seen["pid"], seen["row"]["nofile_hard"]["value"]),
              (False, None, 700), "whose limits")
        check(path in seen["why_not"] and "No such file" in seen["why_not"], seen["why_not"])
        with Portd({"workers.count": "auto", "service.type": "tuple"}, nofile=700) as portd:
            budget = portd.stats()["budget"]
            equal((seen["holds"], seen["binds"]), (budget["max_connections"], budget["bound_by"]),
                  "what it would hold")
        text = once.portctl("-s", path, "limits")
        equal((text.returncode, text.stderr), (0, ""), "limits without a portd")
        for words in (f"no portd answers at {path}: No such file", "What follows is for a portd",
                      r"It would hold [\d,]+ connections", "=> RLIMIT_NOFILE, hard"):
            check(re.search(words, text.stdout), f"{words!r} is not in:", text.stdout)


def test_files_that_cannot_be_read():
    """As an ordinary user, with files closed to it: each is one line, and none an error."""
    need_namespaces()
    closed = ("net/core/somaxconn", "net/ipv4/tcp_mem", "fs/nr_open", "fs/file-nr")
    names = ("somaxconn", "tcp_mem", "nr_open")
    with Portd({"control.mode": "0666"}) as portd:
        os.chmod(portd.dir, 0o755)
        program = once.public_copy(PORTCTL, portd.dir)
        shut = portd.dir + "/shut"
        with open(shut, "w") as file:
            file.write("1\n")
        os.chmod(shut, 0)
        script = "".join(f"mount --bind {shut} /proc/sys/{name}; " for name in closed)
        script += f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\""
        run = lambda *args: subprocess.run([*PRIVATE, script, "sh", program, "-s", portd.control,
                                            "limits", *args], text=True, capture_output=True)
        result = run("--json")
        equal((result.returncode, result.stderr), (0, ""), "limits of an ordinary user")
        seen = checked(result.stdout)
        for name in names:
            row = seen["row"][name]
            equal((row["error"], row["value"], row["allows"]), ("EACCES", None, None), name)
        equal((seen["row"]["file_max"]["value"], seen["row"]["file_max"]["allows"]),
              (number("/proc/sys/fs/file-max"), None), "fs.file-max without what is in use")
        equal((seen["holds"], seen["network"]),
              (portd.stats()["budget"]["max_connections"], "unknown"), "the answer all the same")
        text = run().stdout
        denied = [line for line in text.splitlines() if "Permission denied" in line]
        equal(len(denied), len(names), "lines about it")
        check("Which network namespace" in text, "the network namespace:", text)
        equal([line for line in text.splitlines() if len(line) > 100], [], "long lines")


def test_a_process_that_cannot_be_seen():
    """Then portd's own word counts, and nobody else's limits are taken for its."""
    need_namespaces()
    need("prlimit")
    with Portd({"control.mode": "0666"}, nofile=600) as portd:
        os.chmod(portd.dir, 0o755)
        program = once.public_copy(PORTCTL, portd.dir)
        script = (f"mount -t proc -o hidepid=invisible none /proc; exec setpriv --reuid {NOBODY} "
                  f"--regid {NOBODY} --clear-groups prlimit --nofile=777 \"$@\"")
        run = lambda *args: subprocess.run([*PRIVATE, script, "sh", program, "-s", portd.control,
                                            "limits", *args], text=True, capture_output=True)
        result = run("--json")
        equal((result.returncode, result.stderr), (0, ""), "limits")
        seen = checked(result.stdout)
        row = seen["row"]["nofile_hard"]
        equal((seen["process_seen"], row["value"], row["from"], row["allows"]),
              (False, 600, "portd", portd.stats()["budget"]["max_connections"]), "RLIMIT_NOFILE")
        equal(seen["row"]["cgroup_pids"]["error"], "ENOENT", "its control group")
        check("Its process cannot be seen" in run().stdout, "it is not said")


def test_another_network():
    """net.* is read where portd is, or is said to be of another place."""
    need_namespaces()
    script = "echo 7 >/proc/sys/net/core/somaxconn; exec \"$@\""
    with Portd({"listener.address": "0.0.0.0:0"},
               wrapper=["unshare", "-n", "sh", "-euc", script, "sh"]) as portd:
        seen = limits(portd)
        row = seen["row"]["somaxconn"]
        equal((seen["network"], row["value"], row["binds"], row["raise"]["command"]),
              ("entered", 7, True, "sysctl -w net.core.somaxconn=14"), "as root")
        equal(seen["row"]["tcp_mem"]["value"], number("/proc/sys/net/ipv4/tcp_mem", 2),
              "what only the first namespace shows")
        weak = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
        seen = limits(portd, *weak)
        equal((seen["network"], seen["row"]["somaxconn"]["value"]),
              ("other", number("/proc/sys/net/core/somaxconn")), "without CAP_SYS_ADMIN")
        check("another network namespace than you" in text_of(portd, *weak), "it is not said")


def test_a_closed_gate_is_no_limit():
    """The queue of none that it leaves is not somaxconn's doing, nor what it drops an overflow."""
    with Portd({"listener.backlog": "64", "budget.max_connections": "1", "shed.gate": "on",
                "shed.gate_after": "0s"}) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 1)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 2, "closed")
        inside += crowd.connect(6)
        portd.wait_until(lambda s: s["listener"]["kernel_drops"] > 0, 3, "SYNs are dropped", crowd)
        check("64 asked, 0 in force (the gate is closed)" in portd.portctl("stats").stdout, "stats")
        for gate in ("closed", "open"):
            portd.wait_until(lambda s, gate=gate: s["listener"]["gate"] == gate, 2, gate, crowd)
            seen = limits(portd)
            equal([name for name in ("backlog", "somaxconn") if seen["row"][name]["binds"]],
                  ["backlog"], f"what binds the queue while it is {gate}")
            equal(seen["recommended"]["backlog"], None, f"a longer queue while it is {gate}")
            for client in inside:
                client.close()


def test_remedies():
    """Each command is one for a shell, each key one of this machine, each line one for portd."""
    need("sysctl")
    for options in ({"budget.fds": "400"}, {"budget.max_connections": "9"},
                    {"workers.fd_table": "private"}):
        with Portd(options) as portd:
            seen, keys, lines = limits(portd), 0, 0
            for row in seen["limits"]:
                remedy = row["raise"]
                if remedy["command"]:
                    subprocess.run(["sh", "-n", "-c", remedy["command"]], check=True, timeout=5)
                if found := re.fullmatch(r'sysctl -w ([a-z0-9_.]+)="?([0-9 ]+)"?',
                                         remedy["command"] or ""):
                    keys += 1
                    now = subprocess.run(["sysctl", "-n", found[1]], text=True, timeout=5,
                                         capture_output=True, check=True).stdout.split()
                    check(found[2].split() != now, "the remedy is what it is:", remedy["command"])
                    equal(len(found[2].split()), len(now), f"numbers of {found[1]}")
                    equal(remedy["line"], f"{found[1]} = {found[2]}", "the line for sysctl.d")
                if found := re.fullmatch(r"\[(\w+)\] (\w+) = (\w+)", remedy["line"] or ""):
                    lines += 1
                    equal(remedy["file"], portd.config_path, "the file")
                    path = portd.dir + "/remedy.conf"
                    with open(path, "w") as file:
                        file.write(config_text({f"{found[1]}.{found[2]}": found[3]}))
                    result = once.portd("-t", "-c", path)
                    equal(result.returncode, 0, f"portd -t with {remedy['line']}: {result.stderr}")
            at_least(keys, 6, "sysctls named")
            at_least(lines, 2, "lines of the configuration named")


def test_a_remedy_that_is_live():
    with Portd({"budget.max_connections": "9"}) as portd:
        remedy = limits(portd)["row"]["max_connections"]["raise"]
        equal(remedy["command"], f"portctl reload -s {portd.control}", "the command")
        portd.write_config({"budget.max_connections": "auto"})
        subprocess.run(["sh", "-euc", remedy["command"]], check=True, timeout=10,
                       stdout=subprocess.DEVNULL,
                       env={"PATH": os.path.dirname(PORTCTL) + ":" + os.environ["PATH"]})
        seen = limits(portd)
        equal((seen["binding_limit"], seen["holds"]),
              ("nofile_hard", seen["row"]["nofile_hard"]["allows"]), "what binds then")


def test_advice_after_an_overflow():
    """A queue that was full, with clients dropped, is enough to say that it is too short."""
    with Portd({"listener.backlog": "8", "shed.queue_timeout": "60s"}) as portd:
        seen = limits(portd)
        equal((seen["recommended"]["backlog"], seen["seen"]["enough"]), (None, False),
              "before anything was seen")
        crowd = portd.crowd()
        portd.pause()
        crowd.connect(30, send=b"x")
        crowd.run(0.2)
        at_least(portd.ss()[0], 9, "clients in the queue")
        portd.resume()
        before = portd.wait_until(lambda s: s["listener"]["kernel_drops"] > 0
                                  and s["accept"]["accepted"] >= 9,
                                  5, "clients are dropped and others served", crowd)
        seen = limits(portd)
        at_least(seen["seen"]["kernel_drops"], before["listener"]["kernel_drops"], "drops")
        at_most(seen["seen"]["kernel_drops"], portd.stats()["listener"]["kernel_drops"], "drops")
        at_least(seen["recommended"]["backlog"], 16, "the backlog to be had")
        at_least(seen["recommended"]["somaxconn"], seen["recommended"]["backlog"], "somaxconn")
        wanted = seen["recommended"]["backlog"]
        check(f"[listener] backlog = {wanted} in" in text_of(portd), "it is not in the text")


@for_each(table=TABLES)
def test_bursts(table):
    """How many came in a second, and for how long nobody looked at them: an idle hour is no pause, nor
    is the time in which they wait for a slot."""
    with Portd({"budget.max_connections": "60", "shed.queue_timeout": "10s"}, table=table) as portd:
        crowd = portd.crowd()
        first = crowd.connect(1, send=b"x")
        crowd.wait_served(first)
        crowd.run(0.5)
        crowd.wait_served(crowd.connect(1, send=b"x"))
        seen = limits(portd)["seen"]
        check(seen["accept_pause_us"] < 400000, "idle is no pause", seen["accept_pause_us"])
        portd.pause()
        burst = crowd.connect(40, send=b"x")
        crowd.run(0.6)
        portd.resume()
        crowd.wait_served(burst)
        seen = limits(portd)["seen"]
        at_least(seen["arrivals_peak"], 40, "most in a second")
        check(seen["arrivals_peak"] <= 42, "no more than came", seen["arrivals_peak"])
        at_least(seen["accept_pause_us"], 500000, "the pause")
        pause = seen["accept_pause_us"]
        full = crowd.connect(30, send=b"x")
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 5, "one is held", crowd)
        crowd.run(pause / 1e6 + 0.3)
        for client in burst:
            client.close()
        crowd.wait_served(full)
        equal(limits(portd)["seen"]["accept_pause_us"], pause, "the pause, after a time of being full")


SYSTEMCTL = """#!/bin/sh
[ "$1 $2 $4 $5 $#" = "show --no-pager -- portd@web.service 5" ] || exit 1
%s
echo MainPID=%d
echo LimitNOFILE=4096
echo LimitNOFILESoft=1024
"""


def test_a_unit():
    """What systemctl says of the unit, where the process is the unit's; a slow one is left alone."""
    need_namespaces()
    with Portd() as portd:
        folder = portd.dir + "/bin"
        os.mkdir(folder)
        with open(portd.dir + "/cgroup", "w") as file:
            file.write("0::/system.slice/system-portd.slice/portd@web.service\n")
        script = (f"mount -t tmpfs none /run; mkdir -p /run/systemd/system; "
                  f"mount --bind {portd.dir}/cgroup /proc/{portd.pid}/cgroup; "
                  f"PATH={folder}:$PATH; exec \"$@\"")
        wrapper = [*PRIVATE, script, "sh"]
        for before, pid, unit in (("", portd.pid, "portd@web.service"), ("", portd.pid + 1, None),
                                  ("exec sleep 30", portd.pid, None)):
            with open(folder + "/systemctl", "w") as file:
                file.write(SYSTEMCTL % (before, pid))
            os.chmod(folder + "/systemctl", 0o755)
            seen = limits(portd, *wrapper)
            equal(seen["unit"], unit, f"the unit, with {before!r} and main process {pid}")
            equal("unit_nofile" in seen["row"], unit is not None, "a row for it")
            if unit:
                row = seen["row"]["unit_nofile"]
                equal((row["value"], row["raise"]["line"], row["raise"]["file"]),
                      (4096, "[Service] LimitNOFILE=1024:8192",
                       "/etc/systemd/system/portd@web.service.d/limits.conf"), "the unit's limit")
                equal(seen["row"]["backlog"]["raise"]["command"],
                      "systemctl reload portd@web.service", "how to reload")
                text_of(portd, *wrapper)


def answering(folder, answer):
    """A socket that gives this answer once; its path."""
    path = folder + "/socket"
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def serve():
        with server:
            client = server.accept()[0]
            with client:
                client.recv(100)
                client.sendall(answer)
    threading.Thread(target=serve, daemon=True).start()
    return path


def test_strange_answers():
    for answer, status, words in ((b"error: unknown request 'limits'\n", 1, "unknown request"),
                                  (b"pid 1\nstate open\n", 2, "is no portd"),
                                  (b"pid \x00\n", 2, "is no portd")):
        with tempfile.TemporaryDirectory(prefix="portctl-", dir="/tmp") as folder:
            result = once.portctl("-s", answering(folder, answer), "limits")
            equal((result.returncode, result.stdout), (status, ""), "exit status")
            once.one_line(result, words)


def test_usage():
    for args, words in ((["limits", "--prometheus"], "--prometheus.*'limits'"),
                        (["limits", "--output", "/tmp/x"], "--output.*'limits'"),
                        (["limits", "now"], "'now'"), (["limit"], "mean 'limits'"),
                        (["ulimit"], "mean 'limits'")):
        result = once.portctl(*args)
        equal((result.returncode, result.stdout), (EX_USAGE, ""), f"exit status of {args}")
        check(re.search(words, result.stderr), f"{words!r} is not in:", result.stderr)


if __name__ == "__main__":
    tap.main()
