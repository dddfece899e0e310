"""TAP for the end-to-end tests: one line a test function, diagnostics after `#`, exit status 0.

A test file ends with `if __name__ == "__main__": tap.main()`. Each function named test_* is a test;
@for_each(table=TABLES, ...) makes one test of each combination. Names in argv select tests: those
whose name contains one of the words.

Environment: PORTD_TEST_SLOW (a factor on every deadline, for sanitizer builds), PORTD_TABLES
("shared private": the descriptor tables that tests with a `table` argument run for),
PORTD_TEST_ONLY (a name a line: these tests alone), PORTD_TEST_KEEP (a folder for what explains a
failure), PORTD_TEST_PLAIN (the tests marked @plain alone), PORTD_TEST_SEED (of what is drawn at random), PORTD_TEST_SOAK (the long forms).
"""

import functools
import inspect
import itertools
import os
import random
import re
import signal
import sys
import threading
import time
import traceback

SLOW = float(os.environ.get("PORTD_TEST_SLOW", "1"))
TABLES = tuple(os.environ.get("PORTD_TABLES", "shared private").split())
LIMIT = 60.0  # seconds for one test, before SLOW; ten times as many for the long forms
SOAK = bool(os.environ.get("PORTD_TEST_SOAK"))
SEED = int(os.environ.get("PORTD_TEST_SEED") or 0)

_current = None  # the name of the test that runs
_first = True    # whether it is the first of its cases


class Fail(AssertionError):
    """What a test found wrong, in words; printed without a Python traceback of the harness."""


class Skip(Exception):
    """The test cannot run here; the reason is its text."""


class Hung(BaseException):
    """The test took longer than LIMIT. Not an Exception, so that no test swallows it."""


def slow(seconds):
    """A deadline in seconds, longer where everything is slower."""
    return seconds * SLOW


def soak(short, long):
    """How much of something: the short form in `make check`, the long one in `make soak`."""
    return long if SOAK else short


def dice(number):
    """A random.Random of a test's own number or name and of the run's seed, which it prints."""
    note(f"PORTD_TEST_SEED={SEED}, {number}")
    return random.Random(f"{SEED} {number}")


def keep():
    """A folder for what explains the failure of the test that runs, or None; it is made here."""
    if not os.environ.get("PORTD_TEST_KEEP"):
        return None
    name = re.sub(r"[^\w.-]+", "-", _current or "all").strip("-")
    folder = os.path.join(os.environ["PORTD_TEST_KEEP"], name)
    os.makedirs(folder, exist_ok=True)
    return folder


def leaks(environment, wanted=True):
    """The environment, for a program that is to look for leaks when it ends; with AddressSanitizer this
    costs as much as all the rest of a short life. The first case of each test does, where it is wanted,
    and all of them in `make soak`."""
    if not (wanted and (_first or SOAK)):
        environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return environment


def note(*words):
    """Prints a diagnostic."""
    for line in " ".join(str(word) for word in words).splitlines() or [""]:
        print("#", line, flush=True)


def check(condition, *words):
    """Fails with these words unless the condition holds."""
    if not condition:
        raise Fail(" ".join(str(word) for word in words))


def equal(seen, wanted, what):
    check(seen == wanted, f"{what}: saw {seen!r}, wanted {wanted!r}")


def at_most(seen, limit, what):
    check(seen <= limit, f"{what}: saw {seen!r}, at most {limit!r} is right")


def at_least(seen, limit, what):
    check(seen >= limit, f"{what}: saw {seen!r}, at least {limit!r} is right")


def only_within(since, limit, what):
    """Skips the rest if more than `limit` s have passed since `since`: this process got no CPU, and
    what comes next would judge that."""
    gap = time.monotonic() - since
    if gap >= limit:
        raise Skip(f"{what}: this process was {gap:.2f} s late")


