"""Wrong configurations: every mistake is named with its file and line, exit 78; and what a right one
makes of its values. Each case is one run of portd, with -t and without.
"""

import contextlib
import os
import re
import resource
import shutil
import socket
import tempfile

import once
import tap
from harness import PORTD, Portd, config_text, need_root
from once import EX_CONFIG, EX_OSERR, EX_USAGE, NOBODY, one_line
from tap import TABLES, Skip, check, equal, for_each, note

L, W, B, S, T, C = (f"[{name}]\n" for name in
                    ("listener", "workers", "budget", "shed", "timeouts", "control"))

# name, text, the line that is wrong, what is said of it (regular expressions)
MISTAKES = (
    ("a key before any section", "backlog = 5\n", 1, ("'backlog'", "before any section")),
    ("a section that is not known", "[listner]\n", 1, ("'listner'", "mean 'listener'", "timeouts")),
    ("a section without its end", "[listener\n", 1, ("no ']'",)),
    ("a section with a tail", "[listener] backlog = 5\n", 1, ("text after ']'",)),
    ("a section in capitals", "[Listener]\n", 1, ("'Listener'", "mean 'listener'")),
    ("a key that is not known", L + "backlok = 5\n", 2, (r"\[listener\]", "mean 'backlog'")),
    ("a key of another section", S + "idle = 5s\n", 2, (r"\[timeouts\] idle", "queue_timeout")),
    ("a word alone", L + "backlog\n", 2, ("'backlog'", "key = value")),
    ("no separator", L + "backlog 5\n", 2, ("'backlog 5'",)),
    ("a colon", L + "backlog: 5\n", 2, ("':'", "only '='")),
    ("an indented line", L + "  backlog = 5\n", 2, ("indented",)),
    ("no key", L + "= 5\n", 2, ("no name of a key",)),
    ("a key twice", L + "backlog = 5\n\nbacklog = 6\n", 4, ("line 2", "once")),
    ("no value", L + "backlog =\n", 2, (r"\[listener\] backlog: ''", "empty", "1 to")),
    ("only a comment as value", L + "backlog = ; 5\n", 2, ("empty",)),
    ("no number", L + "backlog = many\n", 2, ("'many'", "1 to 2147483647")),
    ("a number with a tail", L + "backlog = 5 5\n", 2, ("'5 5'",)),
    ("a number below the range", L + "backlog = 0\n", 2, ("'0'", "out of range", "1 to")),
    ("a number above the range", L + "backlog = 2G\n", 2, ("'2G'", "out of range")),
    ("a negative number", L + "backlog = -1\n", 2, ("'-1'",)),
    ("a number beyond 64 bits", L + "backlog = 18446744073709551617\n", 2, ("1844674407",)),
    ("a hexadecimal number", L + "backlog = 0x10\n", 2, ("'0x10'",)),
    ("an unknown unit of size", L + "backlog = 5T\n", 2, ("'5T'",)),
    ("an address without a port", L + "address = 127.0.0.1\n", 2, ("'127.0.0.1'", "IP:port")),
    ("a host name", L + "address = localhost:80\n", 2, ("'localhost:80'", "IP:port")),
    ("a port beyond 65535", L + "address = 127.0.0.1:65536\n", 2, ("65536",)),
    ("IPv6 without brackets", L + "address = ::1:80\n", 2, ("'::1:80'",)),
    ("no workers", W + "count = 0\n", 2, ("out of range", "auto, or 1 to 1024")),
    ("too many workers", W + "count = 1025\n", 2, ("'1025'", "1024")),
    ("a kind of table", W + "fd_table = both\n", 2, ("'both'", "shared, private")),
    ("too few descriptors", B + "fds = 63\n", 2, ("'63'", "64 to")),
    ("a duration without unit", S + "queue_timeout = 5\n", 2, ("'5'", "0s to infinity", "ms")),
    ("a duration of unknown unit", S + "queue_timeout = 5 fortnights\n", 2, ("fortnights",)),
    ("a duration beyond all", S + "queue_timeout = 99999999999999h\n", 2, ("out of range",)),
    ("an answer", S + "answer = hang up\n", 2, ("'hang up'", "reset, close, message")),
    ("an escape", S + "message = a\\q\n", 2, (r"\[shed\] message", "xNN")),
    ("half an escape", S + "message = a\\x4\n", 2, (r"\[shed\] message",)),
    ("a long message", S + "message = " + "m" * 513 + "\n", 2, ("at most 512",)),
    ("a percentage without %", S + "low_watermark = 95\n", 2, ("'95'", "0% to 100%")),
    ("more than all", S + "low_watermark = 101%\n", 2, ("'101%'", "out of range")),
    ("keepalive out of range", T + "keepalive = 1s\n", 2, ("'1s'", "3s")),
    ("keepalive without end", T + "keepalive = infinity\n", 2, ("infinity",)),
    ("idle below the range", T + "idle = 1us\n", 2, ("'1us'", "0s, or 1ms")),
    ("a service", "[service]\ntype = proxy\n", 2, ("'proxy'", "tuple, echo, discard")),
    ("a relative path", C + "socket = control.sock\n", 2, ("'control.sock'", "absolute")),
    ("a path too long", C + "socket = /" + "s" * 107 + "\n", 2, ("107 bytes",)),
    ("a mode that is not octal", C + "mode = 0888\n", 2, ("'0888'", "octal")),
    ("a mode with more than permissions", C + "mode = 4777\n", 2, ("'4777'",)),
    ("a group's name", C + "group = a b\n", 2, ("'a b'",)),
    ("a level", "[log]\nlevel = loud\n", 2, ("'loud'", "error, warning, info, debug")),
    ("a NUL", L + "# a\0\nbacklog = 5\n", 2, ("NUL", r"\\x00")),
    ("a control character", L + "backlog = 5\x1b\n", 2, (r"\\x1b", "control character")),
    ("no UTF-8", L + "# \udcff\n", 2, (r"\\xff", "UTF-8")),
    ("a line of 131073 bytes", L + "#" + "c" * 131072 + "\n", 2, ("longer than 131072",)),
)


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="portd-", dir="/tmp")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def write(path, text):
    with open(path, "wb") as file:
        file.write(text.encode(errors="surrogateescape"))
    return path


