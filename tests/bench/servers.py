"""portd, the peers and the bare loops: each started on a port of loopback with a configuration of its own
in a temporary directory, limited to a number of connections where that is asked, ended by its pid.

A peer comes from where ./bootstrap bench has unpacked it (build/peers), else from where Debian installs
it; nothing of an installed one's configuration, service or files is touched. One that is missing is named
and passed over.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from proc import cpu_of, kept_waiting, memory_of, settle

BUILD = os.path.abspath(os.environ.get("top_builddir", "build"))
ROOT = os.path.join(os.environ.get("BENCH_PEERS", os.path.join(BUILD, "peers")), "root")
CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]
MANY = 15000  # connections, where no limit is asked: more than any load has open
BACKLOG = 4096
HAPROXY_MANY = 9900  # it wants two descriptors for each, and a table has 20,000 here


class Missing(Exception):
    """The server cannot run here; the reason is its text."""


def own(name):
    """A program of this build."""
    path = os.path.join(BUILD, name)
    if not os.access(path, os.X_OK):
        raise Missing(f"{name} is not built")
    return path


def debian(path):
    """A file of a Debian package: unpacked by bootstrap, or installed."""
    for root in (ROOT, "/"):
        full = os.path.join(root, path.lstrip("/"))
        if os.path.exists(full):
            return full
    raise Missing(f"{path} is not there: ./bootstrap bench fetches it")


def environment():
    """A peer's libraries may be unpacked beside it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "NOTIFY_"))}
    libraries = os.path.join(ROOT, "usr/lib", os.uname().machine + "-linux-gnu")
    if os.path.isdir(libraries):
        env["LD_LIBRARY_PATH"] = libraries
    return env


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One kind of server. Subclasses say how it is started: command(), and what its clients send."""

    name = ""
    about = ""            # what stands behind the name, for the report
    payload = "ping"      # what a client sends to get an answer
    answer = b"ping"      # what is in it
    one_source = False    # whether clients must all come from 127.0.0.1
    slow = 1              # how many times fewer connections are enough to measure it
    idle_max = 10000      # connections that may be held idle on it
    package = None

    def __init__(self, limit=None, **options):
        self.limit = limit
        self.options = options
        self.port = None
        self.process = None
        self.dir = None

    # For subclasses.

    def command(self):
        raise NotImplementedError

    def nofile(self):
        """RLIMIT_NOFILE, where that is how it is limited."""
        return None

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    # Life.

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.dir = tempfile.mkdtemp(prefix="portd-bench-", dir="/tmp")
        atexit.register(self.stop)
        try:
            self.port = free_port()
            command = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(SERVER_CPU)]
            if self.nofile():
                command += ["prlimit", f"--nofile={self.nofile()}:{self.nofile()}"]
            command += self.command()
            with open(os.path.join(self.dir, "log.out"), "wb") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, cwd=self.dir, env=environment())
            self.wait_port()
        except BaseException:
            self.stop()
            raise

    def wait_port(self, seconds=10):
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.answer_time(1)
                return
            except OSError:
                time.sleep(0.01)
        raise Missing(f"{self.name} does not serve: {self.log()[-500:].strip()}")

    def answer_time(self, seconds):
        """Seconds from connecting to an answer; OSError where there is none."""
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), seconds) as client:
            client.sendall(self.payload.encode())
            if not client.recv(1):
                raise ConnectionError("closed without an answer")
            took = time.monotonic() - began
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return took

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None

    # What it costs.

    @property
    def pid(self):
        return self.process.pid

    def queue(self):
        """Connections that the kernel has completed and the server has not accepted."""
        with open("/proc/net/tcp", encoding="ascii") as file:
            for fields in map(str.split, file):
                if fields[1] == f"0100007F:{self.port:04X}" and fields[3] == "0A":
                    return int(fields[4].split(":")[1], 16)
        return 0

    def cpu(self):
        return cpu_of(self.pid)

    def kept_waiting(self):
        return kept_waiting(self.pid)

    def settle(self):
        settle(self.pid)

    def memory(self):
        return memory_of(self.pid)

    def log(self):
        text = ""
        for name in sorted(os.listdir(self.dir)):
            if name.startswith("log"):
                with open(os.path.join(self.dir, name), encoding="ascii", errors="replace") as file:
                    text += file.read()
        return text

    def log_bytes(self):
        return sum(os.path.getsize(os.path.join(self.dir, name)) for name in os.listdir(self.dir)
                   if name.startswith("log"))


class Portd(Server):
    name = "portd"
    about = "service echo, 1 worker, fd_table = shared"
    table = "shared"

    def settings(self):
        settings = {"listener.address": f"127.0.0.1:{self.port}", "workers.count": 1,
                    "workers.fd_table": self.table, "service.type": "echo",
                    "control.socket": self.control, "timeouts.drain": "0s"}
        if self.limit:
            settings["budget.max_connections"] = self.limit
        settings.update(self.options)
        return settings

    @property
    def control(self):
        return os.path.join(self.dir, "control.sock")

    def command(self):
        command = [own("portd"), "-c", "/dev/null"]
        for name, value in self.settings().items():
            command += ["-o", f"{name}={value}"]
        return command

    def stats(self):
        import json
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            sock.connect(self.control)
            sock.sendall(b"stats json\n")
            return json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))


class PortdPrivate(Portd):
    name = "portd private"
    about = "service echo, 1 worker, fd_table = private"
    table = "private"


class PortdTuple(Portd):
    """What nginx's return does as well: it says its line without waiting for the client's."""

    name = "portd tuple"
    about = "service tuple, 1 worker, fd_table = shared"
    answer = b"tcp "

    def settings(self):
        return super().settings() | {"service.type": "tuple"}


class BareEcho(Server):
    name = "bare echo"
    about = "one epoll loop that echoes; limited by RLIMIT_NOFILE"

    def nofile(self):
        return self.limit and self.limit + 5  # 0 to 2, the listener, the epoll set

    def command(self):
        return [own("tests/bench/bare_echo"), str(self.port)]


class BareShed(Server):
    name = "bare shed"
    about = "accept4, SO_LINGER {1, 0}, close"

    def command(self):
        return [own("tests/bench/bare_shed"), str(self.port)]

    def answer_time(self, seconds):
        try:
            return super().answer_time(seconds)
        except ConnectionError:
            return 0


class Nginx(Server):
    name = "nginx return"
    about = "stream, return; answers without reading and closes"
    package = "nginx"
    answer = b"pong"

    def holding(self):
        return ""

    def command(self):
        # One of them is the listener.
        connections = self.limit + 1 if self.limit else MANY
        config = self.write("nginx.conf", f"""
