"""Peers that are gone without a word: no FIN, no reset, nobody who would send one. Two network
namespaces and a cable between them, which is then cut.
"""

import select
import subprocess
import sys

import tap
from harness import Portd, need, need_root
from tap import TABLES, check, equal, for_each

CABLE = ("10.98.7.1", "10.98.7.2")
CLIENTS = 40

# Says that it is there. For each line that comes it asks all its connections, opened at the first,
# and says how many have echoed; for "half" every other one asks, and none waits; for "deaf" one more
# sends until nothing more can be sent, and takes nothing.
CLIENT = """
import socket, sys
clients = []
print(0, flush=True)
for line in sys.stdin:
    if line.strip() == "half":
        for client in clients[::2]:
            client.sendall(b"x")
        print(0, flush=True)
        continue
    if line.strip() == "deaf":
        deaf = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
        deaf.settimeout(0.3)
        try:
            while True:
                deaf.sendall(bytes(65536))
        except TimeoutError:
            print(1, flush=True)
        continue
    while len(clients) < int(sys.argv[3]):
        clients.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), 10))
    for client in clients:
        client.sendall(b"x")
    print(sum(client.recv(1) == b"x" for client in clients), flush=True)
"""


class Client:
    """Clients of their own process; wrapper: in which network namespace."""

    def __init__(self, portd, wrapper, host):
        command = [*wrapper, sys.executable, "-c", CLIENT, host, str(portd.port), str(CLIENTS)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        portd.helpers.append(self.process)
        self.said()

    def close(self):
        self.process.kill()
        self.process.communicate()

    def said(self):
        ready = select.select([self.process.stdout], [], [], tap.slow(10))[0]
        line = self.process.stdout.readline() if ready else ""
        check(line, "a client says nothing, or has ended")
        return int(line)

    def served(self, line=""):
        """How many are, now."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.said()


def run(*command):
    result = subprocess.run(command, text=True, capture_output=True, timeout=tap.slow(10))
    check(result.returncode == 0, command, result.stderr)


def need_namespaces():
    need_root()
    need("unshare", "nsenter", "ip")
    made = subprocess.run(["unshare", "-n", "true"], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise tap.Skip(f"no namespaces: {made.stderr.strip()}")


@for_each(table=TABLES)
def test_a_cable_that_is_cut(table):
    """Keepalive finds who is dead, and him alone; also where the kernel does not probe, but sends again."""
    need_namespaces()
    script = 'ip link set lo up; exec "$@"'
    with Portd({"listener.address": "0.0.0.0:0", "timeouts.keepalive": "3s"}, table=table,
               wrapper=["unshare", "-n", "sh", "-euc", script, "sh"]) as portd:
        here = ["nsenter", f"--net=/proc/{portd.process.pid}/ns/net"]
        living = Client(portd, here, "127.0.0.1")
        equal(living.served(), CLIENTS, "clients of this machine")
        equal(living.served("deaf"), 1, "one that takes nothing")
        dying = Client(portd, ["unshare", "-n"], CABLE[0])
        run(*here, "ip", "link", "add", "portd0", "type", "veth", "peer", "name", "portd1",
            "netns", str(dying.process.pid))
        run(*here, "sh", "-euc", f"ip addr add {CABLE[0]}/24 dev portd0; ip link set portd0 up")
        there = ["nsenter", f"--net=/proc/{dying.process.pid}/ns/net"]
        run(*there, "sh", "-euc", f"ip addr add {CABLE[1]}/24 dev portd1; ip link set portd1 up")
        equal(dying.served(), CLIENTS, "clients of the other machine")
        equal(portd.stats()["budget"]["connections"], 2 * CLIENTS + 1, "connections")
        # To half of them an answer is under way when the cable is cut.
        portd.pause()
        dying.served("half")
        run(*there, "ip", "link", "set", "portd1", "down")
        portd.resume()
        portd.wait_until(lambda s: s["closed"]["timeout"] == CLIENTS, 12, "the dead are closed")
        equal(living.served(), CLIENTS, "clients of this machine")
        portd.assert_rows("closed", {"timeout": CLIENTS})
        equal(portd.stats()["budget"]["connections"], CLIENTS + 1, "who takes nothing is alive")
        living.close()
        dying.close()


if __name__ == "__main__":
    tap.main()
