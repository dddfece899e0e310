"""What the kernel says of a running portd, and what is done to it from outside.

Process is the part of harness.Portd that needs only its process id (pid) and port; Trace is strace
at work on it.
"""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import time

from tap import Fail, Skip, at_most, check, slow

LIBC = ctypes.CDLL(None, use_errno=True)
KCMP, KCMP_FILES = {"x86_64": 312, "aarch64": 272, "riscv64": 272}.get(os.uname().machine, 312), 2


def need(*programs):
    """Skips the test where one of these is missing."""
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def same_table(tid_a, tid_b):
    """Whether two threads share their descriptor table: kcmp(2), as root or the same user."""
    result = LIBC.syscall(KCMP, tid_a, tid_b, KCMP_FILES, 0, 0)
    if result < 0:
        raise OSError(ctypes.get_errno(), "kcmp")
    return result == 0


class Process:
    """A running process with threads: its descriptors, CPU, memory, and its listener's queue."""

    pid = None
    port = None

    def tids(self):
        return sorted(int(tid) for tid in os.listdir(f"/proc/{self.pid}/task"))

    def tables(self):
        """One thread of each descriptor table, the main thread first; {tid: [tids]}."""
        tables = {self.pid: [self.pid]}
        for tid in self.tids():
            if tid == self.pid:
                continue
            home = next((t for t in tables if same_table(t, tid)), None)
            tables.setdefault(home or tid, []).append(tid)
        return tables

    def worker_tids(self):
        """The workers' threads: those with a table of their own, else all but the main one."""
        own = [tids[0] for tid, tids in self.tables().items() if tid != self.pid]
        return own or [tid for tid in self.tids() if tid != self.pid]

    def fd_numbers(self, tid):
        return [int(fd) for fd in os.listdir(f"/proc/{self.pid}/task/{tid}/fd")]

    def steady_fds(self):
        """{tid: numbers} of each table, without a control connection that is just being closed."""
        read = lambda: {tid: set(self.fd_numbers(tid)) for tid in self.tables()}
        steady = read()
        for _ in range(4):
            time.sleep(0.005)
            steady = {tid: numbers & steady.get(tid, numbers) for tid, numbers in read().items()}
        return steady

    def top_fd(self):
        """The greatest number in use in any table."""
        return max(max(numbers) for numbers in self.steady_fds().values())

    def free_fd(self):
        """The least number that is free in every table: with a limit of one more it is the last one."""
        used = set().union(*self.steady_fds().values())
        return next(number for number in range(len(used) + 1) if number not in used)

    def fill_tables(self, crowd, least, sources=None):
        """(clients, top): at least so many, and as many as it takes until no worker's table has a
        number up to top free, which is all that was in use before: with a limit of top + 1 each is
        at EMFILE. sources: of the clients, a function of their number."""
        top = self.top_fd()
        connect = lambda n: crowd.connect(1, send=b"x", source=(sources(n), 0) if sources else None)
        clients = [client for n in range(least) for client in connect(n)]
        crowd.wait_served(clients)
        workers = [tid for tid in self.tables() if tid != self.pid] or [self.pid]
        # A worker that got no CPU for a while has left them to the others.
        while any(not self.steady_fds()[tid].issuperset(range(top + 1)) for tid in workers):
            clients += connect(len(clients))
            crowd.wait_served(clients)
            at_most(len(clients), least + 500, "clients until each table is full")
        return clients, top

    def fds_by_table(self):
        return {tid: len(self.fd_numbers(tid)) for tid in self.tables()}

    def count_fds(self):
        return sum(self.fds_by_table().values())

    def list_fds(self):
        result = {}
        for tid in self.tables():
            folder = f"/proc/{self.pid}/task/{tid}/fd"
            for fd in os.listdir(folder):
                try:
                    result[f"{tid}/{fd}"] = os.readlink(os.path.join(folder, fd))
                except FileNotFoundError:
                    pass
        return result

    def cpu(self):
        """Seconds of CPU that its threads have used."""
        total = 0
        for tid in self.tids():
            with open(f"/proc/{self.pid}/task/{tid}/schedstat") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/status") as file:
            return 1024 * int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])

    def ss(self):
        """(Recv-Q, Send-Q) of the listener, as ss prints it."""
        out = subprocess.run(["ss", "-ltnH", f"sport = :{self.port}"], text=True, check=True,
                             capture_output=True).stdout.split()
        return int(out[1]), int(out[2])

    # What is done to it.

    def limit_nofile(self, soft, hard=None):
        """Changes RLIMIT_NOFILE of the running portd."""
        old = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, old[1] if hard is None else hard))
        return old

    def pause(self):
        """SIGSTOP; returns when every thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + slow(5)
        while True:
            states = set()
            for tid in self.tids():
                with open(f"/proc/{self.pid}/task/{tid}/stat") as file:
                    states.add(file.read().rpartition(")")[2].split()[0])
            if states <= {"T", "t"}:
                return
            check(time.monotonic() < deadline, f"portd does not stop: {states}")
            time.sleep(0.002)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def strace(self, *arguments, tids=None):
        """Attaches strace to these threads (all by default); returns a Trace when it has."""
        return Trace(self, arguments, tids)


class Trace:
    """strace at work on a portd. stop() detaches it; injected() counts what it did."""

    def __init__(self, portd, arguments, tids=None):
        need("strace")
        self.portd = portd
        self.path = os.path.join(portd.dir, f"strace{len(portd.helpers)}")
        self.tids = tids or portd.tids()
        command = ["strace", "-qq", "-o", self.path] + (["-f"] if tids is None else [])
        for tid in tids or [portd.pid]:
            command += ["-p", str(tid)]
        self.process = subprocess.Popen(command + list(arguments), stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        portd.helpers.append(self.process)
        deadline = time.monotonic() + slow(5)
        while not all(self.traced(tid) for tid in self.tids):
            if self.process.poll() is not None:
                raise Skip(f"strace cannot attach: {self.process.stderr.read().strip()}")
            check(time.monotonic() < deadline, "strace does not attach")
            time.sleep(0.005)

    def traced(self, tid):
        with open(f"/proc/{self.portd.pid}/task/{tid}/status") as file:
            return not re.search(r"TracerPid:\s+0$", file.read(), re.M)

    def stop(self):
        """Detaches; portd goes on without it.

        portd stands still meanwhile: a call that strace has begun to change, and leaves before it
        returns, would fail with ENOSYS.
        """
        os.kill(self.portd.pid, signal.SIGSTOP)
        deadline = time.monotonic() + slow(5)
        while self.text().count("--- stopped by SIGSTOP ---") < len(self.tids):
            check(time.monotonic() < deadline, "portd does not stop under strace")
            time.sleep(0.005)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(slow(5))
        except subprocess.TimeoutExpired:
            raise Fail("strace does not detach") from None
        self.process.stderr.close()
        os.kill(self.portd.pid, signal.SIGCONT)

    def text(self):
        with open(self.path) as file:
            return file.read()

    def injected(self):
        """How many calls it changed. Complete after stop()."""
        return self.text().count("(INJECTED)")
