"""make install and make uninstall, as a packager and an administrator meet them."""

import os
import re
import stat
import tempfile

import container
import root
import tap
from tap import check, equal, for_each, note

# {path: mode}; everything is root's.
FILES = {
    "/etc/portd": "drwxr-xr-x",
    "/etc/portd.conf": "-rw-r--r--",
    "/usr/bin/portctl": "-rwxr-xr-x",
    "/usr/bin/portload": "-rwxr-xr-x",
    "/usr/sbin/portd": "-rwxr-xr-x",
    "/usr/lib/systemd/catalog/portd.catalog": "-rw-r--r--",
    "/usr/lib/systemd/system/portd.service": "-rw-r--r--",
    "/usr/lib/systemd/system/portd@.service": "-rw-r--r--",
    "/usr/lib/systemd/system/portd.socket": "-rw-r--r--",
    "/usr/lib/sysusers.d/portd.conf": "-rw-r--r--",
    "/usr/share/bash-completion/completions/portctl": "-rw-r--r--",
    "/usr/share/bash-completion/completions/portd": "-rw-r--r--",
    "/usr/share/bash-completion/completions/portload": "-rw-r--r--",
    "/usr/share/man/man1/portctl.1": "-rw-r--r--",
    "/usr/share/man/man1/portload.1": "-rw-r--r--",
    "/usr/share/man/man5/portd.conf.5": "-rw-r--r--",
    "/usr/share/man/man8/portd.8": "-rw-r--r--",
}


