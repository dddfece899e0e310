"""portctl conns: the open connections, as clients and the kernel see them; filters, orders, limits; beside
clients that do not read, workers that do not turn, connections that come and go."""

import json
import os
import pty
import re
import socket
import subprocess
import time

import tap
from harness import PORTCTL, Portd
from once import EX_USAGE, one_line
from process import need
from tap import TABLES, at_least, at_most, check, equal, for_each, note, plain, slow
from test_stall import has_begun, stall, wait_live

PLACES = 4  # listings at once
V4_V6 = {"listener.address": "[::]:0"}


def listed(portd, *args, status=0):
    """portctl conns --json: the object."""
    result = portd.portctl("conns", "--json", *args, seconds=20)
    equal((result.returncode, result.stderr == ""), (status, status == 0), result.stderr or "conns")
    return json.loads(result.stdout)


def tuples(answer):
    return sorted((c["source"], c["source_port"], c["destination"], c["destination_port"])
                  for c in answer["connections"])


def own(clients):
    """The tuples of these clients, as they see them."""
    return sorted(c.sock.getsockname()[:2] + c.sock.getpeername()[:2] for c in clients)


def by_ss(portd):
    """The tuples of what is established at portd's end, as ss has them."""
    rows = subprocess.run(["ss", "-tnH", "state", "established", f"sport = :{portd.port}"], text=True,
                          check=True, capture_output=True).stdout.split("\n")[:-1]
    split = lambda word: (word.rpartition(":")[0].strip("[]").removeprefix("::ffff:"),
                          int(word.rpartition(":")[2]))
    return sorted(split(row.split()[3]) + split(row.split()[2]) for row in rows)


def stream(portd, request=b"conns\n", buffer=None):
    """A control connection that has asked."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(slow(15))
    sock.connect(portd.control)
    sock.sendall(request)
    return sock


def read_all(sock):
    """What comes until its end; "reset" if that is one."""
    chunks = []
    try:
        while chunk := sock.recv(65536):
            chunks.append(chunk)
    except ConnectionResetError:
        pass
    return b"".join(chunks).decode()


def ports(text):
    """The clients' ports in a raw answer."""
    return [int(line.split()[1]) for line in text.splitlines() if line.count(" ") == 8]


@for_each(table=TABLES)
def test_tuples(table):
    """Those of the clients, and of ss; IPv4 that came to [::] is IPv4."""
    need("ss")
    with Portd(V4_V6, table=table) as portd:
        crowd = portd.crowd("127.0.0.1")
        clients = crowd.connect(700, send=b"x")
        clients += crowd.connect(200, send=b"x", source=("127.0.9.1", 0))
        six = portd.crowd("::1")
        clients += six.connect(100, send=b"x")
        crowd.wait_served(clients[:900])
        six.wait_served(clients[900:])
        answer = listed(portd)
        equal((answer["open"], answer["matched"], answer["shown"]), (1000, 1000, 1000), "numbers")
        equal(answer["missing_workers"], [], "missing workers")
        equal(tuples(answer), own(clients), "tuples, beside the clients'")
        equal(tuples(answer), by_ss(portd), "tuples, beside those of ss")
        equal({c["protocol"] for c in answer["connections"]}, {"tcp"}, "protocol")
        per_worker = [sum(c["worker"] == w["id"] for c in answer["connections"])
                      for w in portd.stats()["workers"]]
        equal(per_worker, [w["connections"] for w in portd.stats()["workers"]], "by worker")
        for client in clients[::2]:
            client.close()
        portd.wait_until(lambda s: s["budget"]["connections"] == 500, 5, "half have gone")
        equal(tuples(listed(portd)), own(clients[1::2]), "those that are left")


def test_source():
    with Portd(V4_V6) as portd:
        crowd, six = portd.crowd("127.0.0.1"), portd.crowd("::1")
        near = crowd.connect(30, send=b"x", source=("127.0.9.1", 0))
        far = crowd.connect(20, send=b"x", source=("127.1.0.7", 0))
        other = six.connect(10, send=b"x")
        crowd.wait_served(near + far)
        six.wait_served(other)
        for source, clients in (("127.0.9.1", near), ("127.0.0.0/16", near), ("127.1.0.7/32", far),
                                ("127.0.0.0/8", near + far), ("::ffff:127.1.0.7", far),
                                ("::ffff:127.0.0.0/104", near + far), ("::1", other),
                                ("0.0.0.0/0", near + far), ("::/0", other), ("10.0.0.0/8", [])):
            answer = listed(portd, "--source", source)
            equal(tuples(answer), own(clients), source)
            equal((answer["open"], answer["matched"]), (60, len(clients)), f"numbers of {source}")
        text = portd.portctl("conns", "--source", "::ffff:127.1.0.7").stdout
        equal(text.splitlines()[-1], "20 of 20 connections from 127.1.0.7 shown; 60 open in all", "total")
        for wrong in ("x", "", "127.0.0.1:80", "127.0.0.0/33", "127.0.0.1/8", "::1,10.0.0.1", "localhost"):
            result = portd.portctl("conns", "--source", wrong)
            equal((result.returncode, result.stdout), (EX_USAGE, ""), f"--source {wrong!r}")
            if wrong:
                answer = portd.request(f"conns {wrong}")
                check(answer.startswith("error: "), answer)


