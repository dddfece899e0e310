"""A configuration that is gone is not the defaults: a reload changes nothing, a start says so."""

import os
import shutil
import subprocess

import once
import tap
from harness import Portd, need, need_root
from once import EX_CONFIG
from tap import Skip, check, equal, for_each

GATED = {"budget.max_connections": "7", "source.allow": "127.0.7.7"}


def slots(portd):
    return portd.stats()["budget"]["max_connections"]


def refuses(portd, *words):
    """A reload is rejected for this, and what was in force stays."""
    before, said = slots(portd), portd.reload()
    check(said.startswith("error: "), "the verdict:", said)
    for word in words:
        check(word in said.splitlines()[1], f"{word!r} is not in:", said)
    equal(slots(portd), before, "slots")
    stranger, = portd.crowd().connect(1, send=b"x")
    stranger.crowd.wait(lambda: stranger.end, 3, "somebody who is not in [source] allow")


def drop_in(portd, text, name="10-x.conf"):
    os.makedirs(portd.config_path + ".d", exist_ok=True)
    with open(os.path.join(portd.config_path + ".d", name), "w") as file:
        file.write(text)


ALLOW = "[budget]\nmax_connections = 7\n[source]\nallow = 127.0.7.7\n"


@for_each(how=("directory removed", "dangling link", "another directory"))
def test_drop_ins(how):
    with Portd() as portd:
        folder = portd.config_path + ".d"
        drop_in(portd, ALLOW)
        equal(portd.reload(), "reloaded\n", "the verdict with a drop-in")
        equal(slots(portd), 7, "slots")
        os.rename(folder, folder + ".away")
        if how == "dangling link":
            os.symlink("nowhere", folder)
        elif how == "another directory":
            os.mkdir(folder)
        refuses(portd, folder + ": ", "link leads" if how == "dangling link" else "is gone")
        if how == "dangling link":
            os.unlink(folder)
        drop_in(portd, "", "none.conf")
        equal(portd.reload(), "reloaded\n", "the verdict with an empty drop-in")
        check(slots(portd) > 7, "the drop-in is still in force")


def test_drop_ins_that_are_taken_back():
    """That is how drop-ins end."""
    with Portd() as portd:
        drop_in(portd, ALLOW)
        equal(portd.reload(), "reloaded\n", "the verdict with a drop-in")
        os.unlink(portd.config_path + ".d/10-x.conf")
        equal(portd.reload(), "reloaded\n", "the verdict without")
        check(slots(portd) > 7, "the drop-in is still in force")
        os.rmdir(portd.config_path + ".d")
        equal(portd.reload(), "reloaded\n", "the verdict without a directory that was empty")


class AtDefault(Portd):
    """Started without -c, with the test's folder as /etc: its portd.conf is /etc/portd.conf."""

    def __init__(self, options=None, **how):
        need_root()
        need("unshare", "mount")
        if subprocess.run(["unshare", "-m", "mount", "--bind", "/tmp", "/etc"], check=False,
                          stderr=subprocess.DEVNULL).returncode:
            raise Skip("no mount of its own is to be had")
        super().__init__(options, start=False, **how)
        self.wrapper = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', self.dir]

    def command(self):
        command = super().command()
        at = command.index("-c", command.index(self.dir))
        del command[at:at + 2]
        return command


@for_each(how=("moved away", "dangling link"))
def test_default_file(how):
    with AtDefault(GATED) as portd:
        portd.start()
        equal(slots(portd), 7, "slots")
        os.rename(portd.config_path, portd.config_path + ".away")
        if how == "dangling link":
            os.symlink("nowhere", portd.config_path)
        refuses(portd, "/etc/portd.conf: ", "link leads" if how == "dangling link" else "is gone")
        if how == "dangling link":
            os.unlink(portd.config_path)
        # What is meant can be said.
        open(portd.config_path, "w").close()
        equal(portd.reload().splitlines()[0], "reloaded", "the verdict on an empty file")
        check(slots(portd) > 7, "the defaults are not in force")


def test_default_file_that_never_was():
    """The defaults and what -o says, at start and at each reload; a file that comes is read."""
    with AtDefault(config="") as portd:
        portd.write_config = lambda options=None: None
        portd.start()
        equal(portd.reload(), "reloaded\n", "the verdict without a file")
        with open(portd.config_path, "w") as file:
            file.write("[budget]\nmax_connections = 7\n")
        equal(portd.reload(), "reloaded\n", "the verdict with a file")
        equal(slots(portd), 7, "slots")


@for_each(what=("file", "drop-ins"))
def test_start_with_a_dangling_link(what):
    portd = AtDefault({})
    try:
        os.symlink("nowhere", portd.config_path + ("" if what == "file" else ".d"))
        command = portd.command()
        result = once.run(command[0], *command[1:], "-t")
        equal((result.returncode, result.stdout), (EX_CONFIG, ""), "exit status and stdout")
        once.one_line(result, "/etc/portd.conf(.d)?: cannot be read: ", "link leads")
    finally:
        portd.kill()
        shutil.rmtree(portd.dir, ignore_errors=True)


if __name__ == "__main__":
    tap.main()
