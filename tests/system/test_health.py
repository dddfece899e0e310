"""portctl health for readiness and health --live for liveness, in each state; and who may ask what."""

import time

import container
import observe
from tap import at_least, at_most, check, equal, for_each, note, slow

ECHO = {"service.type": "echo"}


def health(box, wanted, live=(0, "live\n"), user=None):
    """Exit status and words, exactly, of both."""
    for argv, (code, words) in ((["health"], wanted), (["health", "--live"], live)):
        result = box.portctl(*argv, user=user, check=False)
        equal((result.returncode, result.stdout, result.stderr), (code, words, ""),
              f"portctl {' '.join(argv)}")


def health_of_nobody(box):
    for argv in (["health"], ["health", "--live"]):
        result = box.portctl(*argv, check=False)
        equal((result.returncode, result.stdout), (2, ""), f"portctl {' '.join(argv)}")
        equal(len(result.stderr.splitlines()), 1, f"lines: {result.stderr}")
        check("no portd answers at /run/portd/control.sock" in result.stderr, result.stderr)


@for_each(table=("shared", "private"))
def test_each_state(box, table):
    """stopped, open, full, open, draining, shedding, open, draining for good, stopped."""
    options = {**ECHO, "budget.max_connections": "2", "shed.queue_timeout": "infinity",
               "timeouts.drain": "20s", "workers.fd_table": table}
    box.configure(options)
    health_of_nobody(box)
    box.systemctl("start", "portd")
    health(box, (0, "open\n"))
    crowd = box.crowd(7777)
    served = crowd.connect(2, send=b"x")
    crowd.wait_served(served)
    waiting = crowd.connect(1, send=b"x")
    observe.wait_until(lambda: box.stats()["state"] == "full", 2, "full", crowd)
    health(box, (1, "full\n"))
    for client in (served[0], *waiting):
        client.close()
    observe.wait_until(lambda: box.stats()["state"] == "open", 2, "no longer full", crowd)
    health(box, (0, "open\n"))

    equal(box.portctl("drain").stdout, "draining\n", "drain")
    health(box, (1, "draining\n"))
    crowd.ask(served[1:])
    [shed] = crowd.connect(1)
    crowd.wait(lambda: shed.end, 2, "a newcomer while draining is shed")
    equal(box.portctl("drain", "--off").stdout, "open\n", "drain --off")
    health(box, (0, "open\n"))

    box.configure({**options, "budget.max_connections": "10", "budget.rate": "1",
                   "budget.burst": "1"})
    box.systemctl("reload", "portd")
    at = time.monotonic()
    hasty = crowd.connect(3, send=b"x")
    crowd.wait_answered(hasty, 2)
    for client in hasty:
        client.close()
    health(box, (1, "shedding\n"))
    if table == "shared":  # once is enough
        observe.wait_until(lambda: box.stats()["state"] == "open", 6, "no longer shedding", crowd)
        took = time.monotonic() - at
        at_least(took, 4.5, "seconds of shedding")
        at_most(took, slow(5.5), "seconds of shedding")
        health(box, (0, "open\n"))

    since = box.cursor()
    stop = observe.begin(box, "stop", "portd")
    observe.wait_said(box, since, "stopping: 1 connection is open", 2)
    health(box, (1, "draining\n"))
    crowd.ask(served[1:])
    served[1].close()
    equal(observe.finish(stop, 5), (0, ""), "systemctl stop")
    health_of_nobody(box)


def test_a_portd_that_could_not_start(box):
    box.configure({"service.type": "nonsense"})
    box.systemctl("start", "portd", check=False)
    health_of_nobody(box)