def test_figures():
    """Age, idle time, bytes: as they were made; and every order by them."""
    with Portd({"workers.count": "3"}) as portd:
        crowd = portd.crowd()
        clients = []
        for number in range(40):
            clients += crowd.connect(1, send=b"x" * (1 + 7 * number % 41),
                                     source=(f"127.0.{number % 3 + 1}.{1 + number // 2}", 0))
            crowd.run(0.005)
        crowd.wait_served(clients)
        crowd.run(0.2)
        crowd.ask(clients[::3], b"y" * 100)
        before = time.monotonic()
        rows = {(c["source"], c["source_port"]): c for c in listed(portd)["connections"]}
        after = time.monotonic()
        seen = {c.sock.getsockname(): c for c in clients}
        equal(len(seen), len(clients), "the clients are all different")
        for port, client in seen.items():
            row = rows[port]
            equal((row["bytes_in"], row["bytes_out"]), (client.sent, client.received), "bytes")
            at_most(row["age_seconds"], after - client.began + 0.001, "age")
            at_least(row["age_seconds"], before - client.first - 0.001, "age")
            at_most(row["idle_seconds"], row["age_seconds"], "idle")
        quiet = min(rows[c.sock.getsockname()]["idle_seconds"] for c in clients[1::3])
        loud = max(rows[c.sock.getsockname()]["idle_seconds"] for c in clients[::3])
        at_least(quiet, loud + 0.1, "idle time of those that said nothing lately")

        address = lambda c: (socket.inet_aton(c["source"]), c["source_port"])
        orders = {
            "age": lambda c: (-c["age_seconds"], address(c)),
            "bytes": lambda c: (-c["bytes_in"] - c["bytes_out"], address(c)),
            "in": lambda c: (-c["bytes_in"], address(c)),
            "out": lambda c: (-c["bytes_out"], address(c)),
            "source": address,
            "worker": lambda c: (c["worker"], address(c)),
        }
        name = lambda c: (c["source"], c["source_port"])
        for sort, key in orders.items():
            for limit in (1, 7, 39, 40, 41, 0):
                answer = listed(portd, "--sort", sort, "--limit", str(limit))
                seen = [name(c) for c in answer["connections"]]
                wanted = [name(c) for c in sorted(rows.values(), key=key)][:limit or None]
                equal(seen, wanted, f"--sort {sort} --limit {limit}")
                equal((answer["matched"], answer["shown"]), (40, len(wanted)), "numbers")
        idle = [c["idle_seconds"] for c in listed(portd, "--sort", "idle")["connections"]]
        equal(idle, sorted(idle, reverse=True), "--sort idle")
        equal([name(c) for c in listed(portd)["connections"]],
              [name(c) for c in listed(portd, "--sort", "age")["connections"]], "by age if not said")


def test_text():
    with Portd() as portd:
        result = portd.portctl("conns")
        equal((result.returncode, result.stderr), (0, ""), "conns of nobody")
        equal(result.stdout.splitlines()[1:], ["0 of 0 connections shown"], "conns of nobody")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(130, send=b"12345"))
        lines = portd.portctl("conns").stdout.splitlines()
        equal(lines[0].split(), "SOURCE DESTINATION WORKER AGE IDLE IN OUT".split(), "headings")
        equal((len(lines), lines[-1]), (132, "130 of 130 connections shown"), "all, in a pipe")
        for line in lines[1:-1]:
            check(re.fullmatch(rf"127\.0\.0\.1:\d+ +127\.0\.0\.1:{portd.port} +[01] +\d+\.\d{{3}}s"
                               r" +\d+\.\d{3}s +5 +5", line), repr(line))
            equal(line.index(f"127.0.0.1:{portd.port}"), lines[0].index("DESTINATION"), "column")
            equal(len(line), len(lines[0]), "aligned at its end")
        equal(portd.portctl("conns", "--limit", "3").stdout.splitlines()[-1],
              "3 of 130 connections shown", "with a limit")
        # On a terminal.
        main, terminal = pty.openpty()
        with os.fdopen(main, "rb", 0) as screen:
            child = subprocess.Popen([PORTCTL, "-s", portd.control, "conns"], stdout=terminal,
                                     stdin=subprocess.DEVNULL)
            os.close(terminal)
            shown = b""
            try:
                while chunk := screen.read(4096):
                    shown += chunk
            except OSError:
                pass  # EIO: the other side is closed
            equal(child.wait(slow(5)), 0, "exit status")
        lines = shown.decode().split("\r\n")[:-1]
        equal((len(lines), lines[-1]), (102, "100 of 130 connections shown; --limit 0 shows all"), "there")


