"""Real EMFILE: RLIMIT_NOFILE is lowered below what the running portd uses (prlimit(1))."""

import time

import tap
from harness import Portd
from tap import TABLES, at_least, at_most, check, equal, for_each, note, slow, spread

OPEN = 40
MESSAGE = b"no descriptor\n"
TICK = 0.010


class Short:
    """A portd with OPEN connections whose limit leaves `spare` free numbers at most.

    EMFILE compares numbers: the new limit is just above the highest number in use before the first
    client came, so that all numbers below it are taken by portd itself or by the oldest clients.
    """

    def __init__(self, table, spare=0, clients=OPEN, **options):
        keys = {"shed.queue_timeout": "10s", "shed.message": MESSAGE.decode().replace("\n", "\\n")}
        keys.update({name.replace("__", "."): value for name, value in options.items()})
        self.portd = Portd(keys, table=table)
        self.spare = spare
        self.clients = clients

    def __enter__(self):
        portd = self.portd
        try:
            self.crowd = portd.crowd(message=MESSAGE)
            if self.clients:
                self.open, top = portd.fill_tables(self.crowd, self.clients)
            else:
                self.open, top = [], portd.top_fd()
            self.old = portd.limit_nofile(top + 1 + self.spare)[0]
            note(f"limit lowered to {top + 1 + self.spare}, {portd.count_fds()} in use")
            return self
        except BaseException as failed:
            portd.__exit__(type(failed))
            raise

    def __exit__(self, *what):
        if what[0] is None:
            self.raise_limit()
        self.portd.__exit__(*what)

    def raise_limit(self):
        self.portd.limit_nofile(self.old)


def turns(before, after):
    return sum(w["loops"] for w in after["workers"]) - sum(w["loops"] for w in before["workers"])


@for_each(table=TABLES, answer=("reset", "message"))
def test_waiting_clients_are_answered_in_time(table, answer):
    with Short(table, shed__queue_timeout="300ms", shed__answer=answer) as short:
        portd, crowd = short.portd, short.crowd
        waiting = crowd.connect(20, send=b"y")
        crowd.wait(lambda: all(c.end for c in waiting), 3, "all are answered")
        times = [c.answered_at - c.began for c in waiting]
        note("answered after", spread(times))
        at_least(min(times), 0.3 - TICK, "the first answer")
        at_most(max(times), slow(0.6), "the last answer")
        equal(crowd.tally(waiting), {answer: 20}, "answers")
        stats = portd.assert_rows("shed", {"fds": 20})
        at_least(stats["accept"]["errors"]["EMFILE"], 1, "EMFILE counted")
        equal(sum(stats["accept"]["errors"].values()), stats["accept"]["errors"]["EMFILE"],
              "errors in all")
        crowd.ask(short.open)
        equal(portd.stats()["budget"]["connections"], len(short.open), "connections")


@for_each(table=TABLES, timeout=("60s", "infinity"))
def test_no_spin_while_clients_wait(table, timeout):
    with Short(table, shed__queue_timeout=timeout) as short:
        portd, crowd = short.portd, short.crowd
        waiting = crowd.connect(20, send=b"y")
        crowd.run(1.0)  # retries are paced from 10 ms up to 1 s
        equal(sum(c.answered for c in waiting), 0, "answered")
        cpu = portd.cpu()
        before, after, took = portd.watch(1.5, crowd)
        cpu = portd.cpu() - cpu
        note(f"{turns(before, after)} turns, {1000 * cpu:.1f} ms of CPU in {took:.2f} s,",
             f"{after['accept']['errors']['EMFILE']} EMFILE")
        equal(after["state"], "full", "state")
        at_most(turns(before, after), 20 * took, "turns of the loops")
        at_most(cpu / took, 0.03 * tap.SLOW, "share of one CPU")
        crowd.ask(short.open)
        short.raise_limit()
        crowd.wait_served(waiting, 1.5, "the limit is raised: all are served")


