"""A booted Debian with portd installed in it: systemd-nspawn on an overlay of one root.

    def test_starts(box):
        box.configure({"service.type": "echo"})
        box.systemctl("start", "portd")
        with box.crowd(7777) as crowd:
            crowd.wait_served(crowd.connect(8, send=b"x"))

    if __name__ == "__main__":
        container.main()

main() boots one container for the whole file and calls box.reset() before each test. All that the
container writes lies in a tmpfs in a mount namespace of this script's own, and its processes die
with the script, however that ends. Without root or the tools the whole file is skipped, or, with
PORTD_SYSTEM=required in the environment, fails.

Users inside, beside Debian's: portd; friend, a member of the group portd; stranger, who is not.
"""

import contextlib
import functools
import glob
import json
import os
import re
import select
import signal
import shutil
import subprocess
import sys
import threading
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

import root  # noqa: E402
import tap  # noqa: E402
from clients import Crowd  # noqa: E402
from harness import config_text  # noqa: E402
from notify import Notify  # noqa: E402
from tap import Fail, check, note, slow  # noqa: E402

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
NSPAWN = "/run/systemd/nspawn"
POINT = os.path.join(root.HOME, "box")  # a mount point; each script mounts something of its own

TEST_USERS = """\
u friend - "member of portd's group"
m friend portd
u stranger - "not a member"
"""


def mount(*arguments):
    root.run(["mount", *arguments], "mount " + " ".join(arguments))


class Group:
    """A control group of the container's own, in each hierarchy that systemd uses, so that two
    containers at the same time do not meet in one."""

    def __init__(self):
        self.folders = []
        with open("/proc/self/cgroup") as file:
            paths = {names: path for _, names, path in
                     (line.rstrip("\n").split(":", 2) for line in file)}
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
        for words in mounts:
            kind, options = words[words.index("-") + 1], words[-1].split(",")
            names = "" if kind == "cgroup2" else "name=systemd" if "name=systemd" in options else None
            if not kind.startswith("cgroup") or names not in paths:
                continue
            parent = words[4] + paths[names].rstrip("/")
            # Of scripts that have gone: of one that runs, an empty group may be about to be used.
            for old in glob.glob(os.path.join(parent, "portd-test-*")):
                if not os.path.exists("/proc/" + old.rpartition("-")[2]):
                    self.remove(old)
            folder = os.path.join(parent, f"portd-test-{os.getpid()}")
            os.makedirs(folder, exist_ok=True)
            self.folders.append(folder)

    def enter(self):
        for folder in self.folders:
            with open(os.path.join(folder, "cgroup.procs"), "w") as file:
                file.write(str(os.getpid()))

    @staticmethod
    def remove(top):
        """Removes a group with all below it; one that is in use stays."""
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def close(self):
        for folder in self.folders:
            self.remove(folder)


class BoxCrowd(Crowd):
    """Clients in the container's network."""

    def __init__(self, box, host, port, message=None):
        super().__init__(host, port, message)
        self.box = box

    def connect(self, *arguments, **options):
        with self.box.network():
            return super().connect(*arguments, **options)


