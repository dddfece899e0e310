"""The control socket: hundreds of slow, silent and hostile clients do no harm to the service or to an
operator; the socket's file, mode, group; who may change something.
"""

import grp
import os
import re
import socket
import subprocess
import time

import once
import tap
from harness import PORTCTL, PORTD, Portd, need, need_root
from once import EX_OSERR, NOBODY, one_line
from tap import TABLES, Skip, at_least, at_most, check, equal, for_each, note, slow, spread

PLACES = 32  # control clients at once
DEADLINE = 5.0
CROWD = 300


def control(portd, data=b"", half_close=False, path=None):
    """A non-blocking socket that is connected to the control socket and has sent this."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(None)
    sock.connect(path or portd.control)
    sock.setblocking(False)
    try:
        while data:
            data = data[sock.send(data):]
        if half_close:
            sock.shutdown(socket.SHUT_WR)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass  # it takes no more
    return sock


def ask(portd, data, half_close=True, pieces=None):
    """The whole answer to these bytes, or "reset"."""
    with control(portd, b"" if pieces else data) as sock:
        sock.settimeout(slow(3))
        for number in range(len(data) if pieces else 0):
            sock.sendall(data[number:number + 1])
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := sock.recv(65536):
                answer += chunk
        except ConnectionResetError:
            return "reset"
        return answer


HOSTILE = {
    "silent": (b"", False),
    "nothing and half-closed": (b"", True),
    "half a line": (b"stats js", False),
    "garbage": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", False),
    "binary": (bytes(range(256)) * 8 + b"\n", False),
    "NULs": (b"\0" * 300, True),
    "never reads": (b"stats prometheus\n" * 10, False),
    "half-closed and never reads": (b"stats json\n", True),
    "1 MiB": (b"x" * 2**20, False),
    "1 MiB of lines": (b"stats\n" * 2**17, True),
}


@for_each(table=TABLES, kind=tuple(HOSTILE) + ("all of them",))
def test_hostile_crowd(table, kind):
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        steady = crowd.connect(50, send=b"x")
        crowd.wait_served(steady)
        quiet, rss, most = portd.count_fds(), portd.rss(), 0
        kinds = list(HOSTILE.values()) if kind == "all of them" else [HOSTILE[kind]]
        hostile, took = [], []
        for number in range(CROWD):
            hostile.append(control(portd, *kinds[number % len(kinds)]))
            if number % 20 == 19:
                most = max(most, portd.count_fds())
                began = time.monotonic()
                equal(portd.request("health"), "open\n", "health")
                took.append(time.monotonic() - began)
                crowd.ask(steady)
        note("health was answered within", spread(took), f"{most - quiet} descriptors more")
        at_most(max(took), slow(1.0), "the longest answer")
        at_most(most - quiet, PLACES + 1, "control clients at once")
        # AddressSanitizer keeps what was freed for a while: 300 answers.
        watched = "address" in os.environ.get("PORTD_SANITIZERS", "")
        at_most(portd.rss() - rss, (64 if watched else 8) * 2**20, "bytes of memory more")
        newcomers = crowd.connect(50, send=b"x")
        crowd.wait_served(newcomers, 1, "newcomers are served")
        for sock in hostile:
            sock.close()
        # The rest, that no descriptor and no connection is lost, is checked at the end.


def test_places():
    """A silent client holds its place until it is wanted, or until its time is up."""
    with Portd() as portd:
        quiet, began = portd.count_fds(), time.monotonic()
        silent = [control(portd, b"sta" if n % 2 else b"") for n in range(PLACES)]
        portd.wait_until(lambda s: s["budget"]["fds_in_use"] >= quiet + PLACES - 1, 2, "all are in")
        at_most(portd.count_fds(), quiet + PLACES, "descriptors")
        gone = [n for n, sock in enumerate(silent) if is_closed(sock)]
        at_most(len(gone), 2 + 4, "silent clients that had to go for a few requests")
        equal(gone, list(range(len(gone))), "the oldest have to go first")
        left = [sock for sock in silent if not is_closed(sock)]
        note(f"{len(gone)} of {PLACES} had to make room")
        drip = left[-1]
        while not all(is_closed(sock) for sock in left):
            check(time.monotonic() - began < slow(DEADLINE + 1), "still open after the deadline")
            try:
                drip.send(b"t")  # does not buy time
            except OSError:
                pass
            time.sleep(0.1)
        at_least(time.monotonic() - began, DEADLINE - 0.1, "closed after")
        at_most(portd.count_fds(), quiet + 1, "descriptors")
        for sock in silent:
            sock.close()


def is_closed(sock):
    """Whether portd has closed it; what it may have said is thrown away."""
    try:
        return sock.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_requests():
    with Portd() as portd:
        text = lambda *a, **k: ask(portd, *a, **k).decode()
        for request in (b"stats\n", b"stats", b"stats text\n", b"stats\r\n", b" stats\t\n",
                        b"stats\nhealth\n"):
            check(text(request).startswith("portd "), f"{request} is not answered")
        equal(text(b"health\n", half_close=False), "open\n", "health, not half-closed")
        equal(text(b"health\n", pieces=True), "open\n", "health, byte by byte")
        equal(text(b"health live\n"), "live\n", "health live")
        check(re.fullmatch(r"portd \d+\.\d+\S*\n", text(b"version\n")), text(b"version\n"))
        for word in ("stats", "health", "drain", "reload", "version", "help"):
            check(word in text(b"help\n"), f"{word} is not in", text(b"help\n"))
        equal(text(b""), "", "the answer to nothing")
        for request, seen in ((b"xyz\n", "xyz"), (b"\n", ""), (b"STATS\n", "STATS"),
                              (b"stats json x\n", "stats json x"), (b"health dead\n", "health dead"),
                              (b"drain on\n", "drain on"), (b"x\x1b[31m\xff\n", r"x\x1b[31m\xff"),
                              (b"stats\0json\n", r"stats\x00json"),
                              (b"y" * 256 + b"\n", "y" * 256)):
            answer = text(request)
            check(answer.startswith(f"error: unknown request '{seen}'; one of: stats ["), answer)
            equal((answer.count("\n"), answer[-1]), (1, "\n"), "lines")
            check(answer[:-1].isprintable(), repr(answer))
        check(text(b"stats xml\n").startswith("error: "), "an unknown format")
        for request in (b"y" * 257, b"y" * 257 + b"\n", b"y" * 60000):
            equal(text(request), "error: request too long\n", f"{len(request)} bytes")
        equal(portd.request("health"), "open\n", "the state in the end")


def test_socat():
    need("socat")
    with Portd() as portd:
        result = subprocess.run(["socat", "-", "UNIX-CONNECT:" + portd.control], input="stats\n",
                                text=True, capture_output=True, timeout=slow(10))
        equal((result.returncode, result.stderr), (0, ""), "exit status and stderr of socat")
        check(result.stdout.startswith("portd ") and "books:" in result.stdout, result.stdout)


@for_each(table=TABLES)
def test_clients_that_hang_up(table):
    """Before, in the midst of, and after the request; portd does not mind."""
    with Portd(table=table) as portd:
        before = portd.stats()["workers"]
        for number in range(500):
            control(portd, (b"", b"sta", b"stats json\n", b"drain o")[number % 4]).close()
        # portctl waits where the socket's own queue is full.
        equal(portd.portctl("health").stdout, "open\n", "health")
        equal(len(portd.stats()["workers"]), len(before), "workers")


def refuses(portd_at, path, *words):
    """A portd that is to use this path does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    result = once.portd("-c", "/dev/null", "-o", f"listener.address={address}",
                        "-o", f"control.socket={path}")
    equal((result.returncode, result.stdout), (EX_OSERR, ""), f"exit status ({portd_at})")
    one_line(result, re.escape(path), *words)


