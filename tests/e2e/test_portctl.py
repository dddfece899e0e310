"""portctl: every command, its output and its exit status; and what it says when there is no answer."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import once
import tap
from harness import PORTCTL, Portd, need, need_root
from once import EX_USAGE, NOBODY, one_line
from tap import at_least, at_most, check, equal, for_each, note, slow

EX_REFUSED, EX_NO_ANSWER = 1, 2


def says(portd, args, status, stdout, *words):
    """portctl with these arguments ends so; on success it says nothing else."""
    result = portd.portctl(*args)
    equal((result.returncode, result.stdout), (status, stdout), f"portctl {' '.join(args)}")
    if words:
        one_line(result, *words)
    else:
        equal(result.stderr, "", f"what portctl {' '.join(args)} says")
    return result


def output(portd, *args):
    result = portd.portctl(*args)
    equal((result.returncode, result.stderr), (0, ""), f"portctl {' '.join(args)}")
    return result.stdout


@contextlib.contextmanager
def busy():
    """A portd that has served 20, shed 3 and holds 5 connections of 5, and one that waits."""
    with Portd({"budget.max_connections": "5", "shed.queue_timeout": "0s"}) as portd:
        crowd = portd.crowd()
        for _ in range(5):
            gone = crowd.connect(4, send=b"0123456789")
            crowd.wait_served(gone)
            for client in gone:
                client.close()
            portd.wait_until(lambda s: s["budget"]["connections"] == 0, 2, "they have gone", crowd)
        portd.fill(crowd)
        crowd.wait_answered(crowd.connect(3, send=b"x"))
        portd.write_config({"shed.queue_timeout": "60s"})
        equal(portd.reload(), "reloaded\n", "the verdict")
        crowd.connect(1, send=b"x")
        portd.wait_until(lambda s: s["budget"]["held"] == 1, 2, "one is held", crowd)
        yield portd


def test_text():
    with busy() as portd:
        text = output(portd, "stats")
        for line in ("state +full", r"listener +127\.0\.0\.1:\d+", r".*Recv-Q \d+, Send-Q 4096.*",
                     r"connections +5 of 5 \(100 %\), peak 5", r" +bound by +max_connections\b.*",
                     r" +held +1", r"accepted +29", r"shed +3", r" +full +3\b.*", r"closed +20",
                     "books: accepted 29 = held 1 [+] connections 5 [+] shed 3 [+] closed 20"):
            check(re.search(f"^{line}", text, re.M), f"no line is {line!r}:", text)
        check(text.isascii() and "\x1b" not in text, "colours, where nobody sees them")


def test_json():
    with busy() as portd:
        stats = json.loads(output(portd, "stats", "--json"))
        seen = (stats["state"], stats["pid"], stats["budget"]["connections"],
                stats["budget"]["connections_peak"], stats["budget"]["held"],
                stats["accept"]["accepted"], stats["shed"]["full"], Portd.books(stats))
        equal(seen, ("full", portd.pid, 5, 5, 1, 29, 3, 0), "figures")
        equal((stats["traffic"]["bytes_in"], stats["traffic"]["bytes_out"]), (205, 205), "traffic")
        equal(sum(w["accepted"] for w in stats["workers"]), 29, "accepted by workers")
        equal(sum(w["connections"] for w in stats["workers"]), 5, "connections of workers")
        at_least(stats["accept"]["calls"], 29, "calls")
        equal(list(stats["accept"]["errors"]), ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM",
              "ECONNABORTED", "EINTR", "EPROTO", "EPERM", "OTHER"], "rows of errors")
        spent = sum(stats["time_in_state_seconds"].values())
        at_most(abs(spent - stats["uptime_seconds"]), 0.001, "uptime beside the time in each state")
        buckets = list(stats["queue_wait_seconds"]["buckets"].values())
        equal(buckets, sorted(buckets), "buckets, which are cumulative")
        equal(buckets[-1], stats["queue_wait_seconds"]["count"], "the last bucket")


def samples(text):
    """{name and labels: value}; checks HELP, TYPE and the order of families."""
    values, family, seen, kind = {}, None, set(), {}
    for line in text.splitlines():
        if line == "# EOF":
            continue
        if head := re.fullmatch(r"# (HELP|TYPE) (\w+) (.+)", line):
            if head[1] == "HELP":
                check(head[2] not in seen, "a family comes twice:", head[2])
                seen.add(head[2])
                family = head[2]
            equal(head[2], family, "HELP comes before TYPE")
            if head[1] == "TYPE":
                check(family not in kind, "a second TYPE:", family)
                kind[family] = head[3]
            continue
        sample = re.fullmatch(r'((\w+)(?:\{(?:\w+="[^"]*",?)+\})?) (\S+)', line)
        check(sample, "no sample:", line)
        check(sample[2].startswith(family) and family in kind, "out of its family:", line)
        check(sample[1] not in values, "a sample comes twice:", line)
        values[sample[1]] = float(sample[3])
    return values, kind


@for_each(form=("prometheus", "openmetrics"))
def test_metrics(form):
    with busy() as portd:
        text = output(portd, "stats", "--" + form)
        values, kinds = samples(text)
        equal(text.endswith("\n# EOF\n"), form == "openmetrics", "ends with # EOF")
        equal(text.count("# EOF"), int(form == "openmetrics"), "# EOF")
        for name, value in (("portd_accepted_connections_total", 29), ("portd_connections", 5),
                            ("portd_connections_max", 5), ("portd_held_connections", 1),
                            ('portd_shed_connections_total{reason="full"}', 3),
                            ('portd_accept_errors_total{errno="EMFILE"}', 0),
                            ('portd_state{state="full"}', 1), ('portd_state{state="open"}', 0),
                            ("portd_received_bytes_total", 205), ("portd_sent_bytes_total", 205)):
            equal(values.get(name), value, name)
        total = lambda name: sum(v for k, v in values.items() if k.split("{")[0] == name)
        equal(total("portd_accepted_connections_total"), values["portd_held_connections"]
              + values["portd_connections"] + total("portd_shed_connections_total")
              + total("portd_closed_connections_total"), "the books")
        suffix = "" if form == "openmetrics" else "_total"
        equal(kinds["portd_accepted_connections" + suffix], "counter", "TYPE")
        equal(kinds["portd_queue_wait_seconds"], "histogram", "TYPE")
        equal([line for line in text.splitlines() if not line.startswith("#")
               and len(line.split()) != 2 and '"' not in line], [], "samples with a timestamp")


def test_promtool():
    need("promtool")
    with busy() as portd:
        result = subprocess.run(["promtool", "check", "metrics"], text=True, capture_output=True,
                                input=output(portd, "stats", "--prometheus"), timeout=slow(20))
        equal((result.returncode, result.stdout, result.stderr), (0, "", ""), "promtool's verdict")


def test_output():
    """A reader sees all of the file or the one before it, never a part."""
    with Portd() as portd:
        path, seen, stop = portd.dir + "/portd.prom", [], threading.Event()

        def read():
            while not stop.is_set():
                try:
                    with open(path) as file:
                        seen.append(file.read())
                except FileNotFoundError:
                    pass

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(40):
                says(portd, ["stats", "--openmetrics", "--output", path], 0, "")
        finally:
            stop.set()
            reader.join()
        partial = [text for text in seen if not text.endswith("# EOF\n")]
        note(f"{len(seen)} reads of {len(set(seen))} versions")
        equal(len(partial), 0, "parts of a file seen")
        at_least(len(set(seen)), 2, "versions seen")
        equal(os.stat(path).st_mode & 0o777, 0o644, "mode")
        equal([n for n in os.listdir(portd.dir) if "portd.prom" in n], ["portd.prom"], "left behind")

        says(portd, ["stats", "--output", path], 0, "")
        check("books:" in open(path).read(), "text goes to a file, too")
        os.mkfifo(portd.dir + "/fifo")
        for bad, word in ((portd.dir, "directory"), (portd.dir + "/fifo", "regular"),
                          ("/dev/full", "regular"), (portd.dir + "/no/file", "No such file")):
            says(portd, ["stats", "--output", bad], EX_REFUSED, "", re.escape(bad), word)
        check(os.path.exists(portd.dir + "/fifo"), "the fifo is gone")
        old = open(path).read()
        result = once.portctl("-s", portd.dir + "/nobody", "stats", "--output", path)
        equal((result.returncode, open(path).read()), (EX_NO_ANSWER, old), "status, and the old file")
        with open("/dev/full", "w") as full:
            result = once.portctl("-s", portd.control, "stats", stdout=full, leaks=True)
        equal(result.returncode, EX_REFUSED, "stats to a full disk")
        one_line(result, "standard output")


def test_health_and_drain():
    """Each state, its word and its exit status."""
    with Portd({"budget.max_connections": "2", "shed.queue_timeout": "60s"}) as portd:
        crowd = portd.crowd()
        says(portd, ["health"], 0, "open\n")
        says(portd, ["health", "--live"], 0, "live\n")
        portd.fill(crowd)
        crowd.connect(1, send=b"x")
        portd.wait_until(lambda s: s["state"] == "full", 2, "full", crowd)
        says(portd, ["health"], EX_REFUSED, "full\n")
        says(portd, ["health", "--live"], 0, "live\n")
        for client in list(crowd):
            client.close()
        portd.wait_until(lambda s: s["state"] == "open", 2, "open", crowd)

        for _ in range(2):
            says(portd, ["drain"], 0, "draining\n")
            says(portd, ["health"], EX_REFUSED, "draining\n")
            says(portd, ["health", "--live"], 0, "live\n")
        equal(portd.stats()["state"], "draining", "state")
        newcomer, = crowd.connect(send=b"x")
        crowd.wait_answered([newcomer], 1)
        equal(newcomer.outcome, "reset", "a newcomer's answer")
        for _ in range(2):  # it was refused on purpose: there is room
            says(portd, ["drain", "--off"], 0, "open\n")
            says(portd, ["health"], 0, "open\n")
        crowd.wait_served(crowd.connect(1, send=b"x"), 1)
        equal(portd.stats()["shed"]["draining"], 1, "shed for draining")

        portd.write_config({"budget.max_connections": "10", "budget.rate": "1",
                            "budget.burst": "1"})
        equal(portd.reload(), "reloaded\n", "the verdict")
        shed = time.monotonic()
        crowd.wait_answered(crowd.connect(3, send=b"x"), 1)
        says(portd, ["health"], EX_REFUSED, "shedding\n")
        portd.wait_until(lambda s: s["state"] == "open", 6, "open again", crowd)
        at_least(time.monotonic() - shed, 4.8, "seconds of shedding")
        says(portd, ["health"], 0, "open\n")


def test_which_socket():
    """-s, then -i, then $PORTD_SOCKET."""
    need_root()
    with Portd() as portd:
        instance = os.path.basename(portd.dir)[len("portd-"):]
        folder = f"/run/portd-{instance}"
        os.mkdir(folder)
        try:
            os.symlink(portd.control, folder + "/control.sock")
            wrong, right = {"PORTD_SOCKET": "/nowhere"}, {"PORTD_SOCKET": portd.control}
            for args, env, status in ((["-s", portd.control], wrong, 0), (["-i", instance], wrong, 0),
                                      ([], right, 0), ([], wrong, EX_NO_ANSWER),
                                      (["-s", portd.control, "-i", "nowhere"], wrong, 0),
                                      (["-s", "/nowhere", "-i", instance], right, EX_NO_ANSWER),
                                      (["-i", "nowhere"], right, EX_NO_ANSWER)):
                for command in (args + ["health"], ["health"] + args):
                    result = once.portctl(*command, env=env)
                    equal(result.returncode, status, f"{command} with {env}: {result.stderr}")
            check("/nowhere" in once.portctl("health", env=wrong).stderr, "the path is not named")
            check("/run/portd-no-such/control.sock" in
                  once.portctl("-i", "no-such", "health").stderr, "the path is not named")
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def server(path, answer):
    """Something else that answers each request so (None: not at all)."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    if answer is not None:
        thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        if answer is not None:
            thread.join()


