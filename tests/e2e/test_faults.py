"""Faults on the way out: no descriptor and no memory left while portd sheds, the control socket
meanwhile, and a wall clock that jumps. Each has an answer, and nobody is lost from the books.
"""

import os
import resource
import time

import tap
from clients import source
from harness import PORTD, Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, plain, slow, spread

BUSY = b"no room\n"
LIMITED, DENIED = "127.0.3.1", "127.0.9.1"
ANSWERS = ("reset", "close", "message")
LIMITS = {"source.max_connections": "3", "source.deny": "127.0.9.0/24", "shed.message": "no room\\n",
          "shed.queue_timeout": "200ms"}
JUMP = os.path.join(os.path.dirname(PORTD), "tests", "e2e", "clock_jump.so")


def drop(rows):
    return {name: n for name, n in rows.items() if n}


def check_told(clients, answer):
    """Each was answered as configured. close(2) with unread data is a reset."""
    right = {"reset": {"reset"}, "close": {"closed", "reset"}, "message": {"message"}}[answer]
    seen = {c.outcome for c in clients}
    check(seen <= right, "answers:", seen, "for", answer)
    if answer == "message":
        equal({c.data for c in clients}, {BUSY}, "what they were told")


class Refused:
    """Clients whom portd sheds for what they are, whatever else is amiss."""

    def __init__(self, portd):
        self.portd = portd
        self.crowd = portd.crowd(message=BUSY)
        self.inside = self.crowd.connect(3, send=b"x", source=(LIMITED, 0))
        self.crowd.wait_served(self.inside)
        self.told = []

    def come(self, times):
        """Denied ones and ones beyond their limit, in turn; all are answered."""
        for number in range(times):
            address = DENIED if number % 2 else LIMITED
            self.told += self.crowd.connect(1, send=b"x", source=(address, 0))
        self.crowd.wait(lambda: all(c.end for c in self.told), 5, "all are answered")

    def others(self, count, first=20):
        """As many from other networks, who may wait, and find no room in the end."""
        clients = [c for n in range(count)
                   for c in self.crowd.connect(1, send=b"x", source=(source(first + n), 0))]
        self.crowd.wait(lambda: all(c.end for c in clients), 5, "the others are shed")
        at_least(min(c.answered_at - c.began for c in clients), 0.19, "time to wait")
        return clients

    def again(self, others):
        """Once they have left, their network may have as many again."""
        for client in self.inside:
            client.close()
        self.portd.wait_until(lambda s: s["budget"]["connections"] == others, 2, "they have left")
        self.crowd.wait_served(self.crowd.connect(2, send=b"x", source=(LIMITED, 0)))
        self.portd.wait_until(lambda s: s["state"] != "full", 2, "the spell is over")


@for_each(table=TABLES, answer=ANSWERS)
def test_shedding_at_emfile(table, answer):
    """No number is free: who is refused for what he is, is told so; who lacks a descriptor too."""
    with Portd({**LIMITS, "shed.answer": answer}, table=table) as portd:
        refused = Refused(portd)
        # EMFILE compares numbers: other clients take all below the limit.
        fillers, top = portd.fill_tables(refused.crowd, 36, lambda number: source(100 + number))
        old = portd.limit_nofile(top + 1)[0]
        refused.come(40)
        check_told(refused.told + refused.others(5), answer)
        stats = portd.assert_rows("shed", {"denied": 20, "source_limit": 20, "fds": 5})
        at_least(stats["accept"]["errors"]["EMFILE"], 1, "EMFILE")
        refused.crowd.ask(refused.inside + fillers)
        portd.limit_nofile(old)
        refused.again(len(fillers))


