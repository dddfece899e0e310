"""Executes a program as a user of a user namespace of its own, in this very process:

    userns.py UID "INSIDE OUTSIDE COUNT"... -- /PATH/OF/PROGRAM ARGUMENT...

each word a line of uid_map and gid_map. Only who may write them (root) can use it. For test_control_peer.py.
"""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000


def main():
    split = sys.argv.index("--")
    uid, lines, command = int(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1:]
    made, done = os.pipe(), os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:  # stays outside, and writes the maps
        os.read(made[0], 1)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{parent}/{name}", "w") as file:
                file.write("\n".join(lines) + "\n")
        os.write(done[1], b".")
        os._exit(0)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        sys.exit("userns.py: no user namespace")
    os.write(made[1], b".")
    os.close(done[1])
    if os.read(done[0], 1) != b".":
        sys.exit("userns.py: no map")
    os.waitpid(child, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execv(command[0], command)  # the library may be out of this user's sight


if __name__ == "__main__":
    main()
