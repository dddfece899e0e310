"""The probes: in the binary, and they fire with what portd(8) says, where bpftrace can look."""

import os
import re
import select
import subprocess

import tap
from clients import source
from harness import PORTD, Portd, need
from tap import Skip, check, equal, slow

NAMES = ["accept", "admit", "close", "shed"]


def built_with_probes():
    with open(os.path.join(os.path.dirname(PORTD), "config.h"), encoding="utf-8") as file:
        if "#define HAVE_SYS_SDT_H 1" not in file.read():
            raise Skip("sys/sdt.h was not there when portd was built")


def test_they_are_in_the_binary():
    built_with_probes()
    need("readelf")
    notes = subprocess.run(["readelf", "-n", PORTD], text=True, capture_output=True, check=True).stdout
    found = re.findall(r"Provider: portd\s+Name: (\w+)", notes)
    equal(sorted(set(found)), NAMES, "probes")


class Look:
    """bpftrace at one probe of a running portd; lines() says what it printed, and ends it."""

    def __init__(self, portd, program):
        need("bpftrace")
        if os.geteuid() != 0:
            raise Skip("bpftrace takes root")
        program = f'BEGIN {{ printf("begun\\n"); }} usdt:{PORTD}:portd:{program}'
        self.process = subprocess.Popen(["bpftrace", "-p", str(portd.pid), "-e", program],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)
        portd.helpers.append(self.process)
        self.said = b""
        while b"begun\n" not in self.said:
            if not self.read(30):
                raise Skip(f"bpftrace cannot look here: {self.said.decode().strip()[-200:]}")

    def read(self, seconds):
        """More of what it says; false: it has ended."""
        check(select.select([self.process.stdout], [], [], slow(seconds))[0], "bpftrace says nothing:", self.said)
        chunk = os.read(self.process.stdout.fileno(), 4096)
        self.said += chunk
        return chunk

    def lines(self, count):
        """So many lines of the probe's. It is killed then: an interrupt was seen to be lost."""
        while len(re.findall(rb"^@.*\n", self.said, re.M)) < count:
            check(self.read(10), "bpftrace has ended:", self.said)
        self.process.kill()
        self.process.communicate()
        return re.findall(r"^@(.*)$", self.said.decode(), re.M)


def test_each_fires_with_its_arguments():
    built_with_probes()
    options = {"budget.max_connections": "4", "shed.queue_timeout": "0s", "source.deny": "127.0.5.0/24"}
    with Portd(options) as portd:
        crowd = portd.crowd()

        def turn_away():
            crowd.wait_answered(crowd.connect(2, source=("127.0.5.1", 0)))

        def serve():
            clients = crowd.connect(3, send=b"hello", source=(source(1), 0))
            crowd.wait_served(clients)
            for client in clients:
                client.shutdown()
            crowd.wait_answered(clients)

        look = Look(portd, 'shed { printf("@%s\\n", str(arg2)); }')
        turn_away()
        equal(look.lines(2), ["denied"] * 2, "shed: the reason")
        look = Look(portd, 'close { printf("@%s %d %d\\n", str(arg2), arg4, arg5); }')
        serve()
        equal(look.lines(3), ["client 5 5"] * 3, "close: the reason, bytes")
        workers = len(portd.stats()["workers"])
        for probe in ("accept", "admit"):
            look = Look(portd, f'{probe} /arg0 < {workers} && arg1 > 2/ {{ printf("@yes\\n"); }}')
            serve()
            equal(look.lines(3), ["yes"] * 3, probe)
        portd.assert_books()


if __name__ == "__main__":
    tap.main()