class Container:
    """A context manager: the booted container. Raises root.Missing where none can be."""

    def __init__(self):
        self.process = self.leader = self.group = self.notify = None
        self.crowds = []
        self.here = threading.local()

    def __enter__(self):
        began = time.monotonic()
        root.find_missing()
        root.enter_own_mounts()
        with root.lock():
            base = root.make_root()
            root.make_package()
            os.makedirs(POINT, exist_ok=True)
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", POINT)
        # What nspawn leaves behind goes with the script too.
        os.makedirs(NSPAWN, exist_ok=True)
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", NSPAWN)
        self.root = os.path.join(POINT, "root")
        for name in ("upper", "work", "root"):
            os.mkdir(os.path.join(POINT, name))
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={POINT}/upper,"
              f"workdir={POINT}/work", self.root)
        root.install(self.root)
        self.put("/etc/sysusers.d/portd-tests.conf", TEST_USERS)
        prepared = time.monotonic()
        try:
            self.boot()
        except BaseException:
            self.tell_console()
            self.close()
            raise
        now = time.monotonic()
        note(f"container: booted in {now - prepared:.2f} s, {now - began:.2f} s with its preparation")
        self.first_config = self.read("/etc/portd.conf")
        return self

    def __exit__(self, *_):
        self.close()

    def put(self, path, text):
        """Writes a file before the boot."""
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def boot(self, seconds=60):
        # A machine that runs systemd gives us a control group; elsewhere we make one.
        managed = os.path.isdir("/run/systemd/system")
        scope = ["systemd-run", "--quiet", "--scope", "--property=Delegate=yes"] if managed else []
        self.group = None if managed else Group()
        self.notify = Notify(os.path.join(POINT, "notify"))
        self.console = os.path.join(POINT, "console")

        def prepare():
            root.LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if self.group:
                self.group.enter()

        with open(self.console, "wb") as console:
            # In a process namespace of its own, so that nspawn's end, however it comes, is the end
            # of everything inside.
            self.process = subprocess.Popen(
                [*scope, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "systemd-nspawn", "--quiet", "--boot", "--directory=" + self.root,
                 f"--machine=portd-{os.getpid()}", "--register=no", "--keep-unit",
                 "--private-network", "--notify-ready=yes", "--link-journal=no",
                 "--resolv-conf=off", "--timezone=off", "--console=pipe"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=prepare,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": self.notify.path,
                     "SYSTEMD_LOG_TARGET": "console"})
        alive = lambda: self.process.poll() is None
        if self.notify.wait("READY=1", seconds, 0, alive) is None:
            raise root.Broken("the container does not boot")
        self.leader = self.child(self.nspawn())
        self.namespace = os.readlink(f"/proc/{self.leader}/ns/pid")
        self.net = open(f"/proc/{self.leader}/ns/net")
        self.own_net = open("/proc/self/ns/net")

    @staticmethod
    def child(pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return int(file.read().split()[0])

    def nspawn(self):
        return self.child(self.process.pid)

    def tell_console(self):
        with contextlib.suppress(OSError), open(self.console, errors="replace") as file:
            note(*("console: " + line for line in file.read().splitlines()[-40:]))

    def close(self):
        """Ends the container at once: nothing in it is worth keeping."""
        self.close_crowds()
        if self.process is not None:
            nspawn = None
            with contextlib.suppress(OSError, IndexError):
                nspawn = os.pidfd_open(self.nspawn())
            self.process.kill()
            self.process.wait()
            if nspawn is not None:
                # The first process of its namespace: it is gone when all the others are.
                select.select([nspawn], [], [], 10)
                os.close(nspawn)
            self.process = None
        if self.notify is not None:
            self.notify.close()
            self.notify = None
        if self.group is not None:
            self.group.close()
            self.group = None

    # Commands inside.

    def command(self, argv, user=None):
        """The command that runs argv inside, to be executed by this machine; its end, and that of
        this script, is the end of argv too."""
        group = {"nobody": "nogroup"}.get(user, user)
        become = [f"--reuid={user}", f"--regid={group}", "--init-groups"] if user else []
        # nsenter is the parent of what it runs, for the sake of the process namespace. The runner itself
        # ends what a script has started.
        die = ["setpriv", "--pdeathsig", "KILL"]
        outside = [] if "PORTD_TEST_KEEP" in os.environ else die
        return [*outside, "nsenter", f"--target={self.leader}", "--all", "--root", "--wdns=/", "--",
                *die, *become, *argv]

    def run(self, *argv, user=None, check=True, seconds=20, input=None):
        """Runs a command inside; its CompletedProcess, with text."""
        words = " ".join(argv)
        try:
            result = subprocess.run(
                self.command(argv, user), text=True, errors="backslashreplace",
                capture_output=True, timeout=slow(seconds), input=input or "",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TERM": "dumb"})
        except subprocess.TimeoutExpired:
            raise Fail(f"{words}: not within {slow(seconds):.0f} s") from None
        if check and result.returncode != 0:
            raise Fail(f"{words}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def systemctl(self, *argv, check=True, seconds=30):
        return self.run("systemctl", "--no-pager", *argv, check=check, seconds=seconds)

    def portctl(self, *argv, user=None, check=True):
        return self.run("portctl", *argv, user=user, check=check)

    def stats(self, instance=None):
        which = ["-i", instance] if instance else []
        return json.loads(self.portctl(*which, "stats", "--json").stdout)

    # Files inside.

    def path(self, path):
        """Where this machine sees a file of the container, /run and /tmp included. An absolute
        symbolic link inside does not lead on inside."""
        return f"/proc/{self.leader}/root{path}"

    def read(self, path):
        with open(self.path(path), errors="replace") as file:
            return file.read()

    def write(self, path, text, mode=0o644):
        """Writes a file, and the folders that lead to it."""
        place = self.path(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w") as file:
            file.write(text)
        os.chmod(place, mode)

    def remove(self, path):
        """Removes a file or a folder, if it is there."""
        place = self.path(path)
        if os.path.isdir(place) and not os.path.islink(place):
            shutil.rmtree(place)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(place)

    def configure(self, options, instance=None):
        """Writes {"section.key": value} as /etc/portd.conf, or as the instance's file."""
        path = f"/etc/portd/{instance}.conf" if instance else "/etc/portd.conf"
        self.write(path, config_text(options))

    # Units.

    def dropin(self, unit, text):
        """A drop-in for a unit ("portd.service"); the manager knows it on return."""
        self.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
        self.systemctl("daemon-reload")

    def show(self, unit, *properties):
        """{property: value} of a unit."""
        out = self.systemctl("show", unit, "--property=" + ",".join(properties)).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def wait_show(self, unit, seconds, **wanted):
        """Waits until the unit has these properties; returns them."""
        deadline = time.monotonic() + slow(seconds)
        while True:
            seen = self.show(unit, *wanted)
            if all(seen.get(name) == str(value) for name, value in wanted.items()):
                return seen
            if time.monotonic() > deadline:
                raise Fail(f"{unit}: not {wanted} within {slow(seconds):.0f} s, but {seen}")
            time.sleep(0.1)  # a look is three programs

    def main_pid(self, unit):
        """The process id of a unit's main process, as this machine sees it."""
        inside = self.show(unit, "MainPID")["MainPID"]
        check(inside != "0", f"{unit} has no main process")
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/ns/pid") != self.namespace:
                    continue
                with open(f"/proc/{name}/status") as file:
                    if re.search(r"^NSpid:.*\s(\d+)$", file.read(), re.M)[1] == inside:
                        return int(name)
            except OSError:
                continue  # it has just gone
        raise Fail(f"process {inside} of {unit} is not there")

    # The journal.

    def cursor(self):
        """Where the journal is now."""
        self.run("journalctl", "--sync")
        out = self.run("journalctl", "-q", "-n", "0", "--show-cursor").stdout
        return re.search(r"^-- cursor: (\S+)$", out, re.M)[1]

    def journal(self, since, unit=None):
        """The records since a cursor, each with all its fields; of a unit: its own, and systemd's about
        it. (journalctl 252 skips one more with --after-cursor and a filter that the cursor's record
        does not pass.)"""
        self.run("journalctl", "--sync")
        out = self.run("journalctl", "-q", "--all", "-o", "json", f"--after-cursor={since}").stdout
        records = [json.loads(line) for line in out.splitlines()]
        return [record for record in records
                if not unit or unit in (record.get("_SYSTEMD_UNIT"), record.get("UNIT"))]

    def wait_journal(self, since, predicate, seconds):
        """Waits for a record for which predicate(record) holds, and returns it."""
        deadline = time.monotonic() + slow(seconds)
        with subprocess.Popen(self.command(
                ["journalctl", "-q", "--all", "-f", "-n", "all", "-o", "json",
                 f"--after-cursor={since}"]), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE) as follow:
            rest = b""
            try:
                while True:
                    left = deadline - time.monotonic()
                    if left <= 0 or not select.select([follow.stdout], [], [], left)[0]:
                        raise Fail(f"no such record in the journal within {slow(seconds):.0f} s")
                    data = os.read(follow.stdout.fileno(), 65536)
                    check(data, "journalctl has ended")
                    *lines, rest = (rest + data).split(b"\n")
                    for record in map(json.loads, lines):
                        if predicate(record):
                            return record
            finally:
                follow.kill()

    # The network.

    @contextlib.contextmanager
    def network(self):
        """The calling thread, and what it starts, is in the container's network: a socket that is
        made there stays there."""
        depth = getattr(self.here, "depth", 0)
        if depth == 0:
            root.libc("setns", self.net.fileno(), CLONE_NEWNET)
        self.here.depth = depth + 1
        try:
            yield
        finally:
            self.here.depth = depth
            if depth == 0:
                root.libc("setns", self.own_net.fileno(), CLONE_NEWNET)

    def crowd(self, port, host="127.0.0.1", message=None):
        """Clients in the container's network; reset() closes them too."""
        crowd = BoxCrowd(self, host, port, message)
        self.crowds.append(crowd)
        return crowd

    def close_crowds(self):
        for crowd in self.crowds:
            crowd.close()
        self.crowds.clear()

    # Between tests.

    def reset(self):
        """As after the boot: portd stopped, its configuration as installed, no drop-ins."""
        self.close_crowds()
        # A stop job first, so that what is killed does not come back; a drain is cut short.
        self.run("sh", "-c", "systemctl stop --no-block 'portd*'; systemctl kill --signal=KILL "
                 "'portd*' 2>/dev/null; systemctl stop 'portd*'", seconds=60)
        dropins = glob.glob(self.path("/etc/systemd/system/portd*.d"))
        for path in dropins:
            shutil.rmtree(path)
        self.remove("/etc/portd")
        self.remove("/etc/portd.conf.d")
        self.write("/etc/portd.conf", self.first_config)
        if dropins:
            self.systemctl("daemon-reload")
        self.systemctl("reset-failed")


# Running tests.

def give_up(reason, missing):
    """No container: one line that says so, and the end."""
    first, *rest = str(reason).splitlines()
    if rest:
        note("\n".join(rest))
    if missing and os.environ.get("PORTD_SYSTEM") != "required":
        print(f"1..0 # SKIP {first}", flush=True)
    else:
        note(first)
        print("1..1\nnot ok 1 - a container boots", flush=True)
    sys.exit(0)


def bind(function, box, marks):
    """The test with its container: reset before, and the journal shown when it fails."""
    @functools.wraps(function)
    def test(**case):
        box.reset()
        marks.append(box.cursor())
        try:
            function(box, **case)
        except tap.Skip:
            raise
        except BaseException:
            with contextlib.suppress(Exception):
                for record in box.journal(marks[-1])[-80:]:
                    note(f"journal: {record.get('SYSLOG_IDENTIFIER')}: {record.get('MESSAGE')}")
            raise
    return test


def main():
    """Boots a container and runs the tests of the calling script in it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            box = stack.enter_context(Container())
        except root.Missing as reason:
            give_up(reason, True)
        except root.Broken as reason:
            give_up(reason, False)
        script = types.SimpleNamespace(**{
            name: bind(value, box, []) if name.startswith("test_") and callable(value) else value
            for name, value in vars(sys.modules["__main__"]).items()})
        tests = tap.chosen(list(tap.tests_of(script)))
        print(f"1..{len(tests)}", flush=True)
        failed = [name for number, (name, call) in enumerate(tests, 1)
                  if not tap.run(number, name, call)]
        if failed:
            note(f"failed {len(failed)} of {len(tests)}: " + ", ".join(failed))
    note(f"container: {time.monotonic() - began:.2f} s in all")