def errors_of(result):
    """The lines of stderr without their common beginning; every line must have it."""
    lines = result.stderr.splitlines()
    head = "portd: error: "
    for line in lines:
        check(line.startswith(head) and line.isprintable(), "a line of its own form:", repr(line))
    return [line[len(head):] for line in lines]


def refused(*args, **how):
    """What -t says, which has to be what a start says that is refused, up to 20 mistakes."""
    checked, started = once.portd(*args, "-t", **how), once.portd(*args, **how)
    equal([(r.returncode, r.stdout) for r in (checked, started)], [(EX_CONFIG, "")] * 2, "exit, stdout")
    said = errors_of(checked)
    more = [f"and {len(said) - 20} more mistakes; portd -t names them"] * (len(said) > 20)
    equal(errors_of(started), said[:20] + more, "what start says")
    return said


@for_each(case=tuple(name for name, *_ in MISTAKES))
def test_mistake(case):
    text, line, words = next(rest for name, *rest in MISTAKES if name == case)
    with folder() as path:
        file = write(path + "/portd.conf", text)
        said = refused("-c", file)
        equal(len(said), 1, f"mistakes found: {said}")
        check(said[0].startswith(f"{file}:{line}: "), f"not line {line}:", said[0])
        check("allowed:" in said[0], "what is allowed is not said:", said[0])
        for word in words:
            check(re.search(word, said[0]), f"{word!r} is not in:", said[0])


