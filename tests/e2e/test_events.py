"""portctl events: when portd was full, why, whom it shed most, what was decided; and --follow."""

import calendar
import json
import os
import re
import select
import signal
import subprocess
import time

import tap
from harness import PORTCTL, Portd
from process import need
from tap import TABLES, Fail, at_least, at_most, check, equal, for_each, slow

BURST = 8  # entries that a topic may write in a row, history.h


def events(portd):
    """What portctl events --json prints, as objects."""
    result = portd.portctl("events", "--json")
    equal((result.returncode, result.stderr), (0, ""), "portctl events --json")
    return [json.loads(line) for line in result.stdout.splitlines()]


def kinds(portd):
    return [event["event"] for event in events(portd)]


def wait_event(portd, kind, crowd=None, count=1):
    """The count-th event of this kind, as soon as it is there."""
    end = time.monotonic() + slow(5)
    while len(seen := [e for e in events(portd) if e["event"] == kind]) < count:
        check(time.monotonic() < end, f"no {kind} comes:", events(portd))
        crowd.run(0.05) if crowd else time.sleep(0.05)
    return seen[count - 1]


def seconds(text):
    """A time of portd's, since 1970."""
    seen = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{3})Z", text)
    check(seen, text, "is no time")
    return calendar.timegm(time.strptime(seen[1], "%Y-%m-%dT%H:%M:%S")) + float(seen[2])


def close(clients):
    for client in clients:
        client.close()


class Follower:
    """portctl events --follow --json, read a line at a time."""

    def __init__(self, portd, *options):
        command = [PORTCTL, "-s", portd.control, "events", "--follow", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE,
                                        env={**os.environ, "TZ": "XST-5:30"})
        portd.helpers.append(self.process)
        self.rest = b""

    def line(self, within=5):
        end = time.monotonic() + slow(within)
        while b"\n" not in self.rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Fail(f"no line within {within} s")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise Fail(f"it ended: {self.end()}")
            self.rest += chunk
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def until(self, kind):
        """The objects up to one of this kind."""
        seen = []
        while not seen or seen[-1]["event"] != kind:
            seen.append(json.loads(self.line()))
        return seen

    def end(self):
        """(exit status, what it said on stderr)."""
        _, errors = self.process.communicate(timeout=slow(5))
        return self.process.returncode, errors.decode()


@for_each(table=TABLES)
def test_a_spell(table):
    """Its beginning with the cause, its end with the figures and who was shed most, in order."""
    with Portd({"budget.max_connections": "4", "shed.queue_timeout": "100ms",
                "source.prefix4": "24"}, table=table) as portd:
        crowd = portd.crowd()
        began = time.time()
        inside = portd.fill(crowd, 4)
        full = wait_event(portd, "full", crowd)
        equal([full[name] for name in ("cause", "bound_by", "max_connections")],
              ["slots", "max_connections", 4], "its beginning")
        check(3 <= full["connections"] <= 4, "the last may not be open yet", full)
        crowd.run(0.05)
        wanted = {}
        for network, count in ((1, 3), (2, 9), (3, 5), (4, 2), (5, 7), (6, 4), (7, 1)):
            wanted[f"127.0.{network}.0/24"] = count
            for host in range(count):
                crowd.connect(1, source=(f"127.0.{network}.{host + 1}", 0))
        losers = [c for c in crowd if c not in inside]
        crowd.wait_answered(losers)
        equal(kinds(portd), ["open", "full"], "while it is on")
        close(inside)
        end = wait_event(portd, "not_full", crowd)
        equal(end["shed"], len(losers), "shed")
        most = sorted(wanted.items(), key=lambda item: -item[1])[:5]
        equal([(n["network"], n["shed"]) for n in end["networks"]], most, "who was shed most")
        at_least(end["queue_peak"], 1, "queue peak")
        check(0.05 <= end["lasted_seconds"] <= time.time() - began, end)
        check(began - 1 <= seconds(full["time"]) <= seconds(end["time"]) <= time.time() + 1, full, end)
        check(abs(seconds(end["time"]) - seconds(full["time"]) - end["lasted_seconds"]) < 0.003, end)
        equal([e["number"] for e in events(portd)], [1, 2, 3], "numbers")
        # The next spell counts anew.
        inside = portd.fill(crowd, 4)
        crowd.run(0.05)
        crowd.wait_answered(crowd.connect(2, source=("127.0.9.1", 0)))
        close(inside)
        end = wait_event(portd, "not_full", crowd, 2)
        equal(end["networks"], [{"network": "127.0.9.0/24", "shed": 2}], "the second spell")