load_module {debian("/usr/lib/nginx/modules/ngx_stream_module.so")};
{"user root;" if os.geteuid() == 0 else ""}
daemon off; master_process off; worker_rlimit_nofile {MANY + 500};
pid {self.dir}/pid; error_log {self.dir}/log.error;
events {{ worker_connections {connections}; }}
stream {{ server {{ listen 127.0.0.1:{self.port} backlog={BACKLOG}; {self.holding()} return pong; }} }}
""")
        return [debian("/usr/sbin/nginx"), "-p", self.dir, "-e", self.dir + "/log.error", "-c", config]


class NginxPreread(Nginx):
    """`return` alone never has a connection open for longer than it takes to answer: one that waits for
    the client's first bytes can be held."""

    name = "nginx preread"
    about = "stream, ssl_preread and return: waits for the client's first bytes"
    payload = "ping\n"  # it wants five to see that this is no TLS

    def holding(self):
        return "ssl_preread on; preread_timeout 1h;"


class Haproxy(Server):
    name = "haproxy"
    about = "mode http, http-request return: the answer it gives itself, without a server behind"
    package = "haproxy"
    answer = b"pong"
    payload = "GET / HTTP/1.0\r\n\r\n"

    def command(self):
        config = self.write("haproxy.cfg", f"""
global
	nbthread 1
	maxconn {self.limit or HAPROXY_MANY}
	log stderr format raw local0 notice
defaults
	mode http
	timeout client 1h
	timeout http-request 1h
frontend bench
	bind 127.0.0.1:{self.port} backlog {BACKLOG}
	maxconn {self.limit or HAPROXY_MANY}
	http-request return status 200 content-type text/plain string pong
""")
        return [debian("/usr/sbin/haproxy"), "-db", "-f", config]


class Memcached(Server):
    name = "memcached"
    about = "one version command a connection, 1 thread"
    package = "memcached"
    answer = b"VERSION"
    payload = "version\r\n"

    def command(self):
        # Its count has a dozen of its own descriptors in it.
        connections = self.limit + 12 if self.limit else MANY
        return [debian("/usr/bin/memcached"), "-u", "root", "-l", "127.0.0.1", "-p", str(self.port),
                "-U", "0", "-t", "1", "-c", str(connections), "-b", str(BACKLOG)]


class Xinetd(Server):
    name = "xinetd"
    about = "internal echo: a process for each connection"
    package = "xinetd"
    one_source = True  # each child asks for its client's name, and only this one is in /etc/hosts
    slow = 20
    idle_max = 1000

    def nofile(self):
        # What a service gets by default. Each child goes through them all to close what it has.
        return 1024

    def command(self):
        config = self.write("xinetd.conf", f"""
defaults
{{
	log_type = FILE {self.dir}/log.xinetd
	log_on_failure = HOST
	instances = {self.limit or "UNLIMITED"}
	per_source = UNLIMITED
	cps = 1000000 1
}}
service echo
{{
	type = INTERNAL UNLISTED
	id = echo-stream
	socket_type = stream
	protocol = tcp
	wait = no
	flags = NOLIBWRAP
	user = root
	bind = 127.0.0.1
	port = {self.port}
}}
""")
        return [debian("/usr/sbin/xinetd"), "-dontfork", "-f", config, "-pidfile", self.dir + "/pid"]


class Activated(Server):
    name = "socket-activate"
    about = "systemd-socket-activate and a minimal service of a thread for each connection"
    package = "systemd"
    slow = 2

    def nofile(self):
        return self.limit and self.limit + 4  # 0 to 2 and the listener

    def command(self):
        return [debian("/usr/bin/systemd-socket-activate"), "-l", f"127.0.0.1:{self.port}",
                own("tests/bench/minimal_service")]


# Those that wait for the client's first bytes: silent clients can fill them.
PEERS_THAT_WAIT = (NginxPreread, Haproxy, Memcached, Xinetd, Activated)
WAITING = (Portd, PortdPrivate, BareEcho) + PEERS_THAT_WAIT
# Those that speak first.
SPEAKING = (PortdTuple, Nginx)
ALL = WAITING + SPEAKING


def started(kinds, say, limit=None):
    """Starts one of each kind; those that cannot run are told through say, and left out."""
    running = []
    for kind in kinds:
        server = kind(limit)
        try:
            server.start()
            running.append(server)
        except Missing as missing:
            say(f"{kind.name}: passed over: {missing}")
    return running
