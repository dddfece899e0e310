"""Mistakes without end: the first are named, the rest is counted, whoever asks and however often."""

import os
import pty
import re
import signal
import time

import once
import tap
from harness import Portd
from once import EX_CONFIG
from tap import at_most, check, equal, for_each, note

NAMED, NAMED_CHECK = 20, 1000
SANITIZED = bool(os.environ.get("PORTD_SANITIZERS"))


def write(portd, text):
    with open(portd.config_path, "w") as file:
        file.write(text)


def sections(count):
    return "".join(f"[nothing{number}]\n" for number in range(count))


def check_named(lines, path, named, more):
    """These lines name so many mistakes in the file's order, and the last says how many more."""
    equal(len(lines), named + (more > 0), "lines about mistakes")
    for number, line in enumerate(lines[:named], 1):
        check(f"{path}:{number}: " in line, f"mistake {number}:", line)
    if more:
        check(f"and {more} more mistake{'s' if more > 1 else ''}" in lines[-1], lines[-1])


@for_each(how=("hup", "portctl", "start", "check"), count=(20, 21, 1500))
def test_many(how, count):
    with Portd() as portd:
        named = min(count, NAMED_CHECK if how == "check" else NAMED)
        write(portd, sections(count))
        log = len(portd.log_lines())
        if how == "hup":
            portd.hup()
        elif how == "portctl":
            said = portd.portctl("reload").stderr.splitlines()
            check_named(said[1:], portd.config_path, named, count - named)
        else:
            flags = ["-t"] if how == "check" else []
            result = once.portd("-c", portd.config_path, *flags)
            equal((result.returncode, result.stdout), (EX_CONFIG, ""), "exit status and stdout")
            check_named(result.stderr.splitlines(), portd.config_path, named, count - named)
            return
        check_named(portd.log_lines(log)[1:], portd.config_path, named, count - named)


@for_each(right=(False, True))
def test_signals_without_end(right):
    """Hundreds of SIGHUPs a second: the log stays short, and the last verdict is in it."""
    with Portd() as portd:
        portd.write_config({"log.level": "info"})
        portd.reload()
        if not right:
            write(portd, sections(300))
        log, began = len(portd.log_lines()), time.monotonic()
        while time.monotonic() - began < 1.5:
            os.kill(portd.pid, signal.SIGHUP)
            time.sleep(0.002)
        equal(portd.request("health"), "open\n", "health meanwhile")
        for _ in range(30):
            portd.reload()
        took = time.monotonic() - began
        lines = portd.log_lines(log)
        note(f"{len(lines)} lines in {took:.1f} s")
        at_most(len(lines), (10 + took / 5 + 1) * (1 if right else 2 + NAMED) + 10, "lines")
        if not right:
            portd.write_config()
            check(portd.reload().startswith("reloaded"), "a right one is rejected")
            check("reloaded: " in portd.log_lines(log)[-1], "the verdict that came last is not told of")
    # What was kept back is told at the end.


@for_each(right=(False, True))
def test_what_was_kept_back_is_told_at_the_end(right):
    portd = Portd()
    try:
        if not right:
            write(portd, sections(3))
        for _ in range(40):
            portd.reload()
        portd.stop()
        said = re.findall(r"\(and (\d+) more (?:rejections|reloads) since\)", portd.log())
        word = "reloaded: up to" if right else "configuration rejected"
        told = portd.log().count(word)
        equal(told + sum(map(int, said)), 40, f"verdicts that are in the log: {told} and {said}")
        at_most(told, 15, "lines")
        if not right:
            check(f"in force: {portd.config_path}:1: " in portd.log(), "the reason is not in the last line")
    finally:
        portd.kill()


def test_drains_without_end():
    with Portd() as portd:
        log = len(portd.log_lines())
        for _ in range(100):
            portd.request("drain")
            portd.request("drain off")
        at_most(len([line for line in portd.log_lines(log) if "drain" in line]), 15, "lines")
        equal(portd.request("health"), "open\n", "health")


def peak(portd):
    with open(f"/proc/{portd.pid}/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) // 1024


@for_each(what=("words", "sections", "keys"))
def test_four_mebibytes(what):
    """The file and three drop-ins, full of mistakes: neither time nor memory goes to words for them."""
    with Portd() as portd:
        line = {"words": "x\n", "sections": "[x]\n", "keys": "[log]\nx=1\n"}[what]
        text = line * (2**20 // len(line))
        write(portd, text)
        os.mkdir(portd.config_path + ".d")
        for name in "abc":
            with open(f"{portd.config_path}.d/{name}.conf", "w") as file:
                file.write(text)
        before, log = peak(portd), len(portd.log_lines())
        result = portd.portctl("reload", seconds=30)
        equal(result.returncode, 1, "exit status")
        said = result.stderr.splitlines()
        # Fewer where this machine did not get that far within the time for all files.
        at_most(len(said), 1 + NAMED + 1, "lines of the answer")
        check(re.match(r"and \d+ more mistakes|.*: it did not end within 2s", said[-1]), said[-1])
        equal(len(portd.log_lines(log)), len(said), "lines of the log")
        note(f"{peak(portd) - before} MiB more at the peak")
        if not SANITIZED:
            at_most(peak(portd) - before, 16, "MiB for it")


def test_terminals_as_drop_ins():
    """Nobody types there. All of them together have the time that one has."""
    ends = [pty.openpty() for _ in range(3)]
    try:
        with Portd() as portd:
            os.mkdir(portd.config_path + ".d")
            for number, (_, slave) in enumerate(ends):
                os.symlink(os.ttyname(slave), f"{portd.config_path}.d/{number}.conf")
            said = portd.portctl("reload", seconds=30).stderr.splitlines()
            equal(len(said), 2, f"lines: {said}")
            check(f"{portd.config_path}.d/0.conf: cannot be read: it did not end within 2s" in said[1],
                  said[1])
            equal(portd.request("health"), "open\n", "health")
    finally:
        for end in sum(ends, ()):
            os.close(end)


if __name__ == "__main__":
    tap.main()
