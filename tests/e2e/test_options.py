"""Long options of all three programs: the exact name only. No part of one means anything, whatever other
options there are: `portload --i` does not say that the host is one's own."""

import os
import re

import once
import tap
from harness import PORTCTL, PORTD
from loads import PORTLOAD
from once import EX_USAGE
from tap import at_least, check, equal, for_each, note

PROGRAMS = {"portd": (PORTD, []), "portctl": (PORTCTL, ["stats"]), "portload": (PORTLOAD, ["hold"])}


def names_of(program):
    """The long options that --help names, and whether each takes a value."""
    text = once.run(program, "--help").stdout
    return {name: bool(value) for name, value in re.findall(r"--([a-z][a-z-]+)([ =][A-Z<]+)?", text)}


@for_each(program=tuple(PROGRAMS))
def test_exact_names(program):
    path, words = PROGRAMS[program]
    names = names_of(path)
    at_least(len(names), 2, "long options")
    parts = sorted({name[:n] for name in names for n in range(1, len(name))} - set(names))
    note(f"{len(names)} options, {len(parts)} parts of them")
    for number, part in enumerate(parts + [name + "x" for name in names]):
        more = ([f"--{part}"], [f"--{part}", "1"], [f"--{part}=1"])[number % 3]
        result = once.run(path, *words, *more)
        equal((result.returncode, result.stdout), (EX_USAGE, ""), f"{program} {more}")
        first = result.stderr.splitlines()[0]
        # Of a value that is missing, or one too many, getopt tells first.
        check(re.search(r"unrecognized option|is ambiguous|an argument$", first), first)
        check(f"--{part}" in first, first)
    for name in ("help", "version"):
        equal(once.run(path, f"--{name}").returncode, 0, f"exit status of {program} --{name}")


def test_own_host():
    """An address that is not loopback, from documentation: nobody is there."""
    for word in ("--i", "--i-own", "--i-own-this-hos", "--i=1"):
        result = once.run(PORTLOAD, "flood", "192.0.2.1:9", word, "--count", "1", "--timeout", "100ms",
                          "--duration", "100ms")
        equal((result.returncode, result.stdout), (EX_USAGE, ""), word)
        check("option '--i" in result.stderr, result.stderr)


def test_values():
    """A value may look like an option; with = or as a word of its own. It does not spell its option."""
    for words in (["stats", "--outp", "--output"], ["stats", "--outp", "--output=x"]):
        result = once.run(PORTCTL, "-s", "/nonexistent/s", *words)
        equal(result.returncode, EX_USAGE, words)
        check(f"unrecognized option '{words[1]}'" in result.stderr, result.stderr)
    missing = os.path.join("/nonexistent", "--json")
    for words in (["--output", missing], [f"--output={missing}"], ["--output", "--json"]):
        result = once.run(PORTCTL, "-s", "/nonexistent/s", "stats", *words)
        equal(result.returncode, 2, f"portctl {words}: {result.stderr}")
    for words in (["--limit", "3"], ["--limit=3"]):
        equal(once.run(PORTCTL, "-s", "/nonexistent/s", "conns", *words).returncode, 2, words)


if __name__ == "__main__":
    tap.main()