def test_all_mistakes_at_once():
    text, wrong = "", []
    for _, part, line, _ in MISTAKES:
        wrong.append(text.count("\n") + line)
        text += part + "# a comment\n\n"
    with folder() as path:
        file = write(path + "/portd.conf", text)
        said = refused("-c", file, leaks=True)
    # A key that several of them set is one mistake more on its line, and on no other line.
    numbers = [int(re.match(re.escape(file) + r":(\d+): ", line)[1]) for line in said]
    again = [n for n, line in zip(numbers, said) if "comes after line" in line]
    equal(sorted(set(numbers) - set(wrong) - set(again)), [], "lines without a mistake")
    equal(sorted(set(wrong) - set(numbers)), [], "mistakes that nobody reported")
    equal(numbers, sorted(numbers), "in the order of the file")
    note(f"{len(said)} mistakes in {len(set(numbers))} lines")


def test_mistakes_in_every_place():
    """The file, two drop-ins, an override, and what only all of them together make wrong."""
    with folder() as path:
        file = write(path + "/portd.conf", L + "backlog = none\n")
        os.mkdir(file + ".d")
        write(file + ".d/b.conf", "\n\n[log]\nlevel = loud\n")
        write(file + ".d/a.conf", "[shed]\nanswer = message\n")
        said = refused("-c", file, "-o", "timeouts.idle=1", "-o", "nothing", "-o", "a.b=c",
                       "-o", "log.level=\x01")
        starts = [f"{file}:2: ", f"{file}.d/b.conf:4: ", "-o timeouts.idle=1: ", "-o nothing: ",
                  "-o a.b=c: ", "-o log.level=\\x01: ", f"{file}.d/a.conf:2: "]
        equal(len(said), len(starts), f"mistakes found: {said}")
        for line, start in zip(said, starts):
            check(line.startswith(start), f"{start!r} does not begin:", line)


@for_each(how=("missing", "directory", "socket", "no permission", "1 MiB", "silent pipe",
               "drop-in directory", "drop-in folder is a file", "dangling drop-in", "drop-in pipe"))
def test_unreadable(how):
    with folder() as path:
        file, user = path + "/portd.conf", None
        what, why = file, "No such file"
        if how == "directory":
            os.mkdir(file)
            why = "directory"
        elif how == "socket":
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(file)
            sock.close()
            why = "No such device|not a file"
        elif how == "no permission":
            need_root()
            os.chmod(write(file, ""), 0o600)
            os.chmod(path, 0o755)
            user, why = NOBODY, "Permission denied"
        elif how == "1 MiB":
            write(file, "#\n" * 2**19 + "#\n")
            why = "1 MiB"
        elif how == "silent pipe":
            os.mkfifo(file)
            writer = os.open(file, os.O_RDWR)
            why = "did not end"
        elif how != "missing":
            write(file, "")
            what, why = file + ".d", "Not a directory"
            if how == "drop-in folder is a file":
                write(what, "")
            else:
                os.mkdir(what)
                what += "/10-x.conf"
                make, why = {"drop-in directory": (os.mkdir, "it is a directory"),
                             "drop-in pipe": (os.mkfifo, "it is a pipe;"),
                             "dangling drop-in": (lambda p: os.symlink("gone", p), "No such file")}[how]
                make(what)
        program = once.public_copy(PORTD, path) if user else PORTD
        for flags in (("-t",),) if how == "silent pipe" else ((), ("-t",)):  # five seconds are enough
            result = once.run(program, "-c", file, *flags, user=user)
            equal((result.returncode, result.stdout), (EX_CONFIG, ""), "exit status and stdout")
            one_line(result, re.escape(f"portd: error: {what}: cannot be read: "), why, "allowed:")
        if how == "silent pipe":
            os.close(writer)


