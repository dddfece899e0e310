"""The runner itself, on a build directory that is none: what passes, fails, is flaky, hangs or lies is
told apart, and the run fails whenever something is wrong."""

import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

import tap  # noqa: E402
from tap import check, equal  # noqa: E402

RUN = os.path.join(HERE, "run.py")
GOOD = "echo ok 1 - one; echo 'ok 2 - two # SKIP no time'; echo 1..2\n"


class Suite:
    """A folder that looks like a build directory: make list-tests names these scripts."""

    def __init__(self, **scripts):
        self.scripts = scripts

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="portd-runner-")
        rows = "".join(f"\t@echo tree {self.path(name)}\n" for name in self.scripts)
        with open(self.path("Makefile"), "w") as file:
            file.write("list-tests:\n\t@echo 'sanitizers '\n" + rows +
                       "portd portctl portload:\n\t@test ! -e broken && : >$@\n")
        for name, text in self.scripts.items():
            with open(self.path(name), "w") as file:
                file.write(text)
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run(self, *options):
        """(exit status, output without logs)"""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PORTD_TEST_")}
        result = subprocess.run([sys.executable, "-B", RUN, *options, self.folder.name + ":all"], text=True,
                                stdin=subprocess.DEVNULL, capture_output=True, timeout=tap.slow(60), env=env)
        equal(result.stderr, "", "standard error")
        return result.returncode, result.stdout

    def kept(self, name):
        return sorted(os.listdir(self.path(f"failed/plain-{name}")))


def ends(output, line):
    equal(output.splitlines()[-1], line, "the last line")


def test_all_is_well():
    with Suite(a=GOOD, b="echo '1..0 # SKIP nothing to do'\n") as suite:
        status, output = suite.run("--make")
        equal(status, 0, "exit status")
        ends(output, "1 passed, 0 failed, 2 skipped")
        check(not os.path.exists(suite.path("failed")), "a folder although nothing failed")
        with open(suite.path("costs.txt")) as file:
            equal([line.split()[2:] for line in file], [["plain", "a"], ["plain", "b"]], "costs")


def test_a_failure_is_repeated_and_kept():
    text = "echo \"not ok 1 - seed $PORTD_TEST_SEED\"; echo \"only: $PORTD_TEST_ONLY\"; echo ok 2 - x; echo 1..2\n"
    with Suite(a=GOOD, bad=text) as suite:
        status, output = suite.run("--seed", "7")
        equal(status, 1, "exit status")
        ends(output, "2 passed, 1 failed, 1 skipped")
        check("FAILED, twice: plain bad: seed 7" in output, output)
        equal(suite.kept("bad"), ["how-to-repeat", "log", "log-again"], "what is kept")
        with open(suite.path("failed/plain-bad/log-again")) as file:
            check("only: seed 7" in file.read(), "not that test alone")
        with open(suite.path("failed/plain-bad/how-to-repeat")) as file:
            check("PORTD_TEST_SEED=7" in file.read(), "no seed")


def test_flaky_is_a_failure():
    text = 'if [ -e "$0.ran" ]; then echo ok 1 - x; else : >"$0.ran"; echo not ok 1 - x; fi; echo 1..1\n'
    with Suite(a=GOOD, shaky=text) as suite:
        status, output = suite.run()
        equal(status, 1, "exit status")
        ends(output, "1 passed, 1 failed, 1 skipped")
        check("FLAKY, passed when run again alone: plain shaky: x" in output, output)


def test_what_does_not_speak_properly_fails():
    wrong = {"planned": "echo ok 1 - x; echo 1..2\n", "no_plan": "echo ok 1 - x\n", "silent": "",
             "bails": "echo ok 1 - x; echo 1..1; echo 'Bail out! a sanitizer report'\n",
             "status": "echo ok 1 - x; echo 1..1; exit 3\n", "killed": "echo 1..1; echo ok 1 - x; kill -9 $$\n"}
    for name, text in wrong.items():
        with Suite(a=GOOD, **{name: text}) as suite:
            status, output = suite.run()
            equal(status, 1, f"exit status with {name}")
            check(output.splitlines()[-1].endswith(" 1 failed, 1 skipped"), name, output)


def test_nothing_is_left_running():
    text = 'sleep 1000 & echo $! >"$0.pid"; echo ok 1 - x; echo 1..1\n'
    with Suite(leaves=text) as suite:
        equal(suite.run()[0], 0, "exit status")
        with open(suite.path("leaves.pid")) as file:
            pid = int(file.read())
        try:
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            state = "gone"
        check(state in ("gone", "Z"), f"process {pid} is {state}")


def test_only():
    with Suite(a=GOOD, b='echo "ok 1 - $PORTD_TEST_ONLY"; echo 1..1\n') as suite:
        ends(suite.run("--only", "b/x")[1], "1 passed, 0 failed, 0 skipped")
        result = subprocess.run([sys.executable, "-B", RUN, "--only", "c", suite.folder.name + ":all"], text=True,
                                capture_output=True)
        equal((result.returncode, "no test 'c'" in result.stderr), (1, True), "a test that is not there")


def test_a_build_that_fails():
    with Suite(a=GOOD) as suite:
        open(suite.path("broken"), "w").close()
        status, output = suite.run("--make")
        equal(status, 1, "exit status")
        ends(output, "0 passed, 1 failed, 0 skipped")


if __name__ == "__main__":
    tap.main()
