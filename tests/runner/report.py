"""What the runner says: a line for each file that has ended, one of what is running, the end."""

import os
import shutil
import sys
import time

TAIL = 60         # lines of a failed test's log that are shown
EVERY = 30        # seconds between two lines of progress where they cannot be overwritten
SLOWEST = 20


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Called by the schedule with each event: (schedule, job or make or None, its result)."""

    def __init__(self, total, out=sys.stdout):
        self.total, self.out = total, out
        self.began = time.monotonic()
        self.ended = self.failed = 0
        self.live = out.isatty()
        self.told_at = self.began

    def say(self, text):
        clear = "\r\x1b[K" if self.live else ""
        print(f"{clear}[{clock(time.monotonic() - self.began)}] {text}", file=self.out, flush=True)

    def __call__(self, schedule, what, result):
        if what is None:
            self.progress(schedule)
        elif hasattr(what, "test"):
            self.test_ended(what, result)
        elif result:
            self.say(f"{what.name}: made in {what.age():.0f} s")
        else:
            self.say(f"{what.name}: FAILED, {what.log}:")
            print_tail(what.log, self.out)

    def test_ended(self, job, result):
        self.ended += 1
        counts = f"{len(result.passed)} passed"
        if result.skipped:
            counts += f", {len(result.skipped)} skipped"
        if result.good():
            self.say(f"ok     {job.test.name}: {counts}, {job.seconds:.1f} s")
            return
        self.failed += 1
        self.say(f"FAILED {job.test.name}: {counts}, {result.failures()} failed, {job.seconds:.1f} s")
        for name in [*result.failed, *result.wrong]:
            print(f"         {name}", file=self.out, flush=True)

    def progress(self, schedule):
        """What runs, and since when, the longest first."""
        now = time.monotonic()
        if now - self.told_at < (1 if self.live else EVERY):
            return
        self.told_at = now
        running = sorted(schedule.running, key=lambda job: job.began)
        words = [f"{job.test.name} {job.age():.0f} s" + (f" ({job.current()})" if n < 2 and job.current() else "")
                 for n, job in enumerate(running)]
        words = [f"{make.name} {make.age():.0f} s" for make in schedule.making] + words
        text = f"{self.ended} of {self.total} files, {self.failed} failed; running: " + ", ".join(words)
        if not self.live:
            self.say(text)
            return
        columns = shutil.get_terminal_size().columns - 1
        line = f"[{clock(now - self.began)}] {text}"[:columns]
        print(f"\r\x1b[K{line}", end="", file=self.out, flush=True)


def print_tail(path, out, lines=TAIL):
    with open(path, errors="replace") as file:
        for line in file.read().splitlines()[-lines:]:
            print("  | " + line, file=out)
    out.flush()


def times(schedule, out):
    """Where the time went: by build, and the slowest files."""
    print("\ntime by build (the builds' tests run beside each other):", file=out)
    builds = dict.fromkeys([*schedule.built, *(test.build for test in schedule.results)])
    for build in builds:
        rows = [row for test, row in schedule.results.items() if test.build is build]
        made = schedule.built.get(build, 0)
        print(f"  {build.name:6} build {made:4.0f} s; {len(rows)} files: {sum(row[1] for row in rows):5.0f} s, "
              f"{sum(row[2] for row in rows):5.0f} s of CPU", file=out)
    rows = sorted(schedule.results.items(), key=lambda item: -item[1][1])[:SLOWEST]
    print("slowest files (seconds, of these CPU):", file=out)
    for test, (_, seconds, cpu) in rows:
        print(f"  {seconds:6.1f} {cpu:6.1f}  {test.name}", file=out)


def failures(failed, again, keep, out):
    """failed: {test: Result}; again: {test: Result of the second run, alone}."""
    for test, result in failed.items():
        second = again.get(test)
        for name in [*result.failed, *result.wrong]:
            word = "FAILED"
            if second is not None:
                word = "FLAKY, passed when run again alone" if second.good() else "FAILED, twice"
            print(f"{word}: {test.name}: {name}", file=out)
        print_tail(os.path.join(keep, test.folder(), "log"), out)