def test_socket_file():
    with Portd(start=False) as portd:
        with socket.socket(socket.AF_UNIX) as stale:  # it is replaced
            stale.bind(portd.control)
        portd.start()
        inode = os.stat(portd.control).st_ino
        refuses("a live portd", portd.control, "another portd")
        equal(os.stat(portd.control).st_ino, inode, "the live one's file")
        equal(portd.request("health"), "open\n", "the live one's health")

        path = portd.dir + "/deaf"
        with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
            deaf.bind(path)
            deaf.listen(0)
            first.connect(path)
            refuses("a live one whose queue is full", path, "another portd")
            check(os.path.exists(path), "the deaf one's file is gone")

        others = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for what, make in (("file", lambda p: open(p, "w").write("data")),
                           ("folder", os.mkdir), ("fifo", os.mkfifo), ("others", others.bind),
                           ("link", lambda p: os.symlink("/nowhere", p))):
            path = f"{portd.dir}/{what}"
            make(path)
            before = os.lstat(path)
            refuses(what, path)
            after = os.lstat(path)
            equal((after.st_ino, after.st_mode, after.st_size, after.st_mtime_ns),
                  (before.st_ino, before.st_mode, before.st_size, before.st_mtime_ns), what)
        others.close()


def test_file_is_gone_at_the_end():
    """Whether its folder was there, or was made for it; but not one that took its place."""
    for folder, replaced in (("", False), ("/made", False), ("", True)):
        portd = Portd(start=False)
        try:
            portd.control = portd.dir + folder + "/c.sock"
            portd.options["control.socket"] = portd.control
            portd.start()
            if folder:
                equal(os.stat(portd.dir + folder).st_mode & 0o7777, 0o755, "mode of the folder")
            if replaced:
                os.unlink(portd.control)
                open(portd.control, "w").close()
            portd.stop()
            equal(os.path.exists(portd.control), replaced, "the file is there")
            equal(os.path.exists(os.path.dirname(portd.control)), not folder, "the folder is there")
        finally:
            portd.kill()


