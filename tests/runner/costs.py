"""What each test cost when it last ran: for the order in which they start, and for reports.

Two files of the same form, a line a test: seconds, seconds of CPU, name. tests/costs.txt came with
the sources; a run notes its own in the build directory, and these are preferred.
"""

import os

UNKNOWN = (30.0, 0.0)


class Costs:
    def __init__(self, came, own):
        self.path = own
        self.own = self.read(own)
        self.known = {**self.read(came), **self.own}

    @staticmethod
    def read(path):
        rows = {}
        try:
            with open(path) as file:
                for line in file:
                    seconds, cpu, name = line.split(None, 2)
                    rows[name.strip()] = (float(seconds), float(cpu))
        except FileNotFoundError:
            pass
        return rows

    def seconds(self, test):
        return self.known.get(test.name, UNKNOWN)[0]

    def note(self, results):
        for test, (result, seconds, cpu) in results.items():
            if result.good():
                self.own[test.name] = (seconds, cpu)

    def write(self):
        with open(self.path + ".new", "w") as file:
            for name, (seconds, cpu) in sorted(self.own.items()):
                file.write(f"{seconds:7.1f} {cpu:7.1f} {name}\n")
        os.rename(self.path + ".new", self.path)
