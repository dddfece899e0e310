"""Programs that run to their end: portd that only checks or refuses to start, and portctl.

    result = once.portd("-c", path, "-t", nofile=256)
    equal(result.returncode, 78, "exit status")

Nothing of the environment that a service manager or an operator sets gets through to them.
"""

import os
import re
import shutil
import subprocess

import tap
from harness import PORTCTL, PORTD, REPORT
from tap import Fail, check, note, slow

NOBODY = 65534
EX_USAGE, EX_OSERR, EX_CONFIG = 64, 71, 78


def environment(extra=None, leaks=False):
    names = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "PORTD_SOCKET")
    env = {k: v for k, v in os.environ.items()
           if k not in names and not k.startswith(("LISTEN_", "WATCHDOG_"))}
    env.update(extra or {})
    return tap.leaks(env, leaks)


def run(program, *args, nofile=None, user=None, env=None, seconds=10, stdout=subprocess.PIPE, leaks=False):
    """The CompletedProcess, with text. user: a uid, which may have to read the program. leaks: look for
    them; the fuzzing harnesses do so with all that is read."""
    command = ["prlimit", f"--nofile={nofile}:{nofile}"] if nofile else []
    who = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    try:
        result = subprocess.run(command + [program, *args], env=environment(env, leaks), cwd="/",
                                stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                                timeout=slow(seconds), text=True, errors="backslashreplace", **who)
    except subprocess.TimeoutExpired as expired:
        note((expired.stderr or b"").decode(errors="replace"))
        raise Fail(f"{os.path.basename(program)} {' '.join(args)} does not end") from None
    if REPORT.search(result.stderr):
        note(result.stderr)
        raise Fail("a sanitizer reported something")
    return result


def portd(*args, **how):
    return run(PORTD, *args, **how)


def portctl(*args, **how):
    return run(PORTCTL, *args, **how)


def public_copy(program, folder):
    """A copy that any user may execute, in a folder that any user may enter."""
    path = os.path.join(folder, os.path.basename(program))
    if not os.path.exists(path):
        shutil.copy(program, path)
        os.chmod(path, 0o755)
        os.chmod(folder, 0o755)
    return path


def one_line(result, *words):
    """Its stderr is one line, which has each of these words (regular expressions)."""
    lines = result.stderr.splitlines()
    check(len(lines) == 1, "one line was to be said:", result.stderr)
    for word in words:
        check(re.search(word, lines[0]), f"{word!r} is not in:", lines[0])
    return lines[0]