def effective(*args, **how):
    """What -T prints: its text, and {"section.key": value}."""
    result = once.portd(*args, "-T", **how)
    equal((result.returncode, result.stderr), (0, ""), "exit status and stderr of -T")
    values, section = {}, None
    for line in result.stdout.splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif line:
            key, value = line.split(" =", 1)
            values[f"{section}.{key}"] = value[1:]
    return result.stdout, values


def test_odd_but_right():
    """Byte order mark, CRLF, comments, long lines, no end of line: all of it is understood."""
    long = "# " + "c" * 196 + "\tbacklog = 1 " + "d" * 3800
    with folder() as path:
        file = write(path + "/portd.conf", "\ufeff[listener] ; a comment\r\n" + long + "\r\n"
                     "backlog=5 ; five\r\n  \t\n; a comment\n"
                     "[shed]\nmessage = a;b # c ; d\nqueue_timeout\t=  1500ms\t\n"
                     "[listener]\naddress = [::1]:99\n[timeouts]\nidle = 1h\t;\n"
                     "[workers]\ncount = 1K ; é")
        _, values = effective("-c", file)
        got = {k: values[k] for k in ("listener.backlog", "shed.message", "listener.address",
                                      "timeouts.idle", "workers.count", "shed.queue_timeout")}
        equal(got, {"listener.backlog": "5", "shed.message": r"a\x3bb \x23 c", "workers.count": "1024",
                    "listener.address": "[::1]:99", "timeouts.idle": "1h",
                    "shed.queue_timeout": "1500ms"}, "values")


OTHER = dict(pair.split("=") for pair in """listener.address=127.0.0.2:8080 listener.backlog=77
    workers.count=3 workers.fd_table=private budget.fds=999 budget.max_connections=123 budget.rate=9
    budget.priority=3 budget.burst=7 shed.queue_timeout=infinity shed.answer=message shed.gate=on
    shed.low_watermark=0% shed.evict_idle=5s shed.start_at=80% shed.gate_after=0s shed.dry_run=yes
    source.max_connections=4 source.rate=5 source.burst=6 source.prefix4=24 source.prefix6=48
    source.allow=127.0.0.0/8 source.deny=127.9.0.0/16 source.priority=::1 timeouts.first_byte=1500us
    timeouts.idle=90min timeouts.lifetime=2h timeouts.keepalive=0s timeouts.drain=infinity
    service.type=discard control.socket=/tmp/x/y control.mode=0600 control.group=root
    log.level=debug""".split()) | {"shed.message": r"\x00\r\n\t\\ busy; not now \xff\x20"}


def test_print_reads_back():
    with folder() as path:
        text, defaults = effective("-c", "/dev/null")
        equal(sorted(defaults), sorted(OTHER), "keys")
        file = write(path + "/a", text)
        equal(effective("-c", file)[0], text, "the defaults, read back")

        file = write(path + "/b", config_text({k: v.replace("; ", r"\x3b ")
                                               for k, v in OTHER.items()}))
        text, values = effective("-c", file)
        for key, value in OTHER.items():
            check(values[key] != defaults[key], key, "is at its default:", values[key])
            if key not in ("shed.message", "timeouts.first_byte"):
                equal(values[key], value, key)
        again = write(path + "/c", text)
        equal(effective("-c", again)[0], text, "all keys changed, read back")
        equal(once.portd("-c", again, "-t").returncode, 0, "-t of what -T printed")

        overrides = [word for k, v in OTHER.items() for word in ("-o", f"{k}={v}")]
        equal(effective("-c", "/dev/null", *overrides)[0], text, "the same as overrides")
        result = once.portd("-c", again, "-T", "-o", "log.level=loud")
        equal((result.returncode, result.stdout), (EX_CONFIG, ""), "-T of a wrong one")
        with open("/dev/full", "w") as full:
            result = once.portd("-T", "-c", again, stdout=full)
        equal(result.returncode, 1, "-T to a full disk")
        one_line(result, "standard output")


