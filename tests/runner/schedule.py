"""Runs builds and tests side by side, so that both the processors and the waiting are used.

Most tests wait most of the time, so some are always run at once, and another one whenever the
processors have been idle. How long a test takes is known from earlier runs (costs.py): the longest start
first.
"""

import os
import signal
import subprocess
import time

from job import Job

PROCESSORS = len(os.sched_getaffinity(0))
LEAST = 3 * PROCESSORS  # tests at once, however busy the machine is
MOST = 8 * PROCESSORS   # tests at once, however idle it is
BUILD = 2               # as many tests a build counts as
IDLE = 0.1              # of the processors' time, for another one
BOXES = 2               # containers at once: each has a systemd of its own


def plain_environment():
    """Without what a make that runs this tells its own children."""
    return {name: value for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


class Processors:
    """How idle they were lately."""

    PERIOD = 0.4  # seconds; what has just been started shows after one

    def __init__(self):
        self.last, self.at = self.read(), time.monotonic()

    @staticmethod
    def read():
        """(idle, all), in ticks since boot: see proc_stat(5)."""
        with open("/proc/stat") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)

    def were_idle(self):
        """Whether there is room for another test; once a period."""
        if time.monotonic() - self.at < self.PERIOD:
            return False
        now, last = self.read(), self.last
        self.last, self.at = now, time.monotonic()
        return now[0] - last[0] > IDLE * (now[1] - last[1])


class Make:
    """A build that goes on, or what else has to be there before tests can start. what: what it is for:
    a Build, its test programs (a Build and "tests"), or a kind of tests; build: None for that. Its
    output is in log."""

    def __init__(self, name, what, build, command, log):
        self.name, self.what, self.build = name, what, build
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
        self.built = {}    # build: seconds
        self.broken = 0    # builds that failed
        self.processors = Processors()

    def has_room(self):
        count = len(self.running) + BUILD * len(self.making)
        return count < LEAST or count < MOST and self.processors.were_idle()

    def next_test(self):
        """The longest of those that may start now."""
        boxes = sum(job.test.kind == "system" for job in self.running)
        for test in self.waiting:
            if not self.unmade & test.needs() and (test.kind != "system" or boxes < BOXES):
                return test
        return None

    def start_all(self):
        if self.makes and not any(make.build for make in self.making):
            self.making.append(Make(*self.makes.pop(0)))
        while (test := self.next_test()) and self.has_room():
            self.waiting.remove(test)
            self.running.append(Job(test, self.top, os.path.join(self.keep, test.folder())))

    def look_at_makes(self):
        """A kind's tests start also when what they need could not be made: they say why."""
        for make in [make for make in self.making if make.process.poll() is not None]:
            self.making.remove(make)
            self.unmade.discard(make.what)
            good = make.process.returncode == 0
            if make.build:
                self.built[make.build] = self.built.get(make.build, 0) + make.age()
                if not good:
                    self.broken += 1
                    self.makes = [row for row in self.makes if row[2] is not make.build]
                    self.waiting = [test for test in self.waiting if make.what not in test.needs()]
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