class Lateness:
    """A context: `most` is how late this process was at most while it lasted, in seconds, for want of a
    CPU. Times that it took meanwhile are wrong by as much."""

    def __enter__(self):
        self.most, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        due = time.monotonic() + 0.01
        while not self.over.wait(max(0, due - time.monotonic())):
            now = time.monotonic()
            self.most = max(self.most, now - due)
            due = now + 0.01

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def only_below(self, limit, what):
        """Skips the rest if it was as late as that: what comes next would judge it."""
        if self.most >= limit:
            raise Skip(f"{what}: this process was {self.most:.2f} s late")


def spread(seconds):
    """A list of times, in words: for diagnostics."""
    if not seconds:
        return "none"
    ms = sorted(1000 * value for value in seconds)
    pick = lambda share: ms[min(len(ms) - 1, int(share * len(ms)))]
    return (f"n={len(ms)} min={ms[0]:.1f} p50={pick(0.5):.1f} p99={pick(0.99):.1f} "
            f"max={ms[-1]:.1f} ms")


def for_each(**axes):
    """One test of each combination: @for_each(table=TABLES, answer=("reset", "close"))."""
    def mark(function):
        names = tuple(axes)
        function.cases = [dict(zip(names, values)) for values in itertools.product(*axes.values())]
        return function
    return mark


def plain(function):
    """A test that needs a build without sanitizers, which cost memory and time, and go not with
    every tool. With sanitizers it is left out: the plain build runs it."""
    function.plain = True
    return function


def tests_of(module):
    """(name, call) of each test, in the order of the file."""
    functions = [f for name, f in vars(module).items()
                 if name.startswith("test_") and inspect.isfunction(f)]
    functions.sort(key=lambda f: inspect.unwrap(f).__code__.co_firstlineno)
    for function in functions:
        if os.environ.get("PORTD_SANITIZERS" if hasattr(function, "plain") else "PORTD_TEST_PLAIN"):
            continue
        for number, case in enumerate(getattr(function, "cases", [{}])):
            name = function.__name__[len("test_"):]
            if case:
                name += " (" + " ".join(str(value) for value in case.values()) + ")"
            call = functools.partial(function, **case)
            call.first = number == 0
            yield name, call


def hung(signum, frame):
    raise Hung(f"took longer than {slow(soak(LIMIT, 10 * LIMIT)):.0f} s")


def run(number, name, call):
    """Runs one test and prints its line; what went wrong comes before it, as diagnostics."""
    global _current, _first
    _current, _first = name, getattr(call, "first", True)
    signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, slow(soak(LIMIT, 10 * LIMIT)))
    began = time.monotonic()
    result, directive = "ok", ""
    try:
        call()
    except Skip as skip:
        directive = f" # SKIP {skip}"
    except Fail as fail:
        result = "not ok"
        where = traceback.extract_tb(fail.__traceback__)
        here = [f for f in where if os.path.basename(f.filename).startswith("test_")] or where
        note(f"{os.path.basename(here[-1].filename)}:{here[-1].lineno}: {fail}")
    except (Exception, Hung):
        result = "not ok"
        note(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    note(f"{name}: {time.monotonic() - began:.2f} s")
    print(f"{result} {number} - {name}{directive}", flush=True)
    return result == "ok"


def chosen(tests):
    """Those of the tests that argv and the environment ask for."""
    only = os.environ.get("PORTD_TEST_ONLY", "").splitlines()
    words = sys.argv[1:]
    return [test for test in tests if (not only or test[0] in only)
            and (not words or any(word in test[0] for word in words))]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # A shell's background jobs ignore it, and what they start inherits that: a client that is to end
    # by it would not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tests = list(tests_of(sys.modules["__main__"]))
    tests = chosen(tests)
    print(f"1..{len(tests)}" if tests else "1..0 # SKIP none for this build", flush=True)
    failed = [name for number, (name, call) in enumerate(tests, 1) if not run(number, name, call)]
    if failed:
        note(f"failed {len(failed)} of {len(tests)}: " + ", ".join(failed))