def test_order_of_places():
    """File, drop-ins in name order, overrides in order; only *.conf that is not hidden counts."""
    with folder() as path:
        file = write(path + "/portd.conf", L + "backlog = 1\n" + S + "answer = close\n")
        os.mkdir(file + ".d")
        for name, backlog in (("10-a.conf", 10), ("9-b.conf", 9), ("B.conf", 66), ("a.conf", 97),
                              ("z.conf~", 1000), (".z.conf", 1001), ("z.conf.bak", 1002)):
            write(f"{file}.d/{name}", f"{L}backlog = {backlog}\n")
        backlog = lambda *args: effective("-c", file, *args)[1]["listener.backlog"]
        for name, value in (("a.conf", "97"), ("B.conf", "66"), ("9-b.conf", "9"),
                            ("10-a.conf", "10")):
            equal(backlog(), value, f"the last of those up to {name}")
            os.unlink(f"{file}.d/{name}")
        equal(backlog(), "1", "the file's own")
        equal(backlog("-o", "listener.backlog=7", "-o", "listener.backlog=8"), "8", "the override's")
        equal(effective("-c", file)[1]["shed.answer"], "close", "what no drop-in names")


def test_contradiction():
    with folder() as path:
        file = write(path + "/portd.conf", S + "\nanswer = message\n")
        said = refused("-c", file)
        check(len(said) == 1 and said[0].startswith(f"{file}:3: [shed] answer: "), said)
        equal(once.portd("-c", file, "-o", "shed.message=no", "-t").returncode, 0, "with a message")
        equal(len(refused("-c", "/dev/null", "-o", "shed.answer=message")), 1, "as an override")


def test_unknown_group():
    with folder() as path:
        file, group = write(path + "/portd.conf", C + "\ngroup = no-such\n"), "control.group=none"
        for args, place in (("-c", file), f"{file}:3"), (("-c", file, "-o", group), f"-o {group}"):
            said = refused(*args)
            check(len(said) == 1 and said[0].startswith(f"{place}: [control] group: "), said)


def test_pipe_at_start_and_at_reload():
    """Read at start; at a reload it has nothing more to say, and the old settings stay."""
    with folder() as path:
        fifo = path + "/portd.conf"
        os.mkfifo(fifo)
        # While somebody has it open for reading, what was written stays in it.
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        write(fifo, L + "backlog = 55\n")
        with Portd(config="", args=["-c", fifo]) as portd:
            backlog = lambda: portd.stats()["listener"]["backlog_configured"]
            first, said = backlog(), portd.reload()
            check(re.match(f"error: .*\n{fifo}: cannot be read: it is a pipe with nothing", said), said)
            equal((first, backlog()), (55, 55), "backlog, after a reload that found nothing, too")
            write(fifo, L + "backlog = 66\n")
            equal((portd.reload(), backlog()), ("reloaded\n", 66), "when somebody has written to it")
        os.close(reader)


def test_instances_side_by_side():
    """portd@NAME reads NAME.conf and NAME.conf.d/, each for itself; a reload names them, too."""
    with folder() as path:
        for name, text in (("web", "[log]\n\nlevel = loud\n"), ("web2", S + "answer = close\n")):
            write(f"{path}/{name}.conf", L + "backlog = 22\n")
            os.mkdir(f"{path}/{name}.conf.d")
            write(f"{path}/{name}.conf.d/10-x.conf", text)
        said = refused("-c", f"{path}/web.conf")
        equal([line.split(": ")[0] for line in said], [f"{path}/web.conf.d/10-x.conf:3"], "places")
        file, late = f"{path}/web2.conf", f"{path}/web2.conf.d/20-y.conf"
        equal(effective("-c", file)[1]["shed.answer"], "close", "the other one's")
        with Portd(config="", args=["-c", file]) as portd:
            for text, key in ((B + "max_connections = 1000M\n", r"\[budget\] max_connections: "),
                              (C + "group = no-such-group-here\n", r"\[control\] group: .*no-such-")):
                write(late, L + "\n" + text)
                said = portd.reload()
                check(re.match(f"error: .*\n{late}:4: {key}", said), "at a reload:", said)
            write(late, C + "group = root\n")
            equal(portd.reload(), "reloaded\nnote: [control] group needs a restart\n", "another group")


