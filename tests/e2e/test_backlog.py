"""The backlog queue: its size, its depth, its drops are the kernel's own figures."""

import re
import subprocess

import tap
from harness import Portd, need
from tap import TABLES, Skip, at_least, at_most, check, equal, for_each, note, slow, spread


def somaxconn():
    with open("/proc/sys/net/core/somaxconn") as file:
        return int(file.read())


def ss_drops(portd):
    """The drops of this listener, as ss -m prints them (SO_MEMINFO)."""
    out = subprocess.run(["ss", "-ltnmH", f"sport = :{portd.port}"], text=True, check=True,
                         capture_output=True).stdout
    return int(re.search(r",d(\d+)\)", out)[1])


def listener(portd):
    return portd.stats()["listener"]


def test_clamp_is_reported():
    most = somaxconn()
    if most >= 2**31 - 1:
        raise Skip("somaxconn does not clamp")
    asked = min(2**31 - 1, most * 10)
    with Portd({"listener.backlog": str(asked)}) as portd:
        seen = listener(portd)
        equal(seen["backlog_configured"], asked, "backlog_configured")
        equal(seen["backlog_effective"], most, "backlog_effective")
        lines = [line for line in portd.log_lines() if "backlog" in line]
        note(*lines)
        check(any("warning" in line and str(most) in line for line in lines),
              "no warning names the effective value")
        equal(portd.ss()[1], most, "ss: Send-Q")


def test_no_clamp_no_warning():
    with Portd({"listener.backlog": "100"}) as portd:
        equal((listener(portd)["backlog_configured"], listener(portd)["backlog_effective"]),
              (100, 100), "backlog")
        check("backlog" not in "".join(l for l in portd.log_lines() if "warning" in l),
              "a warning without a reason")


@for_each(table=TABLES, how=("hup", "reload"))
def test_reload_resizes_it(table, how):
    need("ss")
    with Portd({"listener.backlog": "64"}, table=table) as portd:
        crowd = portd.crowd()
        open_now = crowd.connect(5, send=b"x")
        crowd.wait_served(open_now)
        for size in (16, 256, 1, 64):
            portd.write_config({"listener.backlog": str(size)})
            if how == "hup":
                portd.hup()
            else:
                equal(portd.reload(), "reloaded\n", "the verdict")
            seen = listener(portd)
            equal((seen["backlog_configured"], seen["backlog_effective"]), (size, size), "backlog")
            equal(portd.ss()[1], size, "ss: Send-Q")
            open_now += crowd.connect(1, send=b"y")
            crowd.wait_served(open_now, 2, "served after the reload")
        crowd.ask(open_now)
        if how == "reload":
            portd.write_config({"listener.backlog": str(somaxconn() * 2)})
            answer = portd.reload()
            check(answer.startswith("reloaded\n") and "warning" in answer, "the clamp:", answer)


@for_each(table=TABLES)
def test_reload_while_clients_wait(table):
    """The queue grows and shrinks around those who are in it; nobody is lost."""
    with Portd({"listener.backlog": "64", "budget.max_connections": "4",
                "shed.queue_timeout": "infinity"}, table=table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        waiting = crowd.connect(40, send=b"w")
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 40, 2, "40 wait", crowd)
        for size in (8, 512):
            portd.write_config({"listener.backlog": str(size)})
            portd.hup()
            equal((listener(portd)["queue_depth"], listener(portd)["backlog_effective"]),
                  (40, size), "depth and size")
        for client in waiting:
            served.pop(0).close()
            crowd.wait_served([client], 2, "the next")
            served.append(client)


