"""portd's records in the journal of a container, held against src/daemon/journal.def."""

import os
import re

import root
from tap import check, equal

COMMON = {"PORTD_STATE", "PORTD_CONNECTIONS", "PORTD_CONNECTIONS_MAX"}
LEVELS = {"ERROR": "3", "WARNING": "4", "INFO": "6"}
WORDS = {"PORTD_STATE", "PORTD_REASON", "PORTD_BOUND_BY", "PORTD_ADDRESS", "PORTD_FILE"}


def read_table():
    """journal.def: {MESSAGE_ID: (word, priority, the fields of its records)}."""
    with open(os.path.join(root.SOURCE, "src", "daemon", "journal.def")) as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    row = r'X\((\w+), ([\w-]+), "(\w{32})", (\w+),\s*((?:"[A-Z_ ]*"\s*)+),\s*"[^"]*"\)'
    return {id: (word, LEVELS[level], COMMON | set(re.findall(r"\w+", fields)))
            for _, word, id, level, fields in re.findall(row, text)}


TABLE = read_table()
IDS = {word: id for id, (word, *_) in TABLE.items()}


def judge(record):
    """A record has what journal.def says; returns its word."""
    word, priority, fields = TABLE[record["MESSAGE_ID"]]
    seen = {name for name in record if name.startswith("PORTD_") or name == "ERRNO"}
    equal(seen, fields, f"the fields of {word}")
    equal((record["PRIORITY"], record["SYSLOG_IDENTIFIER"], record.get("_SYSTEMD_UNIT"),
           record["_TRANSPORT"]), (priority, "portd", "portd.service", "journal"),
          f"priority, identifier, unit and transport of {word}")
    for name in fields - WORDS:
        check(record[name].isdigit(), f"{word}: {name} is {record[name]!r}")
    return word


def records(box, since):
    """portd's records since then, judged: [(word, record)]."""
    return [(judge(record), record) for record in box.journal(since)
            if record.get("MESSAGE_ID") in TABLE]


def wait_record(box, since, word, seconds=5):
    record = box.wait_journal(since, lambda r: r.get("MESSAGE_ID") == IDS[word], seconds)
    judge(record)
    return record