@for_each(table=TABLES, answer=ANSWERS)
def test_shedding_at_enfile(table, answer):
    """Every other accept4, and every other opening of the descriptor that is kept, finds the
    machine's table full; and there is no slot."""
    with Portd({**LIMITS, "shed.answer": answer, "budget.max_connections": "5"}, table=table) as portd:
        refused = Refused(portd)
        fillers = refused.crowd.connect(2, send=b"x")
        refused.crowd.wait_served(fillers)
        calls = "accept4,openat,fcntl"
        trace = portd.strace("-e", f"trace={calls}", "-e", f"inject={calls}:error=ENFILE:when=1+2",
                             tids=portd.worker_tids())
        refused.come(20)
        others = refused.others(6)
        trace.stop()
        check(trace.injected(), "strace changed nothing")
        check_told(refused.told + others, answer)
        stats = portd.assert_books()
        rows = drop(stats["shed"])
        note("shed", rows, drop(stats["accept"]["errors"]), trace.injected(), "calls were changed")
        equal((rows.pop("denied"), rows.pop("source_limit")), (10, 10), "denied, source_limit")
        check(rows.keys() <= {"full", "fds"} and sum(rows.values()) == 6, "the others:", rows)
        at_least(stats["accept"]["errors"]["ENFILE"], 1, "ENFILE")
        refused.crowd.ask(refused.inside + fillers)
        refused.again(len(fillers))