@for_each(table=TABLES)
def test_depth_and_drops(table):
    need("ss")
    with Portd({"listener.backlog": "8", "budget.max_connections": "4",
                "shed.queue_timeout": "infinity"}, table=table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        equal(listener(portd)["kernel_drops"], 0, "kernel_drops before")
        depths = []
        for count in (1, 3, 4):
            crowd.connect(count, send=b"w")
            depths.append(sum(depths[-1:]) + count)
            portd.wait_until(lambda s: s["listener"]["queue_depth"] == depths[-1], 5, "all are in the queue", crowd)
            equal(portd.ss()[0], depths[-1], "Recv-Q of ss")
        equal(listener(portd)["kernel_drops"], 0, "kernel_drops up to the limit")
        more = crowd.connect(22)
        portd.wait_until(lambda s: s["listener"]["queue_depth"] > 8, 5, "one more than the backlog", crowd)
        crowd.run(0.1)
        seen = listener(portd)
        equal((seen["queue_depth"], portd.ss()[0]), (9, 9), "N + 1 are in the queue")
        outside = sum(c.up is None for c in more)
        at_least(outside, 10, "clients whose SYN was dropped")
        at_least(seen["kernel_drops"], outside, "kernel_drops")
        equal(seen["kernel_drops"], ss_drops(portd), "kernel_drops and ss -m")
        again = seen["kernel_drops"] + outside
        later = portd.wait_until(lambda s: s["listener"]["kernel_drops"] >= again, 5, "they try again after a second",
                                 crowd)["listener"]
        equal(later["queue_depth_peak"], 9, "queue_depth_peak")
        note(f"{outside} outside, drops {seen['kernel_drops']} and then {later['kernel_drops']}")
        for client in served + [c for c in crowd if c not in served]:
            client.close()


@for_each(table=TABLES)
def test_three_quarters(table):
    """With 48 of 64 in the queue the oldest are shed, long before their time; no SYN is dropped."""
    with Portd({"listener.backlog": "64", "budget.max_connections": "4",
                "shed.queue_timeout": "60s"}, table=table) as portd:
        crowd = portd.crowd()
        served = portd.fill(crowd)
        calm = crowd.connect_gently(40, lambda n: b"w")
        crowd.run(0.3)
        equal(sum(c.answered for c in calm), 0, "answered with 40 in the queue")
        rest = []
        for _ in range(12):
            rest += crowd.connect(10, send=b"w")
            portd.wait_until(lambda s: s["listener"]["queue_depth"] <= 48, 5, "the oldest are shed", crowd)
        crowd.run(0.3)
        everyone = calm + rest
        stats = portd.stats()
        shed = sum(c.end is not None for c in everyone)
        note(f"{shed} of {len(everyone)} shed, depth {stats['listener']['queue_depth']},",
             f"peak {stats['listener']['queue_depth_peak']}")
        equal(stats["listener"]["kernel_drops"], 0, "kernel_drops")
        at_most(stats["listener"]["queue_depth"], 48, "depth")
        at_least(stats["listener"]["queue_depth"], 40, "depth: no more are shed than needed")
        equal({k: v for k, v in stats["shed"].items() if v}, {"backlog": shed}, "shed")
        equal([c.end is None for c in everyone], [False] * shed + [True] * (len(everyone) - shed),
              "the oldest are shed")
        note("queue wait of those shed:", spread([c.ended - c.began for c in everyone[:shed]]))
        equal(stats["budget"]["connections"], 4, "connections")
        crowd.ask(served)


@for_each(table=TABLES)
def test_three_quarters_and_infinity(table):
    """queue_timeout = infinity sheds nobody for the queue's sake."""
    with Portd({"listener.backlog": "64", "budget.max_connections": "4",
                "shed.queue_timeout": "infinity"}, table=table) as portd:
        crowd = portd.crowd()
        portd.fill(crowd)
        waiting = crowd.connect(64, send=b"w")
        crowd.run(0.5)
        portd.wait_until(lambda s: s["listener"]["queue_depth"] == 64, 5, "all are in the queue", crowd)
        equal(sum(c.answered for c in waiting), 0, "answered")


@for_each(table=TABLES)
def test_queue_wait_histogram(table):
    """Every client that waited while full is in it, with the time that it waited."""
    with Portd({"budget.max_connections": "4", "shed.queue_timeout": "200ms"}, table=table) as portd:
        crowd = portd.crowd()
        portd.fill(crowd)
        before = portd.stats()["queue_wait_seconds"]
        waiting = crowd.connect(30)
        crowd.wait_answered(waiting, 2)
        portd.assert_rows("shed", {"full": 30})
        after = portd.stats()["queue_wait_seconds"]
        note(after)
        equal(after["count"] - before["count"], 30, "observations")
        wait = (after["sum"] - before["sum"]) / 30
        at_least(wait, 0.19, "the mean wait")
        at_most(wait, slow(0.5), "the mean wait")


if __name__ == "__main__":
    tap.main()