def test_no_answer():
    """Nobody there, or no portd: one line, exit status 2, nothing on stdout."""
    with Portd(start=False) as portd:
        path = portd.control

        def silent(words, command):
            result = once.portctl("-s", path, *command, leaks=True)
            equal((result.returncode, result.stdout), (EX_NO_ANSWER, ""), " ".join(command))
            one_line(result, "^portctl: ", re.escape(path), words)

        commands = (["stats"], ["stats", "--json"], ["health"], ["health", "--live"], ["drain"],
                    ["drain", "--off"], ["reload"])
        for command in commands:
            silent("No such file.*running", command)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        silent("refused", ["stats"])
        os.unlink(path)
        open(path, "w").close()
        silent("refused", ["stats"])
        os.unlink(path)
        with server(path, b""):
            for command in commands:
                silent("without an answer", command)
        os.unlink(path)
        with server(path, b"half an answ"):
            silent("cut short", ["stats"])
        os.unlink(path)
        with server(path, b"HTTP/1.1 400 Bad Request\r\n"):
            silent("no portd", ["health"])
        os.unlink(path)
        with server(path, None):
            began = time.monotonic()
            result = once.portctl("-s", path, "health", seconds=15)
            took = time.monotonic() - began
            equal((result.returncode, result.stdout), (EX_NO_ANSWER, ""), "a mute portd")
            one_line(result, re.escape(path), "within 10 s")
            at_most(took, slow(11), "seconds until it gave up")
            at_least(took, 9.9, "seconds until it gave up")