def test_text_and_times():
    """One line each; local time by default, UTC with --utc, the same moment in both."""
    with Portd({"budget.max_connections": "1"}) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 1)
        wait_event(portd, "full", crowd)
        lines = {}
        for zone, option in (("XST-5:30", []), ("XST+3", []), ("XST-5:30", ["--utc"])):
            result = subprocess.run([PORTCTL, "-s", portd.control, "events", *option], text=True,
                                    capture_output=True, timeout=slow(10),
                                    env={**os.environ, "TZ": zone})
            equal((result.returncode, result.stderr), (0, ""), zone)
            lines[zone + "".join(option)] = result.stdout.splitlines()
        east, west, utc = lines.values()
        equal([len(east), len(west), len(utc)], [2, 2, 2], "lines")
        for there, offset, hours in ((east, "+05:30", 5.5), (west, "-03:00", -3)):
            for line, plain in zip(there, utc):
                stamp, words = line.split(" ", 1)
                at, plain_words = plain.split(" ", 1)
                equal(words, plain_words, "the words")
                check(stamp.endswith(offset), stamp)
                check(abs(seconds(stamp[:-6] + "Z") - seconds(at) - 3600 * hours) < 0.001, stamp, at)
        check(re.fullmatch(r"\S+Z full         [01] of 1 connections; queue 0/\d+; no slot left "
                           r"\(max_connections\)", utc[1]), utc[1])
        equal(portd.request("events").splitlines(), utc, "what portd itself says")
        for words in (["events"], ["explain", "127.0.0.1"]):
            result = subprocess.run([PORTCTL, "-s", portd.control, *words, "--json"], text=True,
                                    capture_output=True, env={**os.environ, "TZ": "XST-5:30"})
            check("Z\"" in result.stdout and "+05:30" not in result.stdout, "JSON is in UTC", words)


def test_decisions():
    """What the operator did, what the gate did, and that it stops."""
    with Portd({"budget.max_connections": "2", "shed.queue_timeout": "1min", "shed.gate": "on",
                "shed.gate_after": "100ms", "timeouts.drain": "30s"}) as portd:
        crowd = portd.crowd()
        portd.portctl("drain")
        portd.portctl("drain")
        portd.portctl("drain", "--off")
        portd.write_config({"budget.max_connections": "3"})
        portd.reload()
        portd.write_config({"shed.low_watermark": "much", "shed.start_at": "more"})
        portd.reload()
        equal(kinds(portd), ["open", "drain_on", "drain_off", "reloaded", "rejected"], "decisions")
        seen = events(portd)
        equal((seen[0]["address"], seen[0]["listener"]), (f"127.0.0.1:{portd.port}", "own"), "open")
        equal((seen[3]["max_connections"], seen[3]["bound_by"]), (3, "max_connections"), "reloaded")
        check("low_watermark: 'much'" in seen[4]["mistake"], seen[4])
        check("start_at" not in seen[4]["mistake"], "only the first mistake:", seen[4])
        inside = portd.fill(crowd, 3)
        wait_event(portd, "gate_closed", crowd)
        close(inside)
        wait_event(portd, "gate_open", crowd)
        equal(sorted(kinds(portd)[5:]), ["full", "gate_closed", "gate_open", "not_full"], "a gate")
        stays = crowd.connect(1, send=b"x")
        crowd.wait_served(stays)
        portd.process.send_signal(signal.SIGTERM)
        stopping = wait_event(portd, "stopping", crowd)
        equal(stopping["connections"], 1, "open when it stops")
        close(stays)
        portd.expect_exit(0)
        portd.process = None  # its end was as it should be


@for_each(table=TABLES)
def test_short_of_descriptors(table):
    with Portd({"workers.count": "1", "shed.queue_timeout": "100ms"}, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 20)
        top = portd.top_fd()
        old, _ = portd.limit_nofile(top + 1)
        crowd.wait_answered(crowd.connect(3, source=("127.0.3.1", 0)))
        equal(wait_event(portd, "full", crowd)["cause"], "fds", "cause")
        check("out of descriptors" in portd.request("events"), portd.request("events"))
        portd.limit_nofile(old)
        close(inside)
        equal(wait_event(portd, "not_full", crowd)["cause"], "fds", "cause of what ended")


