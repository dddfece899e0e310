"""What the system refuses portctl and portload (strace -e inject), or forbids their user: they say what
it was and end, and what was there before is as it was.
"""

import json
import os

import once
import tap
from harness import PORTCTL, Portd, need, need_root
from loads import PORTLOAD, target
from once import NOBODY, one_line
from tap import at_least, check, equal, for_each, note

EX_REFUSED, EX_NO_ANSWER = 1, 2


def traced(folder, fault, program, *arguments, follow=()):
    """The program's end, with `fault` («call error which»)."""
    need("strace")
    call, error, when = fault.split()
    trace = os.path.join(folder, "strace")
    result = once.run("strace", "-qq", "-o", trace, *follow, "-e", f"trace={call}",
                      "-e", f"inject={call}:error={error}:when={when}", program, *arguments,
                      seconds=30)
    with open(trace) as file:
        at_least(file.read().count("(INJECTED)"), 1, "calls that were made to fail")
    return result


@for_each(fault=("write ENOSPC 1", "fchmod EPERM 1", "fsync EIO 1", "rename EACCES 1"))
def test_a_file_that_cannot_be_replaced(fault):
    """It is the old one, nothing is left beside it, and portctl says why."""
    with Portd() as portd:
        path = portd.dir + "/stats"
        with open(path, "w") as file:
            file.write("old\n")
        names = sorted(os.listdir(portd.dir))
        result = traced(portd.dir, fault, PORTCTL, "-s", portd.control, "stats", "--output", path)
        equal(result.returncode, EX_REFUSED, "status")
        equal(result.stdout, "", "standard output")
        one_line(result, path)
        with open(path) as file:
            equal(file.read(), "old\n", "the file")
        names.append("strace")
        equal(sorted(os.listdir(portd.dir)), sorted(names), "files")


@for_each(fault=("socket EMFILE 1", "connect EACCES 1", "recvfrom ECONNRESET 1"))
def test_an_answer_that_cannot_be_had(fault):
    with Portd() as portd:
        result = traced(portd.dir, fault, PORTCTL, "-s", portd.control, "health")
        note(result.stderr)
        equal((result.returncode, result.stdout), (EX_NO_ANSWER, ""), "status and output")
        one_line(result, portd.control)


@for_each(closed=("socket", "folder", "way"))
def test_a_socket_that_is_somebody_elses(closed):
    """Whoever may not open it hears whose it is: the socket's group, or its folder's."""
    need_root()
    with Portd() as portd:
        program = once.public_copy(PORTCTL, portd.dir)
        os.mkdir(portd.dir + "/a")
        os.mkdir(portd.dir + "/a/b")
        path = portd.dir + "/a/b/socket"
        os.link(portd.control, path)
        os.chmod(path, 0o660)
        os.chmod(portd.dir + "/a/b", 0o755 if closed == "socket" else 0o710)
        os.chmod(portd.dir + "/a", 0o700 if closed == "way" else 0o755)
        words = {"socket": rf"; {path} is for group root \(mode 0660\)",
                 "folder": rf"; {os.path.dirname(path)} is for group root \(mode 0710\)",
                 "way": "; a directory on the way is closed to you"}
        result = once.run(program, "-s", path, "health", user=NOBODY)
        equal((result.returncode, result.stdout), (EX_NO_ANSWER, ""), "status and output")
        one_line(result, f"may not open {path}: Permission denied", words[closed])


# What connect(2) of portload says, and what becomes of its connections.
CONNECTS = {"ECONNREFUSED": "refused", "ETIMEDOUT": "timed_out", "ECONNRESET": "reset",
            "EHOSTUNREACH": "failed"}


@for_each(error=CONNECTS)
def test_connections_that_end_before_they_begin(error):
    with Portd() as portd:
        result = traced(portd.dir, f"connect {error} 1+", PORTLOAD, "churn", target(portd), "--count",
                        "5", "--json", follow=["-f"])
        outcomes = {name: n for name, n in json.loads(result.stdout)["outcomes"].items() if n}
        equal(outcomes, {CONNECTS[error]: 5}, "outcomes")


@for_each(fault=("socket EMFILE", "socket ENFILE", "socket ENOBUFS", "connect ENETUNREACH",
                 "connect EPERM", "epoll_ctl ENOSPC"))
def test_attempts_that_this_machine_refuses(fault):
    """Each is counted once, its errno is told, and nothing is left open at portd."""
    call, error = fault.split()
    with Portd() as portd:
        # The order to begin is watched first.
        when = "2+" if call == "epoll_ctl" else "1+"
        result = traced(portd.dir, f"{fault} {when}", PORTLOAD, "churn", target(portd), "--count", "5",
                        "--json", follow=["-f"])
        equal(result.returncode, 1, "status")
        report = json.loads(result.stdout)
        equal((report["attempted"], report["outcomes"]["failed"]), (5, 5), "attempted and failed")
        check(f"5 attempts failed with {error}" in report["limited_by"], report["limited_by"])
        portd.wait_until(lambda s: s["budget"]["connections"] == 0, 5, "nothing is open")
        portd.assert_books()


if __name__ == "__main__":
    tap.main()
