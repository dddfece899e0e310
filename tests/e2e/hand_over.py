"""hand_over.py FD,FD,… NAME:NAME:… COMMAND… - executes a command with these descriptors at 3, 4, …
and $LISTEN_FDS, $LISTEN_FDNAMES, $LISTEN_PID as a service manager sets them (sd_listen_fds(3)).
"""

import fcntl
import os
import sys

fds = [int(fd) for fd in sys.argv[1].split(",")]
# Out of the way first: a source must not be overwritten before it is copied.
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in fds]
for number, fd in enumerate(high, 3):
    os.dup2(fd, number, inheritable=True)
os.closerange(3 + len(fds), 64)
for fd in high:
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2], LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[3], sys.argv[3:])