def test_a_stalled_worker(box):
    """Liveness fails, readiness does not: it says what newcomers meet. Both recover."""
    box.configure({**ECHO, "workers.count": "4", "workers.fd_table": "private"})
    box.systemctl("start", "portd")
    since = box.cursor()
    worker = 2
    with observe.stalled(observe.threads(box.main_pid("portd"))[1 + worker]):
        began = time.monotonic()
        observe.wait_until(lambda: box.portctl("health", "--live", check=False).returncode, 2,
                           "health --live fails")
        note(f"health --live failed after {time.monotonic() - began:.2f} s")
        for user in (None, "friend"):
            result = box.portctl("health", "--live", user=user, check=False)
            equal((result.returncode, result.stdout, result.stderr),
                  (1, "", f"portctl: error: worker {worker} has stalled\n"), "health --live")
        equal(box.portctl("health").stdout, "open\n", "health")
        crowd = box.crowd(7777)
        clients = crowd.connect(20, send=b"x")
        crowd.wait_served(clients, 1, "served by the other workers")
    observe.wait_said(box, since, f"worker {worker} turns again", 3)
    health(box, (0, "open\n"))
    crowd.ask(clients)


# Who may ask.

def test_a_member_of_the_group(box):
    """People whom useradd has made: one becomes a member, the other does not."""
    box.run("useradd", "--no-create-home", "--groups", "portd", "member")
    box.run("useradd", "--no-create-home", "outsider")
    try:
        box.configure(ECHO)
        box.systemctl("start", "portd")
        for argv in (["stats"], ["stats", "--json"], ["stats", "--prometheus"]):
            result = box.portctl(*argv, user="member", check=False)
            equal((result.returncode, result.stderr), (0, ""), f"portctl {argv} of a member")
            check(result.stdout, "nothing was printed")
        health(box, (0, "open\n"), user="member")
        for argv in (["drain"], ["drain", "--off"], ["reload"]):
            result = box.portctl(*argv, user="member", check=False)
            equal((result.returncode, result.stdout), (1, ""), f"portctl {argv} of a member")
            check(result.stderr.startswith("portctl: error: not permitted: "), result.stderr)
            equal(len(result.stderr.splitlines()), 1, f"lines: {result.stderr}")
        equal(box.stats()["state"], "open", "state after a member's drain")

        for argv in (["stats"], ["health"], ["health", "--live"], ["drain"], ["reload"]):
            result = box.portctl(*argv, user="outsider", check=False)
            equal((result.returncode, result.stdout), (2, ""), f"portctl {argv} of an outsider")
            equal(len(result.stderr.splitlines()), 1, f"lines: {result.stderr}")
            check("Permission denied" in result.stderr and "group portd" in result.stderr,
                  result.stderr)
        note(result.stderr)

        box.run("usermod", "--append", "--groups", "portd", "outsider")
        health(box, (0, "open\n"), user="outsider")
        # portd's own user may do everything, as root may.
        equal(box.portctl("drain", user="portd").stdout, "draining\n", "drain of portd's own user")
        equal(box.portctl("drain", "--off", user="portd").stdout, "open\n", "drain --off")
        equal(box.portctl("reload", user="portd").stdout, "reloaded\n", "reload")
    finally:
        for user in ("member", "outsider"):
            box.run("userdel", user, check=False)


def test_another_group_and_mode(box):
    """[control] mode and group. The unit knows no group but its own: Group= there is the way."""
    box.configure({**ECHO, "control.mode": "0600"})
    box.systemctl("start", "portd")
    equal(box.portctl("health", user="friend", check=False).returncode, 2, "mode 0600: a member")
    equal(box.portctl("health").stdout, "open\n", "mode 0600: root")
    box.configure({**ECHO, "control.mode": "0666"})
    box.systemctl("restart", "portd")
    equal(box.portctl("health", user="stranger").stdout, "open\n", "mode 0666: anybody")

    box.configure({**ECHO, "control.group": "stranger"})
    since = box.cursor()
    check(box.systemctl("restart", "portd", check=False).returncode != 0, "a group that is not its own")
    line = observe.wait_said(box, since, "control socket /run/portd/control.sock: ", 2)
    note(observe.text(line))
    check("group" in observe.text(line), observe.text(line))
    box.dropin("portd.service", "[Service]\nGroup=stranger\n")
    box.systemctl("restart", "portd")
    equal(box.portctl("health", user="stranger").stdout, "open\n", "its group: a member of it")
    equal(box.portctl("health", user="friend", check=False).returncode, 2, "its group: others")
    box.systemctl("reload", "portd")


if __name__ == "__main__":
    container.main()