@for_each(table=TABLES, timeout=("10s", "infinity"))
def test_back_at_once_when_clients_leave(table, timeout):
    with Short(table, spare=12, shed__queue_timeout=timeout) as short:
        portd, crowd = short.portd, short.crowd
        waiting = crowd.connect(10, send=b"y")
        crowd.run(1.2)  # so long that the paced retries alone would come too late
        stuck = [c for c in waiting if not c.answered]
        note(f"{len(stuck)} of 10 wait")
        if table == "shared":
            equal(len(stuck), 10, "clients that wait: every number is taken")
        for client in short.open:
            client.close()
        began = time.monotonic()
        crowd.wait_served(waiting, 2, "service is back")
        took = [c.first - began for c in stuck]
        note("from descriptors free to service:", spread(took))
        at_most(max(took, default=0), slow(0.1), "the longest")
        stats = portd.wait_until(lambda s: s["state"] == "open", 2, "open again", crowd)
        equal(sum(stats["shed"].values()), 0, "shed")


@for_each(table=TABLES)
def test_back_when_the_limit_is_raised(table):
    """Nobody waits when it is raised: the next client finds service."""
    with Short(table, shed__queue_timeout="300ms") as short:
        portd, crowd = short.portd, short.crowd
        first = crowd.connect(5, send=b"y")
        crowd.wait(lambda: all(c.end for c in first), 3, "all are shed")
        short.raise_limit()
        crowd.run(1.2)
        later = crowd.connect(5, send=b"z")
        crowd.wait_served(later, 1, "served again")
        note("wait after the limit was raised:", spread([c.first - c.began for c in later]))
        portd.wait_until(lambda s: s["state"] == "open", 2, "open again", crowd)


@for_each(table=TABLES)
def test_empty_queue_refuses_nobody(table):
    """The last free numbers go to clients; EMFILE after them is nobody's refusal."""
    with Short(table, spare=3, clients=0, shed__queue_timeout="300ms") as short:
        portd, crowd = short.portd, short.crowd
        served = []
        for _ in range(3):
            served += crowd.connect(1, send=b"x")
            crowd.wait_served(served)
        crowd.run(0.8)
        stats = portd.stats()
        note("errors:", {k: v for k, v in stats["accept"]["errors"].items() if v})
        equal(sum(stats["shed"].values()), 0, "shed")
        equal(sum(c.end is None for c in served), 3, "open")
        crowd.ask(served)
        before, after, took = portd.watch(1.0, crowd)
        at_most(turns(before, after), 20 * took, "turns of the loops")


@for_each(table=TABLES)
def test_stats_and_log_at_emfile(table):
    """The control socket answers and nothing but a handful of lines is logged."""
    with Short(table, shed__queue_timeout="100ms") as short:
        portd, crowd = short.portd, short.crowd
        lines = len(portd.log_lines())
        took, states, newcomers = [], [], []
        for _ in range(20):
            newcomers += crowd.connect(5, send=b"y")
            crowd.run(0.05)
            began = time.monotonic()
            states.append(portd.request("health").strip())
            took.append(time.monotonic() - began)
        note("health answered within", spread(took))
        at_most(max(took), slow(0.1), "health")
        crowd.run(slow(1), lambda: all(c.answered for c in newcomers))
        # A control client and a shed one that end in the same moment can leave a number free, and
        # one of those who wait is served with it. All have an answer, whichever.
        equal(sum(c.answered for c in newcomers), 100, "clients answered")
        at_least(sum(c.end is not None for c in newcomers), 90, "clients shed")
        at_least(states.count("full"), 15, "times that the state was full")
        said = portd.log_lines()[lines:]
        note("logged:", *said)
        at_most(len(said), 4, "log lines")
        check(any("descriptor" in line or "EMFILE" in line for line in said),
              "no line says that descriptors are short")


@for_each(table=TABLES)
def test_limits_go_down_and_up(table):
    """Ten times: below what is in use, and back. No slot and no client is lost."""
    with Short(table, shed__queue_timeout="50ms") as short:
        portd, crowd = short.portd, short.crowd
        low = portd.limit_nofile(short.old)[0]
        for number in range(10):
            portd.limit_nofile(low)
            shed = crowd.connect(8, send=b"y")
            crowd.wait(lambda: all(c.end for c in shed), 2, f"round {number}: shed")
            portd.limit_nofile(short.old)
            crowd.ask(short.open)
            portd.assert_books()
        equal(portd.stats()["shed"]["fds"], 80, "shed for descriptors")


if __name__ == "__main__":
    tap.main()
