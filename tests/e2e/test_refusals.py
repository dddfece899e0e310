"""What the system refuses at start is told with the cause that holds here, and with what helps here."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

import once
import tap
from harness import HERE, PORTD, Portd, need, need_root
from once import EX_OSERR, NOBODY, one_line
from tap import Skip, check, equal

FORBID = [sys.executable, "-IS", os.path.join(HERE, "forbid.py")]
PRIVATE = ("-o", "workers.fd_table=private", "-o", "workers.count=2")
# What a container may have, too: one interface at the end of a cable, on which an address stays
# tentative for a minute.
NET = ("ip link set lo up; ip link add v0 type veth peer name v1; "
       "echo 60 >/proc/sys/net/ipv6/conf/v0/dad_transmits; ip link set v0 up; ip link set v1 up; ")


def refused(*args, wrapper=(), **how):
    """The one line that portd says before it exits with 71."""
    command = [*wrapper, PORTD, "-c", "/dev/null", *args]
    result = once.run(command[0], *command[1:], **how)
    equal(result.returncode, EX_OSERR, "exit status")
    return one_line(result)


def has(line, *words):
    for word in words:
        check(re.search(word, line), f"{word!r} is not in:", line)


def need_seccomp():
    tried = subprocess.run([*FORBID, "unshare", "/bin/true"], capture_output=True, text=True,
                           check=False)
    if tried.returncode:
        raise Skip(tried.stderr.strip())


def test_private_tables_where_unshare_is_forbidden():
    need_seccomp()
    with Portd({}, table="private", wrapper=[*FORBID, "unshare"]) as portd:
        equal(len(portd.tables()), 3, "tables: one for each worker, and the main thread's")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(20, send=b"x"))


def test_private_tables_that_are_not_to_be_had():
    need_seccomp()
    wrapper = [*FORBID, "unshare,close_range"]
    for args in ((), ("-t",)):
        line = refused(*PRIVATE, *args, wrapper=wrapper)
        has(line, r"-o workers\.fd_table=private: \[workers\] fd_table: ", "unshare",
            "Operation not permitted", "seccomp", "fd_table = shared")
    result = once.run(*wrapper, PORTD, "-c", "/dev/null", "-t")
    equal(result.returncode, 0, "exit status of what helps")


def on(port):
    return ("-o", f"listener.address=127.0.0.1:{port}", "-o", "control.socket=/tmp/none/none/none")


def test_a_port_that_an_outgoing_connection_has():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(
            server.getsockname()) as client:
        port = client.getsockname()[1]
        line = refused(*on(port))
        has(line, "the port is taken", "connection", f"ss -tanp 'sport = :{port}'",
            f"add {port} to the sysctl net.ipv4.ip_local_reserved_ports")
        check("-ltnp" not in line, "it names a command that shows nothing:", line)
        need("ss")
        seen = subprocess.run(["ss", "-tanH", f"sport = :{port}"], capture_output=True, text=True,
                              check=True).stdout
        check(f"127.0.0.1:{port}" in seen, "that command shows nothing:", seen)


def test_a_port_that_a_listener_has_or_nobody_seems_to_have():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        has(refused(*on(port)), "the port is taken", f"ss -ltnp 'sport = :{port}'")
    for _ in range(8):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            line = refused(*on(bound.getsockname()[1]))
        # A connection of another test's may have the number, at another address.
        if "by a connection" not in line:
            break
    has(line, "the port is taken", "neither listens nor is connected")


def need_net():
    need_root()
    need("unshare", "ip")
    tried = subprocess.run(["unshare", "-n", "sh", "-euc", NET], capture_output=True, text=True,
                           check=False)
    if tried.returncode:
        raise Skip(f"no network of its own: {tried.stderr.strip()}")


def in_net(script):
    return ["unshare", "-n", "sh", "-euc", NET + script + '; exec "$@"', "sh"]


def check_address(script, address, *words):
    """A start is refused with these words, and -t warns with them."""
    listener = ("-o", f"listener.address={address}")
    has(refused(*listener, wrapper=in_net(script)), re.escape(f"cannot listen on {address}: "), *words)
    result = once.run(*in_net(script), PORTD, "-c", "/dev/null", *listener, "-t")
    equal(result.returncode, 0, "exit status of -t")
    lines = result.stderr.splitlines()
    equal(len(lines), 2, "lines of -t")
    has(lines[0], "warning", *words)
    has(lines[1], "is fine")


def check_helps(script, address):
    """With this -t finds nothing wrong any more."""
    result = once.run(*in_net(script), PORTD, "-c", "/dev/null", "-o",
                      f"listener.address={address}", "-t")
    equal(result.returncode, 0, "exit status of -t")
    one_line(result, "is fine")


def test_an_address_that_is_tentative():
    need_net()
    add = "ip addr add 2001:db8::1/64 dev v0"
    address = "[2001:db8::1]:7777"
    check_address(add, address, "still tentative", "network-online", "ip_nonlocal_bind=1", "FreeBind=")
    check_helps(add + "; echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind", address)


def test_an_address_that_another_machine_has():
    need_net()
    wait = "until ip -6 addr show dadfailed | grep -q 2001:db8::1; do sleep 0.05; done"
    script = ("echo 1 >/proc/sys/net/ipv6/conf/v0/dad_transmits; "
              "ip addr add 2001:db8::1/64 dev v1 nodad; ip addr add 2001:db8::1/64 dev v0; " + wait
              + "; ip addr del 2001:db8::1/64 dev v1")
    check_address(script, "[2001:db8::1]:7777", "another machine has this address", "dadfailed")


def test_an_address_that_floats():
    need_net()
    for address, version in (("[2001:db8::9]:7777", 6), ("192.0.2.9:7777", 4)):
        check_address(":", address, "no interface has this address",
                      rf"net\.ipv{version}\.ip_nonlocal_bind=1", "FreeBind=yes in portd.socket")
        check_helps(f"echo 1 >/proc/sys/net/ipv{version}/ip_nonlocal_bind", address)


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="portd-", dir="/tmp")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def at(path):
    return ("-o", "listener.address=127.0.0.1:0", "-o", f"control.socket={path}")


def test_a_run_directory_that_is_somebody_elses():
    need_root()
    with folder() as path:
        portd = once.public_copy(PORTD, path)

        def told(socket_path, *words):
            result = once.run(portd, "-c", "/dev/null", *at(socket_path), user=NOBODY)
            equal(result.returncode, EX_OSERR, "exit status")
            one_line(result, re.escape(f"control socket {socket_path}: "),
                     "-o control.socket=FILE takes another place", *words)

        told(f"{path}/run/control.sock", f"its directory {path}/run cannot be made: Permission denied")
        told(f"{path}/control.sock", f"Permission denied; {path} belongs to user 0 .mode 0755., and "
             f"portd runs as user {NOBODY}")
        told(f"{path}/a/b/control.sock", f"{path}/a/b cannot be made: No such file or directory")
        told(f"{portd}/control.sock", "Not a directory")


def test_a_run_directory_that_is_read_only():
    need_root()
    need("unshare", "mount")
    with folder() as path:
        wrapper = ["unshare", "-m", "sh", "-euc",
                   f'mount -t tmpfs -o ro none {path}; exec "$@"', "sh"]
        if subprocess.run([*wrapper, "/bin/true"], capture_output=True, check=False).returncode:
            raise Skip("no mounts of its own here")
        has(refused(*at(f"{path}/run/control.sock"), wrapper=wrapper),
            f"its directory {path}/run cannot be made: Read-only file system",
            "-o control.socket=FILE")
        has(refused(*at(f"{path}/control.sock"), wrapper=wrapper), "Read-only file system",
            "-o control.socket=FILE")


def test_no_dev_null():
    need_root()
    need("unshare", "mount")
    wrapper = ["unshare", "-m", "sh", "-euc", 'mount -t tmpfs -o ro none /dev; exec "$@"', "sh"]
    if subprocess.run([*wrapper, "/bin/true"], capture_output=True, check=False).returncode:
        raise Skip("no mounts of its own here")
    has(refused("-t", wrapper=wrapper), "cannot open /dev/null: No such file or directory")


def test_descriptors_that_are_for_another_process():
    for env, words in (({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, "is for process 1, and this one is"),
                       ({"LISTEN_FDS": "1"}, "is set without [$]LISTEN_PID")):
        with Portd({}, env=env) as portd:
            has(portd.log(), "warning: nothing is taken over: [$]LISTEN_FDS " + words)
    with Portd({}) as portd:
        check("LISTEN_" not in portd.log(), "it warns of nothing:", portd.log())


if __name__ == "__main__":
    tap.main()