def test_errors_and_stalls():
    """An error of accept4 without a row, and a worker that stands still."""
    need("strace")
    with Portd({"workers.count": "1"}) as portd:
        crowd = portd.crowd()
        trace = portd.strace("-e", "trace=accept4", "-e", "inject=accept4:error=EDOM:when=1",
                             tids=portd.worker_tids())
        clients = crowd.connect(1, send=b"x")
        error = wait_event(portd, "accept_error", crowd)
        trace.stop()
        equal((error["worker"], error["error"]), (0, "EDOM"), "the error")
        crowd.wait_served(clients)
        trace = portd.strace("-e", "trace=accept4", "-e", "inject=accept4:delay_enter=3s:when=1",
                             tids=portd.worker_tids())
        clients = crowd.connect(1, send=b"x")
        stalled = wait_event(portd, "stalled", crowd)
        equal([stalled[name] for name in ("worker", "stalled", "workers")], [0, 1, 1], "stalled")
        again = wait_event(portd, "turns_again", crowd)
        equal([again[name] for name in ("worker", "stalled", "workers")], [0, 0, 1], "turns again")
        trace.stop()
        crowd.wait_served(clients)


def test_the_listener():
    """Stored with the service manager, and taken over by the next portd."""
    with Portd(env={"FDSTORE": "1"}) as first:
        equal(kinds(first), ["open", "stored"], "the first")
        fd = os.dup(first.notify.store["portd-listener"][0])
        with Portd({"listener.address": f"127.0.0.1:{first.port}"}, env={"FDSTORE": "1"},
                   listeners=[("portd-listener", fd)]) as second:
            equal([(e["event"], e["listener"]) for e in events(second)], [("open", "stored")], "second")
        with Portd(listeners=[("web", fd)]) as third:
            equal(events(third)[0]["listener"], "socket", "from a socket unit")
        os.close(fd)


def test_follow():
    """It begins with what is there, sees a spell begin and end, and ends as told or with portd."""
    with Portd({"budget.max_connections": "2", "shed.queue_timeout": "50ms"}) as portd:
        crowd = portd.crowd()
        portd.portctl("drain")
        follower = Follower(portd, "--json")
        plain = Follower(portd)
        there = follower.until("drain_on")
        equal([e["event"] for e in there], ["open", "drain_on"], "what was there")
        check(abs(seconds(there[-1]["time"]) - time.time()) < slow(2), "JSON is in UTC", there)
        portd.portctl("drain", "--off")
        equal([e["event"] for e in follower.until("drain_off")], ["drain_off"], "what came")
        inside = portd.fill(crowd, 2)
        equal(follower.until("full")[-1]["max_connections"], 2, "it begins")
        crowd.wait_answered(crowd.connect(3, source=("127.0.3.1", 0)))
        close(inside)
        end = follower.until("not_full")[-1]
        equal((end["shed"], end["networks"]), (3, [{"network": "127.0.3.1", "shed": 3}]), "it ends")
        equal(end["number"], len(events(portd)), "each event once")
        lines = [plain.line() for _ in range(5)]
        check(all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]{12}\+05:30 \w+ ", text) for text in lines),
              lines)
        equal([line.split()[1] for line in lines], ["open", "drain_on", "drain_off", "full", "not_full"],
              "for people")
        plain.process.send_signal(signal.SIGINT)
        equal(plain.end(), (0, ""), "SIGINT")
        crowd.close()
        portd.stop()
        status, words = follower.end()
        equal(status, 2, "portd has ended")
        check(words.startswith("portctl: "), words)
        portd.process = None


@for_each(json=("", "--json"))
def test_follow_ends_with_its_reader(json):
    """As in `portctl events --follow | head -1`: without another event."""
    with Portd() as portd:
        follower = Follower(portd, *filter(None, [json]))
        check("open" in follower.line(), "the first")
        follower.process.stdout.close()
        try:
            equal(follower.process.wait(timeout=slow(5)), 0, "exit status")
        except subprocess.TimeoutExpired:
            raise Fail("it goes on without anybody who reads") from None
        equal(follower.process.stderr.read(), b"", "standard error")


def test_follow_does_not_mix_two_portds():
    """The next portd at the same socket counts from 1 again."""
    with Portd() as portd:
        cursor = portd.request("events 0").splitlines()[-1].removeprefix("cursor ")
        equal(portd.request(f"events {cursor}"), f"cursor {cursor}\n", "nothing new")
        follower = Follower(portd, "--json")
        follower.until("open")
        follower.process.send_signal(signal.SIGSTOP)  # it sees nothing of what comes
        portd.stop()
        portd.start()
        check(portd.request(f"events {cursor}").startswith("error: portd was started again"), cursor)
        follower.process.send_signal(signal.SIGCONT)
        status, words = follower.end()
        equal(status, 2, "another portd")
        check("portd was started again" in words or "cannot" in words, words)


