"""What the kernel says of a server: CPU time, memory, descriptors, of all its processes and threads."""

import os
import time

TICK = os.sysconf("SC_CLK_TCK")


def family(pid):
    """The process and its living descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            for tid in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{tid}/children", encoding="ascii") as file:
                    todo += map(int, file.read().split())
        except OSError:
            pass  # it has just ended: its parent's account has it
    return found


def cpu_of(pid):
    """Nanoseconds on a CPU, of the whole family, also of threads and children that have ended.

    The CPU clock of a process (clock_getcpuclockid(3)) is the sum of its threads' first figure in
    /proc/PID/task/TID/schedstat and of what ended threads had there. Children that were waited for are in
    /proc/PID/stat, in ticks of 10 ms that are rounded after adding up: little, over a whole load.
    """
    total = 0
    for one in family(pid):
        try:
            total += time.clock_gettime_ns((~one << 3) | 2)
            with open(f"/proc/{one}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += (int(fields[13]) + int(fields[14])) * 1000000000 // TICK
        except OSError:
            pass
    return total


def kept_waiting(pid):
    """Nanoseconds that the living threads of the family were ready to run and had no CPU: others had it."""
    total = 0
    for one in family(pid):
        try:
            for tid in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{tid}/schedstat", encoding="ascii") as file:
                    total += int(file.read().split()[1])
        except OSError:
            pass
    return total


def settle(pid, seconds=5):
    """Waits until the family has no more ended or ending children: their time is then accounted."""
    until = time.monotonic() + seconds
    small = len(family(pid))
    while time.monotonic() < until:
        time.sleep(0.02)
        now = len(family(pid))
        if now >= small:
            return
        small = now


def memory_of(pid):
    """Bytes of memory of the family, shared pages by share (PSS)."""
    total = 0
    for one in family(pid):
        try:
            with open(f"/proc/{one}/smaps_rollup", encoding="ascii") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            pass
    return total * 1024
