"""portctl limits: a remedy for a key of the configuration names the place that wins, a drop-in or -o
too, so that who follows it gets what it says.
"""

import json
import os
import subprocess
import tempfile

import once
import tap
from harness import PORTCTL, Portd, config_text, need
from tap import check, equal


def limits(portd):
    result = portd.portctl("limits", "--json")
    equal((result.returncode, result.stderr), (0, ""), "portctl limits --json")
    seen = json.loads(result.stdout)
    return {row["name"]: row for row in seen["limits"]}


def text(portd):
    result = portd.portctl("limits")
    equal((result.returncode, result.stderr), (0, ""), "portctl limits")
    return " ".join(result.stdout.split())


def drop_in(portd, name, content):
    path = os.path.join(portd.config_path + ".d", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(content)
    return path


def start(portd, options):
    """With these, and what the harness wants, in drop-ins only: the last one wins."""
    drop_in(portd, "10-first.conf", config_text({name: "7" for name in options}))
    path = drop_in(portd, "20-second.conf", "# why\n" + config_text(options))
    portd.start()
    return path


def test_a_drop_in():
    """And following the remedy there, with the command, takes effect."""
    with Portd({"budget.max_connections": "8"}, start=False) as portd:
        path = start(portd, {"budget.max_connections": "9"})
        remedy = limits(portd)["max_connections"]["raise"]
        equal((remedy["line"], remedy["file"], remedy["file_line"], remedy["option"]),
              ("[budget] max_connections = auto", path, 3, None), "the remedy")
        check(f"raise: [budget] max_connections = auto in {path}:3, then portctl reload" in text(portd),
              text(portd))
        with open(remedy["file"]) as file:
            lines = file.read().splitlines()
        lines[remedy["file_line"] - 1] = remedy["line"].split("] ")[1]
        with open(remedy["file"], "w") as file:
            file.write("\n".join(lines) + "\n")
        subprocess.run(["sh", "-euc", remedy["command"]], check=True, timeout=tap.slow(10),
                       stdout=subprocess.DEVNULL,
                       env={"PATH": os.path.dirname(PORTCTL) + ":" + os.environ["PATH"]})
        equal(limits(portd)["max_connections"]["binds"], False, "it binds after the remedy")


def test_the_main_file():
    """With the line where the key is; without one where it is not."""
    with Portd({"listener.backlog": "50"}) as portd:
        with open(portd.config_path) as file:
            line = file.read().splitlines().index("backlog = 50") + 1
        rows = limits(portd)
        equal([(rows[name]["raise"]["file"], rows[name]["raise"]["file_line"])
               for name in ("backlog", "fd_table")],
              [(portd.config_path, line), (portd.config_path, None)], "places")


def test_an_option():
    """No file wins over it: it is the command line that has to be changed."""
    with Portd({"listener.backlog": "50"}, overrides=["budget.max_connections=9",
                                                      "listener.backlog=60"]) as portd:
        remedy = limits(portd)["max_connections"]["raise"]
        equal(remedy, {"command": None, "line": "[budget] max_connections = auto", "file": None,
                       "file_line": None, "option": "-o budget.max_connections=9"}, "the remedy")
        said = text(portd)
        for words in ("raise: -o budget.max_connections=auto in place of -o budget.max_connections=9 on "
                      "portd's command line, then start portd anew",
                      "raise: -o listener.backlog=120 in place of -o listener.backlog=60 "):
            check(words in said, f"{words!r} is not in:", said)


def test_without_a_portd():
    """The one that would be started has the default files: what wins in them is named."""
    need("unshare")
    made = subprocess.run(["unshare", "-m", "true"], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise tap.Skip(f"no namespaces: {made.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="portctl-", dir="/tmp") as folder:
        script = ("mount -t tmpfs none /etc; mkdir /etc/portd.conf.d; cd /etc/portd.conf.d; "
                  "printf '[listener]\\nbacklog = 5\\n' >10.conf; "
                  "printf '# [budget]\\n[listener]\\n\\nbacklog=6 ; more\\n' >20.conf; "
                  "printf '[workers]\\nfd_table = shared\\n' >../portd.conf; exec \"$@\"")
        result = once.run("unshare", "-m", "sh", "-euc", script, "sh", PORTCTL, "-s",
                          folder + "/nobody.sock", "limits", "--json")
        equal((result.returncode, result.stderr), (0, ""), "limits without a portd")
        rows = {row["name"]: row["raise"] for row in json.loads(result.stdout)["limits"]}
        equal([(rows[name]["file"], rows[name]["file_line"]) for name in ("backlog", "fd_table")],
              [("/etc/portd.conf.d/20.conf", 4), ("/etc/portd.conf", 2)], "places")


if __name__ == "__main__":
    tap.main()