def test_usage():
    with Portd() as portd:
        for args, word in ((("--sort", "x"), "--sort"), (("--sort", ""), "--sort"),
                           (("--limit", "-1"), "--limit"), (("--limit", "x"), "--limit"),
                           (("--limit", ""), "--limit"), (("--utc",), "--utc"),
                           (("--output", "/tmp/x"), "--output"), (("x",), "'x'")):
            result = portd.portctl("conns", *args)
            equal((result.returncode, result.stdout), (EX_USAGE, ""), args)
            check(word in result.stderr.splitlines()[0], args, result.stderr)
        for args in (("stats", "--limit", "1"), ("limits", "--sort", "age"),
                     ("events", "--source", "::1")):
            result = portd.portctl(*args)
            equal((result.returncode, result.stdout), (EX_USAGE, ""), args)
        for line in ("conns a b", "conns\0", "connsx"):
            check(portd.request(line).startswith("error: "), repr(line))


@for_each(table=TABLES)
@plain
def test_nobody_reads(table):
    """Listings that are not read take a place for 5 s and a bounded memory, and nobody else's time."""
    with Portd({"workers.count": "3"}, table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(6000, send=b"x", source=("127.0.5.1", 0))
        crowd.wait_served(clients, 20)
        whole = portd.request("conns")
        equal(len(ports(whole)), 6000, "rows")
        at_least(len(whole), 300000, "bytes: more than a socket takes")
        rss, began = portd.rss(), time.monotonic()
        silent = [stream(portd, buffer=4096) for _ in range(PLACES)]
        answer = portd.request("conns")
        equal(answer, "error: 4 listings of connections are under way; try again\n", "one more")
        result = portd.portctl("conns")
        equal((result.returncode, result.stdout), (1, ""), "portctl")
        one_line(result, "4 listings")
        took = []
        while time.monotonic() - began < 3:
            asked = time.monotonic()
            portd.stats()
            crowd.ask(clients[::100])
            took.append(time.monotonic() - asked)
        note("stats and 60 echoes beside them:", tap.spread(took))
        at_most(max(took), slow(1), "seconds for stats and 60 echoes")
        if not os.environ.get("PORTD_SANITIZERS"):
            at_most(portd.rss() - rss, 2 * 2**20, "bytes of memory more")
        while "error" in portd.request("conns 10.0.0.0/8"):
            at_most(time.monotonic() - began, slow(5) + 3, "seconds until a place is free")
            crowd.run(0.1)
        at_least(time.monotonic() - began, 4.5, "seconds that a client has")
        for sock in silent:
            text = read_all(sock)
            check(text.startswith("open 6000\n"), text[:100])
            check("\nend " not in text, "it was cut")
            sock.close()
        equal(len(ports(portd.request("conns"))), 6000, "rows, afterwards")


def test_slow_reader():
    """Who reads slowly gets all of it, for as long as each piece is taken in its time."""
    with Portd() as portd:
        crowd = portd.crowd()
        clients = crowd.connect(5000, send=b"x", source=("127.0.5.1", 0))
        crowd.wait_served(clients, 20)
        with stream(portd, buffer=4096) as sock:
            text, began = b"", time.monotonic()
            while chunk := sock.recv(1000):
                text += chunk
                if len(text) % 4000 < 1000 and time.monotonic() - began < 7:
                    crowd.run(0.15)
        at_least(time.monotonic() - began, 6, "seconds: more than one deadline")
        equal(sorted(ports(text.decode())), sorted(c.sock.getsockname()[1] for c in clients), "ports")
        check(text.endswith(b"\nend 5000\n"), text[-100:])


def test_cut():
    """portctl knows an answer that is not whole."""
    with Portd() as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(3000, send=b"x"), 10)
        command = subprocess.Popen([PORTCTL, "-s", portd.control, "conns"], text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        equal(len(command.communicate(timeout=slow(10))[0].splitlines()), 3002, "lines")
        # One that says less than it has said that it would.
        path = os.path.join(portd.dir, "other.sock")
        for said in ("open 2\n127.0.0.1 1 127.0.0.1 2 0 1 1 1 1\n",
                     "open 2\n127.0.0.1 1 127.0.0.1 2 0 1 1 1 1\nend 2\n", "open 2\nend 0\nend 0\n",
                     "open 1\n127.0.0.1 1 127.0.0.1 70000 0 1 1 1 1\nend 1\n", "open 1\nend 0",
                     "end 0\n", "\n", "open x\nend 0\n", "x" * 70000 + "\n"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(path)
                listener.listen()
                command = subprocess.Popen([PORTCTL, "-s", path, "conns"], text=True,
                                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE)
                sock = listener.accept()[0]
                with sock:
                    sock.recv(100)
                    try:
                        sock.sendall(said.encode())
                        sock.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass
                    out, words = command.communicate(timeout=slow(15))
            os.unlink(path)
            equal((command.returncode, out), (2, ""), repr(said[:60]))
            check(words.startswith("portctl: "), words)


@for_each(table=TABLES)
def test_stalled_worker(table):
    """It is named, and passed by; all of the others' connections are there."""
    with Portd({"workers.count": "3"}, table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(300, send=b"x")
        crowd.wait_served(clients)
        whole = listed(portd)["connections"]
        tid = portd.worker_tids()[1]
        with_stall = stall(portd, tid, "epoll_wait,epoll_pwait")
        for client in clients:
            client.send(b"y")  # it serves some of them, and stalls before its next wait
        end = time.monotonic() + slow(3)
        while not has_begun(with_stall):
            check(time.monotonic() < end, "it does not stall")
            crowd.run(0.02)
        began = time.monotonic()
        answer = listed(portd, status=1)
        took = time.monotonic() - began
        note(f"took {took:.2f} s")
        at_most(took, slow(3), "seconds")
        equal(len(answer["missing_workers"]), 1, "missing workers")
        missing = answer["missing_workers"][0]
        name = lambda c: (c["source"], c["source_port"])
        equal(sorted(map(name, answer["connections"])),
              sorted(name(c) for c in whole if c["worker"] != missing), "the others' connections")
        result = portd.portctl("conns", "--limit", "1")
        equal(result.returncode, 1, "exit status")
        check(f"worker {missing}" in result.stderr, result.stderr)
        wait_live(portd, crowd)
        with_stall.stop()
        crowd.wait(lambda: all(c.received == 2 for c in clients), 5, "all are served")
        equal(tuples(listed(portd)), own(clients), "all, when it turns again")


@for_each(table=TABLES)
def test_churn(table):
    """Four listings at once, again and again, while others come and go: who stays is in each once."""
    with Portd({"workers.count": "3"}, table=table) as portd:
        crowd = portd.crowd()
        # Those that go make room in the midst of those that stay.
        mixed = crowd.connect(1600, send=b"x", source=("127.0.5.1", 0))
        crowd.wait_served(mixed, 10)
        stay, go = mixed[::2], mixed[1::2]
        wanted = own(stay)
        staying = set(wanted)
        others, rounds, until = list(go), 0, time.monotonic() + 2
        while time.monotonic() < until:
            socks = [stream(portd) for _ in range(PLACES)]
            for sock in socks:
                sock.setblocking(False)
            texts, left = {sock: b"" for sock in socks}, set(socks)
            while left:
                for client in others[:20]:
                    client.close()
                others = others[20:] + crowd.connect(20, send=b"x", source=("127.0.6.1", 0))
                crowd.turn(0)
                for sock in list(left):
                    try:
                        chunk = sock.recv(4096)
                    except BlockingIOError:
                        continue
                    texts[sock] += chunk
                    if not chunk:
                        left.discard(sock)
            for sock, text in texts.items():
                sock.close()
                rows = [line.split()[:4] for line in text.decode().splitlines() if line.count(" ") == 8]
                check(text.endswith(f"\nend {len(rows)}\n".encode()), text[-100:])
                seen = sorted((a, int(b), c, int(d)) for a, b, c, d in rows)
                # Of the others, a new one may have the port of one that has gone meanwhile.
                equal([row for row in seen if row in staying], wanted, "those that stay, each once")
            rounds += 1
        note(f"{rounds} rounds of {PLACES}")
        at_least(rounds, 2, "rounds")


def test_stops_meanwhile():
    """portd does not wait for a listing when it stops."""
    with Portd() as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(6000, send=b"x", source=("127.0.5.1", 0)), 20)
        with stream(portd, buffer=4096) as sock:
            sock.recv(100)
            portd.stop()
            check("\nend " not in read_all(sock), "it was cut")
        portd.process = None


if __name__ == "__main__":
    tap.main()