BUDGETS = (
    ({"budget.max_connections": "1000"}, 256),
    ({"budget.max_connections": "1000", "workers.fd_table": "private"}, 256),
    ({"budget.max_connections": "200", "budget.fds": "128"}, 256),
    ({"budget.max_connections": "200", "budget.fds": "200"}, 256),
    ({"budget.max_connections": "900", "budget.fds": "400", "workers.fd_table": "private"}, 256),
    ({"budget.fds": "1000"}, 256),
    ({"budget.fds": "1000", "workers.fd_table": "private"}, 256),
    ({"budget.fds": "64", "workers.count": "8"}, 256),
    ({"budget.fds": "70", "workers.count": "64", "workers.fd_table": "private"}, 256),
    ({"workers.count": "100"}, 256),
    ({"workers.count": "80", "workers.fd_table": "private"}, 70),
    ({}, 40),
    ({"budget.max_connections": "100M"}, 256),
)


def ways_out(said):
    """Each alternative that the line names: ({"section.key": value}, LimitNOFILE or None, its
    text)."""
    keys = {"max_connections": "budget.max_connections", "fds": "budget.fds",
            "count": "workers.count", "fd_table": "workers.fd_table"}
    advice = said.split("; use ", 1)[1].replace(" (hard RLIMIT_NOFILE", "; (")
    for way in re.split(r",? or ", advice):
        way = re.sub(r"; \([^)]*\)", "", way)
        options = {keys[k]: v for k, v in re.findall(r"(\w+) (?:<=|>=|=) (\w+)", way) if k in keys}
        limit = re.search(r"LimitNOFILE= (?:to|of at least) (\d+)", way)
        yield options, int(limit[1]) if limit else None, way.strip()


def fits(options, limit):
    args = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
    result = once.portd("-c", "/dev/null", *args, "-t", nofile=limit)
    check(result.returncode in (0, EX_CONFIG), "exit status", result.returncode, result.stderr)
    return result.returncode == 0, result.stderr.strip()


@for_each(case=range(len(BUDGETS)))
def test_budget(case):
    """What the machine cannot give is refused, and each value that is named then works."""
    options, limit = BUDGETS[case]
    options = {"workers.count": "2", **options}
    args = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
    said = refused("-c", "/dev/null", *args, nofile=limit)
    # So many connections want more descriptors and more memory than there are: a way out of one
    # mistake is not yet a way out of both.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ways = [way for line in said for way in ways_out(line)] if len(said) == 1 else []
    check(len(said) == 1 or options["budget.max_connections"] == "100M", "one mistake:", said)
    for changed, new_limit, text in ways:
        check(changed or new_limit, "no value in:", text)
        if new_limit and new_limit > hard:
            note(f"not tried, more than this machine has: {text}")
            continue
        fine, why = fits({**options, **changed}, new_limit or limit)
        check(fine, f"«{text}» does not work: {why}; it came from: {said[0]}")
        # One less, or more, would not have worked.
        number = next((k for k, v in changed.items() if v.isdigit()), None)
        if new_limit:
            close, near = {**options, **changed}, new_limit - 1
        else:
            step = 1 if re.search(rf"{number.split('.')[1]} <=", text) else -1
            close, near = {**options, **changed, number: str(int(changed[number]) + step)}, limit
        check(not fits(close, near)[0], f"«{text}» is not the best value: {close} {near} works too")
    for line in said:
        check(re.match(r"-o budget\.\S+: \[budget\] |\[budget\] fds: \d+ are", line), "no place:", line)
    if len(said) > 1:
        least = min(int(n) for line in said
                    for n in re.findall(r"use max_connections <= (\d+)", line))
        check(fits({**options, "budget.max_connections": str(least)}, limit)[0], "the least works")


