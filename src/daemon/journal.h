/*
 * journal.h - what operators alert on, as records of the journal: journal.def has a row for
 * each, with the MESSAGE_ID that stands for it for ever. Where stderr is not the journal a
 * record is a plain line of the log. Main thread only.
 */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

#include <stdint.h>

#include "base/log.h"
#include "core/stats.h"

enum journal_event {
#define X(name, word, id, level, fields, help) JOURNAL_##name,
#include "daemon/journal.def"
#undef X
	JOURNAL_COUNT
};

#define JOURNAL_FIELDS_MAX 12

/* A record without its line. May be copied and kept. */
struct journal_record {
	enum journal_event event;
	unsigned n;
	struct log_field field[JOURNAL_FIELDS_MAX];
};

/* Empty but for what every record has: the state and the connections, as in `s`. */
struct journal_record journal_record(enum journal_event event, const struct stats *s);

/* One more field of the event's row. `name` and `value` are not copied. */
void journal_add_number(struct journal_record *r, const char *name, uint64_t value);
void journal_add_text(struct journal_record *r, const char *name, const char *value);

/* Logs it, at the level of its row, with this line as MESSAGE=. */
void journal_send(const struct journal_record *r, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

#endif
