"""Refusing on purpose is not lack of room: whom portd turns away for what he is or does says nothing
about the room for others, so neither the state nor `portctl health` fails for it."""

import tap
from harness import Portd
from tap import TABLES, check, equal, for_each

STRANGER = ("127.0.77.1", 0)
# Settings, and how many clients of the stranger's are served before one is refused.
ON_PURPOSE = {
    "denied": ({"source.deny": "127.0.77.0/24"}, 0),
    "not allowed": ({"source.allow": "127.0.0.1"}, 0),
    "source_limit": ({"source.max_connections": "2"}, 2),
    "source_rate": ({"source.rate": "1", "source.burst": "2"}, 2),
    "draining": ({}, 0),
}
SHORT = {
    "rate": {"budget.rate": "1", "budget.burst": "2"},
    "pressure": {"budget.max_connections": "100", "shed.start_at": "1%"},
}


def states(portd):
    """What everybody who asks is told, and the exit status of `portctl health`."""
    health = portd.portctl("health")
    return portd.stats()["state"], health.stdout.strip(), health.returncode


def refuse(portd, crowd, served, reason, count=5):
    """Clients of the stranger's, until so many have been refused for this reason, one a turn."""
    crowd.wait_served(crowd.connect(served, send=b"x", source=STRANGER))
    for number in range(count):
        last = None
        while last is None or last.outcome != "reset":  # with time, a rate lets one more in
            [last] = crowd.connect(1, send=b"x", source=STRANGER)
            crowd.wait_answered([last])
        portd.wait_until(lambda s: s["shed"][reason] == number + 1, 2, f"refused for {reason}")
        yield last


@for_each(table=TABLES, why=tuple(ON_PURPOSE))
def test_on_purpose(table, why):
    settings, served = ON_PURPOSE[why]
    reason = {"not allowed": "denied"}.get(why, why)
    with Portd({**settings, "budget.max_connections": "100"}, table=table) as portd:
        crowd = portd.crowd()
        if why == "draining":
            equal(portd.request("drain"), "draining\n", "drain")
        for _ in refuse(portd, crowd, served, reason):
            if why != "draining":
                equal(states(portd), ("open", "open", 0), f"a client was refused for {reason}")
        equal(portd.request("drain off"), "open\n", "drain off")
        equal(states(portd), ("open", "open", 0), "after drain off")
        equal(portd.stats()["time_in_state_seconds"]["shedding"], 0, "seconds of shedding")
        portd.assert_rows("shed", {reason: 5})


@for_each(table=TABLES, why=tuple(SHORT))
def test_lack_of_room(table, why):
    """It is told for those, also beside a client that is refused on purpose all the time."""
    with Portd({**SHORT[why], "source.deny": "127.0.78.0/24", "workers.count": "1"},
               table=table) as portd:
        crowd = portd.crowd()
        last = None
        while last is None or last.outcome != "reset":
            [last] = crowd.connect(1, send=b"x", source=STRANGER)
            crowd.wait_answered([last])
        portd.wait_until(lambda s: s["shed"][why] == 1, 2, f"shed for {why}")
        equal(states(portd), ("shedding", "shedding", 1), f"a client was shed for {why}")
        crowd.wait_answered(crowd.connect(1, source=("127.0.78.1", 0)))
        equal(portd.request("drain off"), "shedding\n", "drain off")


def test_text():
    """`portctl stats` says what the state is for."""
    with Portd({"budget.rate": "1", "budget.burst": "1"}) as portd:
        crowd = portd.crowd()
        crowd.wait_answered(crowd.connect(10, send=b"x"))
        portd.wait_until(lambda s: s["state"] == "shedding", 2, "shedding")
        text = portd.portctl("stats").stdout
        check("shedding: somebody was shed for lack of room in the last 5 s" in text, text)


if __name__ == "__main__":
    tap.main()
