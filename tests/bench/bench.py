"""make bench: what portd costs beside bare loops of the same shape, in one run, rounds interleaved.

Each server is pinned to the first CPU, the load to the second; CPU time is the whole process's, from
/proc/PID/schedstat of its threads. Prints ratios with their spread; loopback only; ends what it starts.
"""
import atexit
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("top_builddir", ".")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
COUNT = int(os.environ.get("BENCH_COUNT", "20000"))
WIDTH = int(os.environ.get("BENCH_WIDTH", "32"))
CPUS = sorted(os.sched_getaffinity(0))


def program(name):
    return os.path.join(BUILD, name)


def pinned(cpu, *command):
    return ["taskset", "-c", str(cpu), *command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_port(port):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"bench: nobody listens on port {port}")


def take_slot(port):
    """A connection that is served: the slot of the one before may still be on its way back."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            client = socket.create_connection(("127.0.0.1", port), 1)
            client.sendall(b"x")
            if client.recv(1):
                return client
        except OSError:
            time.sleep(0.01)
    raise SystemExit("bench: no slot came free")


def cpu_of(pid):
    """Nanoseconds on a CPU, of all threads."""
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


class Server:
    def __init__(self, name, command, port, control=None):
        self.name, self.port, self.control = name, port, control
        self.process = subprocess.Popen(pinned(CPUS[0], *command), stderr=subprocess.DEVNULL)
        atexit.register(self.process.kill)  # also where the output is cut off
        self.costs = []
        wait_port(port)

    def load(self, count):
        before = cpu_of(self.process.pid)
        out = subprocess.run(pinned(CPUS[-1], program("tests/bench/churn"), str(self.port), str(count),
                                    str(WIDTH)), check=True, capture_output=True, text=True).stdout
        served, away = map(int, re.findall(r"\d+", out))
        self.costs.append((cpu_of(self.process.pid) - before) / count / 1000)
        return served, away

    def end(self):
        self.process.terminate()
        self.process.wait(10)


def portd(directory, port, *settings):
    control = os.path.join(directory, f"{port}.sock")
    command = [program("portd"), "-c", "/dev/null", "-o", f"listener.address=127.0.0.1:{port}",
               "-o", f"control.socket={control}"]
    for setting in settings:
        command += ["-o", setting]
    return command, control


def compare(title, servers, want_served):
    for server in servers:
        server.load(COUNT // 4)
        server.costs.clear()
    for _ in range(ROUNDS):
        for server in servers:
            served, away = server.load(COUNT)
            if (served if want_served else away) < COUNT:
                raise SystemExit(f"bench: {server.name} served {served} and turned {away} away")
    bare = servers[-1]
    print(f"{title}: {ROUNDS} rounds of {COUNT} connections, {WIDTH} at once")
    for server in servers:
        ratios = [a / b for a, b in zip(server.costs, bare.costs)]
        print(f"  {server.name:34} {statistics.median(server.costs):7.2f} us a connection"
              f"   {statistics.median(ratios):5.3f} x bare ({min(ratios):.3f} to {max(ratios):.3f})")
    for server in servers:
        server.end()
    return {s.name: s.costs for s in servers}


def main():
    if len(CPUS) < 2:
        raise SystemExit("bench: needs two CPUs, one for the server and one for the load")
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        servers = []
        for table in ("shared", "private"):
            port = free_port()
            command, control = portd(directory, port, "workers.count=1", "service.type=echo",
                                     f"workers.fd_table={table}")
            servers.append(Server(f"portd echo, {table} table", command, port, control))
        port = free_port()
        servers.append(Server("bare echo loop", [program("tests/bench/bare_echo"), str(port)], port))
        results["echo"] = compare("CPU to serve (connect, echo 4 bytes, close)", servers, True)

        port = free_port()
        command, control = portd(directory, port, "workers.count=1", "service.type=echo",
                                 "budget.max_connections=1", "shed.queue_timeout=0s",
                                 "shed.answer=reset")
        server = Server("portd, full, queue_timeout 0s", command, port, control)
        with take_slot(port):
            port = free_port()
            bare = Server("bare accept4, SO_LINGER, close",
                          [program("tests/bench/bare_shed"), str(port)], port)
            results["shed"] = compare("CPU to shed", [server, bare], False)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="ascii") as file:
            json.dump(results, file)


if __name__ == "__main__":
    main()
