"""A hard RLIMIT_NOFILE of 1,073,741,816, which many containers have: nothing is as large as that.

It is faked (huge_nofile.c), as no test may raise it. RLIMIT_STACK, which sizes threads, is real.
"""

import json
import os
import re
import subprocess
import sys

import once
import tap
from harness import PORTD, Portd
from tap import TABLES, Skip, at_most, check, equal, for_each

HUGE = os.path.join(os.path.dirname(PORTD), "tests", "e2e", "huge_nofile.so")
NOFILE = 1073741816


def preload():
    if os.environ.get("PORTD_SANITIZERS"):
        raise Skip("nothing can be preloaded before a sanitizer")
    check(os.access(HUGE, os.R_OK), f"{HUGE} is not there")
    return {"LD_PRELOAD": HUGE}


@for_each(table=TABLES)
def test_it_starts_sized_by_memory(table):
    with Portd({"budget.max_connections": "auto"}, table=table, env=preload()) as portd:
        budget = portd.stats()["budget"]
        equal(budget["fds"], NOFILE * (1 if table == "shared" else 2), "descriptors")
        equal(budget["bound_by"], "memory", "what binds")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(50, send=b"x"))
        limits = json.loads(portd.portctl("limits", "--json").stdout)
        equal(limits["binds"], "memory", "what binds for portctl")
        row = next(row for row in limits["limits"] if row["name"] == limits["binding_limit"])
        equal(row["allows"], budget["max_connections"], "slots for portctl")
        equal(budget["max_connections"], row["value"] // 2 // 8192, "slots of that memory")
        at_most(portd.rss(), 64 << 20, "memory of a portd with 50 clients")


@for_each(table=TABLES)
def test_max_connections_and_a_reload(table):
    with Portd({"budget.max_connections": "1000"}, table=table, env=preload()) as portd:
        equal(portd.stats()["budget"]["max_connections"], 1000, "slots")
        portd.write_config({"budget.max_connections": "100000"})
        check(portd.reload().startswith("reloaded"), "no reload")
        equal(portd.stats()["budget"]["max_connections"], 100000, "slots after a reload")
        portd.write_config({"shed.dry_run": "yes"})
        check(portd.reload().startswith("reloaded"), "no reload")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(20, send=b"x"))


@for_each(table=TABLES)
def test_what_a_process_may_have_is_memory_too(table):
    """ulimit -v: the books of the sources grow with the connections that there may be."""
    with Portd({"budget.max_connections": "auto"}, table=table, env=preload(),
               wrapper=["prlimit", "--as=200000000"]) as portd:
        budget = portd.stats()["budget"]
        equal(budget["bound_by"], "memory", "what binds")
        at_most(budget["max_connections"], 200000000 // 1024 // 2, "slots")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(50, send=b"x"))


@for_each(table=TABLES)
def test_what_only_checks_says_the_same(table):
    args = ("-o", f"workers.fd_table={table}", "-t")
    result = once.portd("-c", "/dev/null", *args, env=preload())
    equal(result.returncode, 0, "exit status of -t")
    result = once.portd("-c", "/dev/null", "-o", f"budget.max_connections={NOFILE}", *args,
                        env=preload())
    equal(result.returncode, 78, "exit status of -t")
    check(re.search(r"at 8 KiB each they need \d+ MiB of memory.*use max_connections <= \d+",
                    result.stderr), result.stderr)


@for_each(table=TABLES)
def test_one_that_may_not_be_kept(table):
    """fs.nr_open was lowered after the limit was inherited: setrlimit(2) then refuses it."""
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        if int(file.read()) != 1048576:
            raise Skip("fs.nr_open is not the usual one")
    env = {**preload(), "HUGE_NOFILE_REFUSED": "1"}
    with Portd({}, table=table, env=env) as portd:
        equal(portd.stats()["budget"]["fds"], 1048576 * (1 if table == "shared" else 2), "descriptors")
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(4, send=b"x"))


def test_a_huge_stack_is_not_what_threads_get():
    """glibc makes the stack of a thread as large as RLIMIT_STACK."""
    if os.environ.get("PORTD_SANITIZERS"):
        raise Skip("a sanitizer sizes its shadow of the stack by the same limit")
    size = 1 << 46  # of 47 bits of addresses: two of them are not to be had
    wrapper = [sys.executable, "-c", "import os, resource, sys\n"
               f"resource.setrlimit(resource.RLIMIT_STACK, ({size}, resource.RLIM_INFINITY))\n"
               "os.execv(sys.argv[1], sys.argv[1:])"]
    tried = subprocess.run([*wrapper, "/bin/true"], capture_output=True, check=False)
    if tried.returncode != 0:
        raise Skip("RLIMIT_STACK may not be raised here")
    with Portd({}, wrapper=wrapper) as portd:
        crowd = portd.crowd()
        crowd.wait_served(crowd.connect(4, send=b"x"))


if __name__ == "__main__":
    tap.main()
