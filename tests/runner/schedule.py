"""Runs builds and tests side by side, so that both the processors and the waiting are used.

Most tests wait most of the time. What a test costs is known from earlier runs (costs.py): the
schedule starts the longest first, and another one as long as the processors have room for it.
"""

import os
import signal
import subprocess
import time

from job import Build, Job

PROCESSORS = len(os.sched_getaffinity(0))
ROOM = 1.6 * PROCESSORS  # processors' worth of tests at once: what is measured is rarely all at once
MOST = 8 * PROCESSORS    # tests at once
BOXES = 2                # containers at once: each has a systemd of its own


def plain_environment():
    """Without what a make that runs this tells its own children."""
    return {name: value for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


class Make:
    """A build that goes on, or what else has to be there before tests can start. what: what it is for,
    a Build or a kind of tests; its output is in log."""

    def __init__(self, name, what, command, log):
        self.name, self.what = name, what
        self.share = 0.75 * PROCESSORS if isinstance(what, Build) else 0.3  # the latter loads packages
        self.began = time.monotonic()
        self.log = log
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, env=plain_environment(), stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, start_new_session=True)

    def age(self):
        return time.monotonic() - self.began

    def end(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


class Schedule:
    """tests: all that are to run; makes: arguments of Make, of builds, one after the other; prepare: of
    kinds of tests, beside them. Tests wait for what is made for them. told: called with each event."""

    def __init__(self, tests, makes, prepare, top, keep, costs, told):
        self.top, self.keep, self.costs, self.told = top, keep, costs, told
        self.makes = list(makes)
        self.waiting = sorted(tests, key=lambda test: -costs.seconds(test))
        self.unmade = {row[1] for row in [*makes, *prepare]}
        self.making = [Make(*row) for row in prepare]
        self.running = []
        self.results = {}  # test: (result, seconds, cpu)
        self.built = {}    # build: seconds, or None if it failed

    def share_in_use(self):
        return sum(make.share for make in self.making) + sum(
            self.costs.share(job.test) for job in self.running)

    def next_test(self):
        """The longest of those that may start now."""
        boxes = sum(job.test.kind == "system" for job in self.running)
        used = self.share_in_use()
        for test in self.waiting:
            if self.unmade & {test.build, test.kind} or test.kind == "system" and boxes >= BOXES:
                continue
            if not self.running or used + self.costs.share(test) <= ROOM:
                return test
        return None

    def start_all(self):
        if self.makes and not any(isinstance(make.what, Build) for make in self.making):
            self.making.append(Make(*self.makes.pop(0)))
        while len(self.running) < MOST and (test := self.next_test()):
            self.waiting.remove(test)
            self.running.append(Job(test, self.top, os.path.join(self.keep, test.folder())))

    def look_at_makes(self):
        """A kind's tests start also when what they need could not be made: they say why."""
        for make in [make for make in self.making if make.process.poll() is not None]:
            self.making.remove(make)
            self.unmade.discard(make.what)
            good = make.process.returncode == 0
            if isinstance(make.what, Build):
                self.built[make.what] = make.age() if good else None
                if not good:
                    self.waiting = [test for test in self.waiting if test.build is not make.what]
            self.told(self, make, good)

    def look_at_tests(self):
        for job in list(self.running):
            result = job.poll()
            if result is not None:
                self.running.remove(job)
                self.results[job.test] = (result, job.seconds, job.cpu)
                self.told(self, job, result)

    def busy(self):
        return bool(self.waiting or self.running or self.making or self.makes)

    def run(self):
        """Returns when all have ended; ends them itself if it is interrupted."""
        try:
            while self.busy():
                self.start_all()
                time.sleep(0.02)
                self.look_at_makes()
                self.look_at_tests()
                self.told(self, None, None)
        except BaseException:
            for one in [*self.running, *self.making]:
                one.end(signal.SIGTERM)
            for one in self.running:
                one.end(signal.SIGKILL)
            raise


def alone(test, top, folder, only):
    """Runs these tests of a file once more, with nothing beside them; the Result."""
    job = Job(test, top, folder, only)
    try:
        while (result := job.poll()) is None:
            time.sleep(0.02)
        return result
    except BaseException:
        job.end(signal.SIGKILL)
        raise