def test_mode_and_group():
    need_root()
    group = next((g for g in grp.getgrall() if g.gr_gid not in (0, NOBODY)), None)
    if group is None:
        raise Skip("there is no other group")
    for umask, mode, name, gid in ((0o077, "0666", "", os.getegid()), (0, "0600", "", os.getegid()),
                                   (0o022, "0660", group.gr_name, group.gr_gid),
                                   (0o777, "0640", "root", 0)):
        portd = Portd({"control.mode": mode, "control.group": name}, start=False)
        try:
            before = os.umask(umask)
            try:
                portd.write_config()
                os.chmod(portd.config_path, 0o644)
                portd.spawn()
            finally:
                os.umask(before)
            os.chmod(portd.stderr_path, 0o644)
            check(portd.notify.wait("READY=1", 5) is not None, "no READY=1:", portd.log())
            seen = os.stat(portd.control)
            equal((oct(seen.st_mode & 0o7777), seen.st_gid), (oct(int(mode, 8)), gid),
                  f"mode and group with umask {umask:03o}")
            portd.stop()
        finally:
            portd.kill()


def as_user(portd, uid, *args):
    program = once.public_copy(PORTCTL, portd.dir)
    return once.run(program, "-s", portd.control, *args, user=uid)


def test_other_users():
    need_root()
    with Portd({"control.mode": "0666"}) as portd:
        for command in (["stats"], ["stats", "--json"], ["health"], ["health", "--live"]):
            result = as_user(portd, NOBODY, *command)
            equal((result.returncode, result.stderr), (0, ""), f"{command} by another user")
        portd.write_config({"listener.backlog": "5"})
        for command in (["drain"], ["drain", "--off"], ["reload"]):
            result = as_user(portd, NOBODY, *command)
            equal((result.returncode, result.stdout), (1, ""), f"{command} by another user")
            one_line(result, "^portctl: error: not permitted: " + command[0], "root")
        stats = portd.stats()
        equal((stats["state"], stats["listener"]["backlog_configured"]), ("open", 4096), "unchanged")
        equal(portd.portctl("drain").stdout, "draining\n", "drain by root")
        equal(as_user(portd, NOBODY, "drain", "--off").returncode, 1, "drain --off by another user")
        equal(portd.portctl("drain", "--off").stdout, "open\n", "drain --off by root")


def test_own_user():
    """portd without root: its own user may change it, root may, another one may not."""
    need_root()
    need("setpriv")
    portd = Portd({"control.mode": "0666"}, start=False)
    copy = once.public_copy(PORTD, portd.dir)
    portd.wrapper = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "sh",
                     "-c", f'shift; exec {copy} "$@"', "sh"]
    os.chown(portd.dir, NOBODY, NOBODY)
    os.chmod(portd.notify.path, 0o777)
    with portd:
        portd.start()
        equal(os.stat(f"/proc/{portd.pid}").st_uid, NOBODY, "portd's user")
        for who, status in ((NOBODY, 0), (0, 0), (NOBODY - 1, 1)):
            for command in (["drain"], ["drain", "--off"], ["reload"]):
                result = as_user(portd, who, *command)
                equal(result.returncode, status, f"{command} by {who}: {result.stderr}")
        equal(portd.request("health"), "open\n", "health")


if __name__ == "__main__":
    tap.main()