@for_each(table=TABLES)
def test_budget_serves_what_it_says(table):
    """The number that is named when too much is asked is the number that is then served."""
    options = {"workers.count": "2", "workers.fd_table": table, "budget.fds": "200"}
    args = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
    said = refused("-c", "/dev/null", *args, "-o", "budget.max_connections=5000")
    slots = int(re.search(r"use max_connections <= (\d+)", said[0])[1])
    with Portd({**options, "budget.max_connections": str(slots), "shed.queue_timeout": "0s"},
               table=table, nofile=200) as portd:
        crowd = portd.crowd()
        portd.fill(crowd, slots)
        extra = crowd.connect(20, send=b"x")
        crowd.wait_answered(extra)
        stats = portd.stats()
        equal((stats["budget"]["connections"], stats["shed"]["full"]), (slots, 20), "open, shed")
        equal(stats["accept"]["errors"]["EMFILE"], 0, "EMFILE")


def start_args(path, **options):
    options = {"listener__address": "127.0.0.1:0", "control__socket": path + "/sock", **options}
    return ["-c", "/dev/null"] + [word for k, v in options.items()
                                  for word in ("-o", f"{k.replace('__', '.')}={v}")]


@for_each(how=("port taken", "privileged port", "foreign address", "no folder for the socket"))
def test_refused_by_the_system(how):
    with folder() as path, socket.socket() as taken:
        user, program = None, PORTD
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if how == "port taken":
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            options, words = {"listener__address": address}, (address, "taken", "ss -ltnp")
        elif how == "privileged port":
            need_root()
            with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
                if int(file.read()) <= 1:
                    raise Skip("every port is open to every user here")
            user, program = NOBODY, once.public_copy(PORTD, path)
            options, words = {"listener__address": "127.0.0.1:1"}, (":1:", "permission", "1024")
        elif how == "foreign address":
            options, words = {"listener__address": "192.0.2.1:80"}, (r"192\.0\.2\.1", "address")
        else:
            options, words = {"control__socket": path + "/a/b/sock"}, ("/a/b/sock", "directory")
        args = start_args(path, **options)
        result = once.run(program, *args, user=user)
        equal((result.returncode, result.stdout), (EX_OSERR, ""), "exit status and stdout")
        one_line(result, "^portd: error: ", *words)
        equal(once.run(program, *args, "-t", user=user).returncode, 0, "-t, which opens nothing")
        check(not os.path.exists(path + "/sock"), "a socket was left behind")


def test_usage():
    for args in (["-x"], ["-c"], ["-o"], ["--nothing"], ["word"], ["-t", "word"], ["--help=x"]):
        result = once.portd(*args, leaks=True)
        equal((result.returncode, result.stdout), (EX_USAGE, ""), f"exit status of {args}")
        one_line(result, "portd: ")
    for flag, word in (("--help", "(?s)Usage: portd .*Examples:"), ("--version", r"^portd \d+\.\d")):
        result = once.portd(flag, "-c", "/no/such/file")
        equal((result.returncode, result.stderr), (0, ""), f"exit status of {flag}")
        check(re.search(word, result.stdout), f"what {flag} prints:", result.stdout)


def test_check_of_a_right_one():
    with folder() as path:
        file = write(path + "/portd.conf", config_text({"log.level": "debug"}))
        result = once.portd("-c", file, "-t", leaks=True)
        equal((result.returncode, result.stdout), (0, ""), "exit status and stdout")
        one_line(result, re.escape(file), "fine")
        both = once.portd("-c", file, "-t", "-T", leaks=True)
        equal(both.returncode, 0, "exit status of -t -T")
        check("level = debug\n" in both.stdout and "fine" in both.stderr, both.stdout, both.stderr)


if __name__ == "__main__":
    tap.main()
