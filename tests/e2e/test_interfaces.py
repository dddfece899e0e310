"""Link-local addresses, of which each interface has its own: [fe80::1%eth0]:7777, and %3."""

import json
import re
import subprocess
import sys

import once
import tap
from harness import PORTCTL, PORTD, Portd, need, need_root
from loads import PORTLOAD, outcomes
from once import EX_CONFIG, EX_OSERR, one_line
from tap import TABLES, Skip, check, equal, for_each

NET = ("ip link set lo up; ip link add v0 type veth peer name v1; ip link set v0 up; "
       "ip link set v1 up; ip addr add fe80::a/64 dev v0 nodad; ip addr add fe80::b/64 dev v1 nodad")
WRAPPER = ["unshare", "-n", "sh", "-euc", NET + '; exec "$@"', "sh"]
# What became of a client: the byte that it says and hears again, or nothing.
CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as client:
        client.sendall(b"x")
        print(client.recv(1).decode())
        if len(sys.argv) > 3:
            sys.stdin.read()
except ConnectionError:
    print()
"""


def need_net():
    need_root()
    need("unshare", "nsenter", "ip")
    tried = subprocess.run([*WRAPPER, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise Skip(f"no network of its own: {tried.stderr.strip()}")


def here(portd, *command, seconds=10):
    """What a command in portd's network says."""
    result = subprocess.run(["nsenter", f"--net=/proc/{portd.pid}/ns/net", *command], text=True,
                            stdin=subprocess.DEVNULL, capture_output=True, check=False,
                            timeout=tap.slow(seconds))
    check(result.returncode == 0, command, result.stdout, result.stderr)
    return result.stdout


def client(portd, host):
    return here(portd, sys.executable, "-c", CLIENT, host, str(portd.port)).strip()


def index(portd, name):
    return int(here(portd, "ip", "-o", "link", "show", name).split(":")[0])


@for_each(table=TABLES)
def test_a_listener_by_name(table):
    need_net()
    with Portd({"listener.address": "[fe80::a%v0]:0"}, table=table, wrapper=WRAPPER) as portd:
        address = f"[fe80::a%v0]:{portd.port}"
        equal(portd.stats()["listener"]["address"], address, "address in stats")
        check(f"open on {address}: " in portd.log(), "it is told otherwise:", portd.log())
        equal(client(portd, "fe80::a%v0"), "x", "a client's echo")
        told = json.loads(here(portd, PORTLOAD, "churn", address,
                               "--i-own-this-host", "--count", "20", "--json"))
        equal(told["target"], address, "target")
        equal(outcomes(told), {"served": 20}, "outcomes")


@for_each(table=TABLES)
def test_a_listener_by_number(table):
    need_net()
    # They are numbered in the order in which they are made: lo, v1, v0.
    with Portd({"listener.address": "[fe80::a%3]:0"}, table=table, wrapper=WRAPPER) as portd:
        equal(index(portd, "v0"), 3, "number of the interface")
        equal(portd.stats()["listener"]["address"], f"[fe80::a%3]:{portd.port}", "address in stats")
        equal(client(portd, "fe80::a%v0"), "x", "a client's echo")


def test_lists_and_questions():
    need_net()
    with Portd({"listener.address": "[fe80::a%v0]:0"}, wrapper=WRAPPER) as portd:
        def reload(**lists):
            portd.write_config({f"source.{name}": value for name, value in lists.items()})
            answer = portd.reload()
            check(answer.startswith("reloaded"), answer)

        def explained(address, *words):
            answer = portd.request(f"explain {address}")
            for word in words:
                check(re.search(word, answer), f"{word!r} is not in:", answer)

        number = index(portd, "v0")
        equal(client(portd, "fe80::a%v0"), "x", "with empty lists")
        for network, served in (("fe80::%v0/64", False), ("fe80::%v1/64", True),
                                (f"fe80::a%{number}", False), ("fe80::a%v1", True),
                                ("fe80::/64", False)):
            reload(deny=network, allow=None)
            equal(client(portd, "fe80::a%v0"), "x" if served else "", f"with deny = {network}")
            reload(allow=network, deny=None)
            equal(client(portd, "fe80::a%v0"), "" if served else "x", f"with allow = {network}")
        reload(deny="fe80::%v0/64 10.0.0.0/8", allow=None)
        explained("fe80::7%v0", "a client from fe80::7%v0, ", r"fe80::%v0/64 is in \[source\] deny")
        explained(f"fe80::7%{number}", f"a client from fe80::7%{number}, ", "fe80::%v0/64 is in")
        explained("fe80::7%v1", r"not in \[source\] deny")
        explained("fe80::7%v9", "^error: v9: portd's machine has no such interface")
        printed = once.run(PORTD, "-c", portd.config_path, "-T")
        equal(printed.returncode, 78, "-T where there is no such interface")
        printed = here(portd, PORTD, "-c", portd.config_path, "-T")
        for line in ("address = [fe80::a%v0]:0", "deny = 10.0.0.0/8 fe80::%v0/64"):
            check(line in printed, f"{line!r} is not printed back:", printed)
        portd.write_config({"source.deny": "fe80::%v9/64"})
        check("names an interface that is not there" in portd.reload(), "a mistake is taken")


def test_connections_of_one_interface():
    need_net()
    with Portd({"listener.address": "[fe80::a%v0]:0"}, wrapper=WRAPPER) as portd:
        stays = subprocess.Popen(
            ["nsenter", f"--net=/proc/{portd.pid}/ns/net", sys.executable, "-c", CLIENT,
             "fe80::a%v0", str(portd.port), "stay"], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, text=True)
        portd.helpers.append(stays)
        portd.wait_until(lambda s: s["budget"]["connections"] == 1, 10, "the client is there")
        number = index(portd, "v0")
        for source, count in (("fe80::a%v0", 1), (f"fe80::a%{number}", 1), ("fe80::a", 1),
                              ("fe80::a%v1", 0)):
            listed = here(portd, PORTCTL, "-s", portd.control, "conns", "--json", "--source",
                          source)
            equal(len(json.loads(listed)["connections"]), count, f"connections from {source}")
        stays.communicate()


def test_what_cannot_be_listened_on():
    need_net()

    def portd(address, *args):
        return once.run(*WRAPPER, PORTD, "-c", "/dev/null", "-o", f"listener.address={address}", *args)

    for address in ("[fe80::a%v9]:7777", "[fe80::a%99]:7777"):
        result = portd(address)
        equal(result.returncode, EX_OSERR, "exit status")
        one_line(result, re.escape(f"cannot listen on {address}: "), "no such interface", "ip link")
        result = portd(address, "-t")
        equal(result.returncode, 0, "exit status of -t")
        check("warning: cannot listen on" in result.stderr, "-t does not warn:", result.stderr)
    # Of these the kernel would take no notice of the interface: it would be open on all of them.
    for address in ("[::%v0]:7777", "[::1%lo]:7777", "[2001:db8::1%v0]:7777"):
        result = portd(address)
        equal(result.returncode, EX_CONFIG, f"exit status with {address}")
        one_line(result, re.escape(f"'{address}' is not understood"), "%eth0")
    result = portd("[fe80::b%v0]:7777")
    equal(result.returncode, EX_OSERR, "exit status")
    one_line(result, "no interface has this address")
    result = portd("[fe80::a]:7777")
    equal(result.returncode, EX_CONFIG, "exit status")
    one_line(result, re.escape("such as [::]:7777, 192.0.2.1:80 or [fe80::1%eth0]:7777"))


if __name__ == "__main__":
    tap.main()