def test_flapping_is_summed_up():
    """Forty spells are eight, and a sum that grows: with its figures over all of them."""
    with Portd({"budget.max_connections": "1", "shed.queue_timeout": "0s",
                "source.deny": "127.0.9.1"}) as portd:
        crowd = portd.crowd()
        rounds = 40
        for number in range(rounds):
            crowd.wait_answered(crowd.connect(3, source=("127.0.9.1", 0)))  # in no spell
            inside = portd.fill(crowd, 1)
            portd.wait_until(lambda s: s["state"] == "full", 2, "full", crowd)
            crowd.wait_answered(crowd.connect(2, source=(f"127.0.{5 + number % 2}.1", 0)))
            close(inside)
            portd.wait_until(lambda s: s["state"] != "full", 2, "not full", crowd)
        deadline = time.monotonic() + slow(3)
        while events(portd)[-1].get("shed") != 2 * (rounds - BURST) and time.monotonic() < deadline:
            crowd.run(0.02)
        seen = events(portd)
        equal([e["event"] for e in seen], ["open"] + ["full", "not_full"] * BURST + ["spells"], "kinds")
        total = seen[-1]
        equal((total["number"], total["summed"], total["shed"]),
              (None, rounds - BURST, 2 * (rounds - BURST)), "the sum so far")
        equal(sorted((n["network"], n["shed"]) for n in total["networks"]),
              [("127.0.5.1", rounds - BURST), ("127.0.6.1", rounds - BURST)], "over all of them")
        check(portd.request("events").splitlines()[-1].endswith(" (so far)"), "in words")
        equal(total["goes_on"], False, "none is on")
        portd.fill(crowd, 1)
        portd.wait_until(lambda s: s["state"] == "full", 2, "full", crowd)
        wait_until_sum = time.monotonic() + slow(3)
        while not events(portd)[-1]["goes_on"]:
            check(time.monotonic() < wait_until_sum, "it does not say that one is on", events(portd))
            crowd.run(0.02)
        crowd.wait_answered(crowd.connect(9, source=("127.0.5.1", 0)))
        again = events(portd)[-1]
        equal((again["shed"], again["networks"]), (total["shed"], total["networks"]),
              "who is shed in the spell that goes on is not in the sum")


def test_it_stays_bounded():
    """A thousand drains are a handful of entries, and what is last is told."""
    with Portd() as portd:
        for _ in range(500):
            portd.request("drain")
            portd.request("drain off")
        seen = events(portd)
        at_most(len(seen), BURST + 3, "entries")
        equal((seen[-1]["event"], seen[-1]["number"]), ("drain_off", None), "the last")
        at_least(seen[-1]["summed"], 1000 - BURST - 2, "summed up")
        equal(2 * seen[-1]["alike"], seen[-1]["summed"], "of them drain_off")
        at_most(len(portd.request("events")), 4096, "bytes")


def test_hostile():
    with Portd() as portd:
        refused = "error: this is no cursor; 0 or what an answer ended with\n"
        for cursor in ("x", "1", "-1", "0.", ".", ".0", "1.-1", "1.1.1", "\x1b[2J", "9" * 200,
                       "99999999999999999999.1", "1.99999999999999999999", "00"):
            equal(portd.request(f"events {cursor}"), refused, repr(cursor))
        cursor = portd.request("events 0").splitlines()[-1].split()[1]
        start, number = cursor.split(".")
        check(portd.request(f"events {start}.{int(number) + 1}").startswith("error: "), "the future")
        for line in ("events x json", "events json 0 0", "events\0json", "eventsjson"):
            answer = portd.request(line)
            check(answer.startswith("error: unknown request"), repr(line), answer)
        for words in (("events", "1"), ("events", "--off"), ("events", "--output", "/tmp/x"),
                      ("stats", "--follow"), ("stats", "--utc"), ("drain", "--follow"),
                      ("explain", "1.2.3.4", "--follow")):
            result = portd.portctl(*words)
            equal((result.returncode, result.stdout), (64, ""), words)
        # A configuration that would speak to the terminal.
        portd.write_config({"shed.low_watermark": "\x1b[31m\"\\"})
        portd.reload()
        for text in (portd.request("events"), portd.request("events json"),
                     portd.portctl("events").stdout):
            check("\x1b" not in text, repr(text))
        check("low_watermark" in events(portd)[-1]["mistake"], events(portd)[-1])
        portd.write_config({"shed.low_watermark": None})


if __name__ == "__main__":
    tap.main()