def test_no_permission():
    need_root()
    with Portd({"control.mode": "0600"}) as portd:
        folder = tempfile.mkdtemp(prefix="portctl-", dir="/tmp")
        try:
            program = once.public_copy(PORTCTL, folder)
            for mode in (0o755, 0o700):  # the socket is closed to others; its folder is, too
                os.chmod(portd.dir, mode)
                result = once.run(program, "-s", portd.control, "stats", user=NOBODY)
                equal((result.returncode, result.stdout), (EX_NO_ANSWER, ""), "exit status")
                one_line(result, re.escape(portd.control), "Permission denied", "root")
        finally:
            shutil.rmtree(folder)


def test_usage():
    for args, words in (([], "no command"), (["stat"], "'stat'.*mean 'stats'"),
                        (["staus"], "mean 'stats'"), (["relaod"], "mean 'reload'"),
                        (["undrain"], "mean 'drain --off'"), (["heatlh"], "mean 'health'"),
                        (["xyzzy"], "unknown command 'xyzzy'$"), (["stats", "json"], "'json'"),
                        (["health", "--json"], "--json.*'health'"), (["drain", "--live"], "--live"),
                        (["stats", "--json", "--prometheus"], "exclude"),
                        (["health", "--output", "/tmp/x"], "--output"), (["--colour"], "--colour"),
                        (["stats", "--output", ""], "--output"), (["-i", "a/b", "stats"], "a/b"),
                        (["-i", "", "stats"], "instance"), (["-s", "/" + "s" * 108, "stats"], "107"),
                        (["-s"], "-s|'s'"), (["stats", "--output"], "output")):
        result = once.portctl(*args, leaks=True)
        equal((result.returncode, result.stdout), (EX_USAGE, ""), f"exit status of {args}")
        at_most(len(result.stderr.splitlines()), 2, "lines said")
        check(re.search(words, result.stderr, re.M), f"{words!r} is not in:", result.stderr)
    for flag, word in (("--help", "(?s)usage: portctl .*Examples:"), ("--version", r"portctl \d+\.\d")):
        result = once.portctl(flag, leaks=True)
        equal((result.returncode, result.stderr), (0, ""), f"exit status of {flag}")
        check(re.search(word, result.stdout), f"what {flag} prints:", result.stdout)


