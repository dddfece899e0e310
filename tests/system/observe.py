"""What the system tests look at and do from outside: the kernel's listeners, portd's own lines in the
journal, systemctl in the background, a worker that is made to stall.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time

from tap import Fail, check, slow

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # wait(2): of threads, too
TCP_LISTEN = "0A"


def listeners(box):
    """{(address in hex, port): inode} of each listening TCP socket in the container."""
    found = {}
    for name in ("tcp", "tcp6"):
        with open(f"/proc/{box.leader}/net/{name}") as file:
            for words in map(str.split, list(file)[1:]):
                address, port = words[1].split(":")
                if words[3] == TCP_LISTEN:
                    found[address, int(port, 16)] = int(words[9])
    return found


def listener(box, port=7777):
    """(address in hex, inode) of the one socket that listens on this port."""
    found = [(address, inode) for (address, at), inode in listeners(box).items() if at == port]
    check(len(found) == 1, f"{len(found)} sockets listen on port {port}: {found}")
    return found[0]


def text(record):
    """A record's message; journalctl gives bytes that are no text as numbers."""
    message = record.get("MESSAGE", "")
    return message if isinstance(message, str) else bytes(message).decode(errors="replace")


def records(box, since, unit="portd.service"):
    """What portd itself has said since a cursor, without what the manager says of it."""
    return [record for record in box.journal(since, unit)
            if record.get("SYSLOG_IDENTIFIER") == "portd"]


def said(box, since, unit="portd.service"):
    """The same as lines."""
    return [text(record) for record in records(box, since, unit)]


def wait_said(box, since, words, seconds):
    """Waits for a line of portd's that has these words; the record."""
    return box.wait_journal(since, lambda record: record.get("SYSLOG_IDENTIFIER") == "portd"
                            and words in text(record), seconds)


def begin(box, *argv):
    """systemctl in the background; finish() waits for it."""
    return subprocess.Popen(box.command(["systemctl", *argv]), text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process, seconds):
    """(exit status, what it said)"""
    try:
        out, _ = process.communicate(timeout=slow(seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Fail(f"systemctl does not return within {slow(seconds):.0f} s") from None
    return process.returncode, out


def wait_until(condition, seconds, what, crowd=None):
    """Polls every 50 ms until condition() is something true, and returns that."""
    deadline = time.monotonic() + slow(seconds)
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Fail(f"{what}: not within {slow(seconds):.1f} s")
        if crowd is not None:
            crowd.run(0.05)
        else:
            time.sleep(0.05)
    return found


def threads(pid):
    """Its threads in the order in which they were made, the main one first."""
    return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))


def pause(pid):
    """SIGSTOP; returns when every thread has stopped."""
    os.kill(pid, signal.SIGSTOP)

    def states():
        for tid in threads(pid):
            with open(f"/proc/{pid}/task/{tid}/stat") as file:
                yield file.read().rpartition(")")[2].split()[0]

    wait_until(lambda: set(states()) <= {"T", "t"}, 5, "portd stops")


def ptrace(request, tid):
    if LIBC.ptrace(request, tid, None, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace: {os.strerror(code)}")


@contextlib.contextmanager
def stalled(tid):
    """This one thread stands still in the block, unless its process is killed meanwhile."""
    ptrace(PTRACE_SEIZE, tid)
    ptrace(PTRACE_INTERRUPT, tid)
    os.waitpid(tid, WALL)  # it has stopped
    over = threading.Event()

    def reap():
        """A process is not gone before its tracer has seen the end of each thread that it traces."""
        with contextlib.suppress(ChildProcessError):
            while not over.wait(0.01) and not os.waitpid(tid, WALL | os.WNOHANG)[0]:
                pass

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        yield
    finally:
        over.set()
        reaper.join()
        with contextlib.suppress(OSError):
            ptrace(PTRACE_DETACH, tid)