@for_each(table=TABLES)
def test_control_socket_at_emfile_in_a_flood(table):
    """stats, health and reload answer while no number is free and a flood goes on."""
    options = {**LIMITS, "shed.queue_timeout": "0s", "source.max_connections": "0"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd(message=BUSY)
        inside, top = portd.fill_tables(crowd, 40)
        old = portd.limit_nofile(top + 1)[0]
        took, states, turned_away = [], set(), []
        for number in range(60):
            turned_away += crowd.connect(30, send=b"x", source=(source(number), 0))
            crowd.turn(0)
            began = time.monotonic()
            states.add(portd.request("health").strip())
            portd.stats()
            took.append(time.monotonic() - began)
        answer = portd.reload()
        check(answer.startswith("reloaded"), "reload at EMFILE:", answer)
        crowd.wait_answered(turned_away, 5)
        note(f"{len(turned_away)} clients meanwhile; health and stats within", spread(took))
        at_most(sorted(took)[len(took) // 2], slow(0.05), "half of the requests")
        at_most(max(took), slow(0.5), "the longest request")
        check("full" in states, "states seen:", states)
        # A control client and a shed one that end together can leave a number free for one more.
        at_least(sum(c.end is not None for c in turned_away), len(turned_away) - 10, "shed")
        stats = portd.assert_books()
        check(drop(stats["shed"]).keys() <= {"fds", "full", "backlog"}, drop(stats["shed"]))
        crowd.ask(inside)
        portd.limit_nofile(old)
        # Nobody tells portd: the first one that it sheds finds the descriptors free again.
        crowd.wait_answered(crowd.connect(1, send=b"x"))
        crowd.wait_served(crowd.connect(5, send=b"x"), 2)


class NoMemory:
    """RLIMIT_DATA of a running portd below what it has: nothing more is given. (A sanitizer's own memory
    would count too.)"""

    def __init__(self, portd):
        self.pid = portd.pid

    def __enter__(self):
        self.old = resource.prlimit(self.pid, resource.RLIMIT_DATA)
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (4096, self.old[1]))

    def __exit__(self, *_):
        resource.prlimit(self.pid, resource.RLIMIT_DATA, self.old)


@for_each(table=TABLES, answer=("reset", "message"))
@plain
def test_memory_is_refused(table, answer):
    """Connections beyond what there is memory for are shed with that reason, and when there is room
    again portd serves as before."""
    options = {"budget.max_connections": "9000", "shed.message": "no room\\n", "shed.answer": answer}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd(message=BUSY)
        inside = portd.fill(crowd, 50)
        with NoMemory(portd):
            clients = crowd.connect_gently(3500, lambda number: b"x")
            # A message comes before its end: more than the echo of one byte is one.
            crowd.wait(lambda: all(c.end is not None or c.received == 1 for c in clients), 10, "all are answered")
        served = [c for c in clients if c.end is None]
        told = [c for c in clients if c.end is not None]
        note(f"{len(served)} served, {len(told)} shed: {crowd.tally(told)}")
        at_least(len(told), 100, "clients without memory")
        portd.assert_rows("shed", {"memory": len(told)})
        crowd.ask(inside + served)
        # A message needs memory to linger for; without, it may be overtaken by a reset.
        right = {"reset"} if answer == "reset" else {"message", "reset"}
        check({c.outcome for c in told} <= right, crowd.tally(told))
        crowd.wait_served(crowd.connect_gently(300, lambda number: b"x"), 5, "there is memory again")


@for_each(table=TABLES)
@plain
def test_memory_is_refused_to_the_main_thread(table):
    """Requests and reloads find no memory: they fail, or not, but portd goes on as it was."""
    options = {"budget.max_connections": "20", "shed.queue_timeout": "0s"}
    with Portd(options, table=table) as portd:
        crowd = portd.crowd()
        inside = portd.fill(crowd, 20)
        nets = " ".join(f"10.{n}.0.0/24" for n in range(240))
        portd.write_config({"source.deny": nets, "budget.max_connections": "30"})
        said = []
        with NoMemory(portd):
            for _ in range(30):
                try:
                    said.append(portd.reload().split("\n")[0])
                    portd.request("stats")
                except (OSError, ValueError) as failed:
                    said.append(str(failed))
            crowd.ask(inside)
        note("reload said", sorted(set(said)))
        answer = portd.reload()
        check(answer.startswith("reloaded"), "with memory again:", answer)
        equal(portd.stats()["budget"]["max_connections"], 30, "the new limit")
        crowd.wait_served(crowd.connect(10, send=b"x"))


@for_each(table=TABLES)
@plain
def test_a_wall_clock_that_jumps_moves_nothing(table):
    """Timeouts, rates, states and their times are those of the monotonic clock."""
    check(os.access(JUMP, os.R_OK), f"{JUMP} is not there")
    options = {"budget.max_connections": "10", "budget.rate": "100", "shed.queue_timeout": "300ms",
               "timeouts.first_byte": "500ms", "timeouts.idle": "1s", "timeouts.lifetime": "2s",
               "source.rate": "5", "source.burst": "5", "shed.gate": "on", "shed.gate_after": "1min"}
    began = time.monotonic()
    with Portd(options, table=table, env={"LD_PRELOAD": JUMP}) as portd:
        with open(f"/proc/{portd.pid}/maps") as file:
            check("clock_jump.so" in file.read(), "it was not preloaded")
        crowd = portd.crowd()
        come = lambda count, send, first: [c for n in range(count) for c in crowd.connect(
            1, send=send, source=(source(first + n), 0))]
        silent, talking, still = come(3, b"", 0), come(3, b"x", 10), come(4, b"x", 20)
        crowd.wait_served(talking + still)
        late = come(5, b"x", 30)
        crowd.wait(lambda: all(c.end for c in late), 3, "the late ones are shed")
        beat = time.monotonic()
        while any(c.end is None for c in talking):
            check(time.monotonic() - beat < slow(4), "lifetime never came:", crowd.tally())
            for client in talking:
                if client.end is None:
                    client.send(b"t")
            crowd.run(0.05)
        for clients, due, what in ((late, 0.3, "queue_timeout"), (silent, 0.5, "first_byte"),
                                   (still, 1.0, "idle"), (talking, 2.0, "lifetime")):
            times = [c.ended - c.began for c in clients]
            note(what, spread(times))
            at_least(min(times), due - 0.015, what)
            at_most(max(times), slow(due + 0.3), what)
        burst = crowd.connect(20, send=b"x", source=(source(50), 0))
        crowd.wait_answered(burst)
        equal(sum(c.received > 0 for c in burst), 5, "served of a burst of one source")
        stats = portd.assert_rows("shed", {"full": 5, "source_rate": 15})
        states = stats["time_in_state_seconds"]
        equal(round(sum(states.values()) - stats["uptime_seconds"], 3), 0, "times in states, and uptime")
        at_most(stats["uptime_seconds"], time.monotonic() - began, "uptime")
        at_least(stats["uptime_seconds"], 2, "uptime")
        at_most(states["full"], slow(0.8), "time of being full")


if __name__ == "__main__":
    tap.main()
