"""One worker stalls at a bad moment; the clients of the others do not."""

import time

import tap
from harness import Portd
from process import Trace
from tap import TABLES, check, for_each, note, slow, spread

STALL = 4  # seconds; a stalled worker is noticed within 2


@for_each(table=TABLES)
def test_with_the_only_wake_up(table):
    """The worker that is woken for a client stalls before it has accepted it: EPOLLEXCLUSIVE has
    woken nobody else. Each worker is the slow one in turn, for it is not known who is woken."""
    with Portd({"workers.count": "2"}, table=table) as portd:
        crowd = portd.crowd()
        waits = []
        for tid in portd.tids()[1:]:
            trace = Trace(portd, ["-e", "trace=accept4", "-e",
                                  f"inject=accept4:delay_enter={STALL}s:when=1"], [tid])
            client = crowd.connect(1, send=b"x")[0]
            crowd.wait_served([client], 3, "the client of a worker that has stalled")
            waits.append(client.first - client.began)
            end = time.monotonic() + slow(2 * STALL)
            while portd.request("health live").strip() != "live":
                check(time.monotonic() < end, "it turns again")
                time.sleep(0.05)
            trace.stop()
        note("from connect to service:", spread(waits))


if __name__ == "__main__":
    tap.main()
