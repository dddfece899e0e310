"""Who is who at the control socket where user namespaces are: a user whom portd's namespace does not know
appears as the overflow uid (65534), and is nobody, even where portd itself has that number."""

import os
import sys

import once
import tap
from harness import HERE, PORTD, Portd
from once import NOBODY
from process import need_root
from tap import equal, for_each
from test_control import as_user

STRANGER = 12345
FULL = "0 0 4294967295"


@for_each(namespace=("none", "identity", "some users", "shifted"))
def test_overflow_uid(namespace):
    """portd as uid 65534; its own user, another one that is mapped or not, and root."""
    need_root()
    lines = {"none": None, "identity": [FULL], "some users": ["0 0 1", f"{NOBODY} {NOBODY} 1"],
             "shifted": ["0 0 1", f"1 {100000} {NOBODY}"]}[namespace]
    own = 100000 + NOBODY - 1 if namespace == "shifted" else NOBODY  # portd's uid outside
    portd = Portd({"control.mode": "0666"}, start=False)
    copy = once.public_copy(PORTD, portd.dir)
    if lines is None:
        start = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    else:
        start = [sys.executable, "-IS", os.path.join(HERE, "userns.py"), str(NOBODY), *lines, "--"]
    portd.wrapper = [*start, "/bin/sh", "-c", f'shift; exec {copy} "$@"', "sh"]
    os.chmod(portd.dir, 0o777)
    os.chmod(portd.notify.path, 0o777)
    with portd:
        portd.start()
        equal(os.stat(f"/proc/{portd.pid}").st_uid, own, "portd's user, seen from outside")
        # Nobody can tell its own user from one who is not known.
        knows = namespace in ("none", "identity")
        for who, may in ((STRANGER, False), (0, True), (NOBODY if knows else own, knows)):
            for command in (["drain"], ["drain", "--off"], ["reload"]):
                result = as_user(portd, who, *command)
                equal(result.returncode, 0 if may else 1, f"{command} by {who}: {result.stderr}")
            result = as_user(portd, who, "health")
            equal((result.returncode, result.stdout), (0, "open\n"), f"health by {who}")


if __name__ == "__main__":
    tap.main()