def listing(top):
    """{path: mode} of the files below top, and of /etc/portd."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in files + [name for name in folders if name == "portd"]:
            path = os.path.join(folder, name)
            mode = os.lstat(path)
            equal((mode.st_uid, mode.st_gid), (0, 0), f"owner of {path}")
            # /lib is /usr/lib: which of them a file goes to is for pkg-config to say.
            found[re.sub(r"^/lib/", "/usr/lib/", path[len(top):])] = stat.filemode(mode.st_mode)
    return found


def test_install_and_uninstall(box):
    """Each file where it belongs; nothing of it stays; a changed configuration is left alone."""
    with tempfile.TemporaryDirectory(dir=container.POINT) as top:
        root.install(top)
        equal(listing(top), FILES, "files")
        root.uninstall(top)
        equal(listing(top), {}, "files after make uninstall")

        root.install(top)
        with open(top + "/etc/portd.conf", "a") as file:
            file.write("# changed\n")
        with open(top + "/etc/portd/web.conf", "w"):
            pass
        root.install(top)
        root.uninstall(top)
        equal(sorted(listing(top)), ["/etc/portd", "/etc/portd.conf", "/etc/portd/web.conf"],
              "files after changes and make uninstall")
        with open(top + "/etc/portd.conf") as file:
            check(file.read().endswith("# changed\n"), "the change is lost")


def test_nothing_runs_unasked(box):
    equal(box.show("portd.service", "ActiveState", "UnitFileState"),
          {"ActiveState": "inactive", "UnitFileState": "disabled"}, "portd.service")
    equal(box.show("portd.socket", "ActiveState", "UnitFileState"),
          {"ActiveState": "inactive", "UnitFileState": "disabled"}, "portd.socket")
    equal(box.run("systemctl", "is-system-running").stdout.strip(), "running", "the system")


def test_user(box):
    """systemd-sysusers has made it at boot."""
    name, _, uid, gid, _, home, shell = box.run("getent", "passwd", "portd").stdout.strip().split(":")
    equal((home, shell), ("/", "/usr/sbin/nologin"), "home and shell")
    equal(box.run("getent", "group", "portd").stdout.split(":")[2], gid, "the group's number")
    check(0 < int(uid) < 1000, f"{uid} is no number of a system user")
    groups = box.run("id", "--groups", "--name", "portd").stdout.split()
    equal(groups, ["portd"], f"groups of {name}")


@for_each(page=("portd.8", "portctl.1", "portd.conf.5"))
def test_manual_page(box, page):
    name, section = page.rsplit(".", 1)
    found = box.run("mman", "-w", section, name).stdout.strip()
    equal(found, f"/usr/share/man/man{section}/{page}", "what man finds")


def test_first_start(box):
    """As installed: systemctl start, and a client learns its tuple."""
    box.systemctl("start", "portd")
    for host, other in (("127.0.0.1", "127.0.0.1"), ("::1", "::1")):
        with box.crowd(7777, host) as crowd:
            client, = crowd.connect(1)
            port = client.sock.getsockname()[1]
            crowd.wait(lambda: client.end, 5, "the service ends it")
            equal(client.data.decode(), f"tcp {other} {port} {host} 7777\n", "the line")
    equal(box.portctl("health", user="friend").stdout, "open\n", "health")
    box.systemctl("enable", "portd")
    box.systemctl("disable", "portd")


def complete(box, *words):
    """What bash offers for the last of the words."""
    program = words[0]
    script = ("source /usr/share/bash-completion/bash_completion; "
              "_completion_loader \"$1\"; "  # as a first tab does
              "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); "
              "read -r -a spec < <(complete -p \"$1\"); "
              "for i in \"${!spec[@]}\"; do [[ ${spec[i]} == -F ]] && f=${spec[i + 1]}; done; "
              "\"$f\" \"$1\" \"${@: -1}\" \"${@: -2:1}\"; "
              "(( ${#COMPREPLY[@]} == 0 )) || printf '%s\\n' \"${COMPREPLY[@]}\"")
    result = box.run("bash", "-c", script, "bash", *words)
    equal(result.stderr, "", f"what completing {program} says")
    return sorted(result.stdout.split("\n")[:-1])


@for_each(line=("portctl ", "portctl he", "portctl -", "portctl -i web stats --", "portctl health -",
                "portctl drain --", "portctl -s /etc/portd.c", "portd --", "portd -c /etc/portd.c"))
def test_completion(box, line):
    wanted = {
        "portctl ": "conns drain events explain health limits reload stats",
        "portctl he": "health",
        "portctl -": "--help --version -i -s",
        "portctl -i web stats --": "--json --openmetrics --output --prometheus",
        "portctl health -": "--live",
        "portctl drain --": "--off",
        "portctl -s /etc/portd.c": "/etc/portd.conf",
        "portd --": "--help --version",
        "portd -c /etc/portd.c": "/etc/portd.conf",
    }[line]
    equal(complete(box, *line.split(" ")), wanted.split(), line)


def test_completion_of_words_that_change(box):
    """Keys come from portd itself, instances from what runs."""
    keys = complete(box, "portd", "-o", "")
    text = box.run("portd", "-c", "/dev/null", "-T").stdout
    equal(len(keys), len(re.findall(r"^\w+ *=", text, re.M)), "keys")
    check("listener.address=" in keys and "log.level=" in keys, *keys)
    equal(complete(box, "portd", "-o", "budget.m"), ["budget.max_connections="], "budget.m")
    equal(complete(box, "portctl", "-i", ""), [], "instances, none of which runs")
    for name, port in (("web", 7801), ("mail", 7802)):
        box.configure({"listener.address": f"127.0.0.1:{port}"}, name)
        box.systemctl("start", f"portd@{name}")
    box.systemctl("start", "portd")
    equal(complete(box, "portctl", "-i", ""), ["mail", "web"], "instances")
    equal(complete(box, "portctl", "-i", "w"), ["web"], "instances with w")


def test_completion_knows_every_command_and_option(box):
    """What --help names is offered."""
    text = box.run("portctl", "--help").stdout
    commands = re.findall(r"^  ([a-z]+) ", text, re.M)
    equal(complete(box, "portctl", ""), sorted(set(commands) - {"portctl"}), "commands")
    options = set(re.findall(r"^ +(--?[a-z]+)\b", text, re.M))
    offered = set(complete(box, "portctl", "-")).union(
        *(complete(box, "portctl", command, "--") for command in commands))
    equal(options - offered, set(), "options that are not offered")
    options = set(re.findall(r"^ +(--?[a-zA-Z]+)\b", box.run("portd", "--help").stdout, re.M))
    equal(options - set(complete(box, "portd", "-")), set(), "options that are not offered")


if __name__ == "__main__":
    container.main()
