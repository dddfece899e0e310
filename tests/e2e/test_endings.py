"""What the end of a connection looks like from both sides: an orderly one where one is promised, and a
reason of its own for each cause."""

import subprocess

import tap
from harness import Portd
from process import need, need_root
from tap import TABLES, Skip, check, equal, for_each

MESSAGE = b"come back later\n"


@for_each(table=TABLES, answer=("close", "message"))
def test_turned_away_is_no_reset(table, answer):
    """A client that has sent something already sees an end of file."""
    with Portd({"budget.max_connections": "16", "shed.queue_timeout": "100ms", "shed.answer": answer,
                "shed.message": "come back later\\n"}, table=table) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, 16)
        for number in range(3):
            clients = crowd.connect(8, send=b"hello" * 2000)
            portd.wait_until(lambda s, n=8 * (number + 1): s["shed"]["full"] == n, 3,
                             "all are turned away", crowd)
            crowd.wait(lambda c=clients: all(one.end for one in c), 3, "all see an end")
            equal({c.end for c in clients}, {"fin"}, "the end")
            said = MESSAGE if answer == "message" else b""
            equal({c.data for c in clients}, {said}, "what they got")
        portd.assert_rows("shed", {"full": 24})
        portd.wait_until(lambda s: s["budget"]["lingering"] == 0, 3, "nobody lingers", crowd)


@for_each(table=TABLES)
def test_killed_by_ss(table):
    """ss -K of open connections: no fault of the client or the network."""
    need("ss")
    need_root()
    with Portd(table=table) as portd:
        crowd = portd.crowd()
        clients = crowd.connect(4, send=b"x")
        crowd.wait_served(clients)
        for client in clients[:3]:
            port = client.sock.getsockname()[1]
            killed = subprocess.run(["ss", "-KtnH", f"sport = :{portd.port} and dport = :{port}"],
                                    text=True, capture_output=True, check=False).stdout
            if not killed:
                raise Skip("this kernel destroys no socket for ss -K")
        crowd.wait(lambda: all(c.end for c in clients[:3]), 2, "they see an end")
        portd.assert_rows("closed", {"killed": 3})
        check("\n  killed " in portd.portctl("stats").stdout, "portctl stats has no such row")
        crowd.ask(clients[3:])


if __name__ == "__main__":
    tap.main()