def test_one_of_each():
    """One connection is no connections; but for the line that is promised (STATUS=, stats)."""
    with Portd({"budget.max_connections": "1", "workers.count": "1", "shed.queue_timeout": "1min",
                "shed.gate": "on", "shed.gate_after": "0s"}) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 1)
        portd.wait_until(lambda s: s["listener"]["gate"] == "closed", 5, "the gate closes", crowd)
        equal(portd.reload(), "reloaded\n", "the reload")
        said = [line for args in (("limits",), ("conns",), ("stats",))
                for line in portd.portctl(*args).stdout.splitlines() if " of 1 connections (" not in line]
        portd.process.terminate()
        portd.expect_exit(0)
        portd.process = None  # its end was as it should be
        said += portd.log_lines()
        many = "connections|workers|times|changes|clients|slots|descriptors|tables|listings"
        wrong = [line for line in said if re.search(rf"(?<![\d,.])1 (more )?({many})\b", line)]
        equal(wrong, [], "one, as if it were several")
        text = " ".join(" ".join(said).split())
        for words in ("open on .*: up to 1 connection, ", "full: [01] of 1 connection, queue 0/",
                      "reloaded: up to 1 connection, ", "stopping: 1 connection is open, ",
                      "This port holds 1 connection at the same time", ", 1 connection now, ",
                      "1 of 1 connection shown", "gate closed, closed 1 time, "):
            check(re.search(words, text), f"{words!r} is not in:", text)


if __name__ == "__main__":
    tap.main()
