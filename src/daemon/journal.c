/*
 * journal.c - what operators alert on, as records of the journal.
 *
 * Invariant: a record has the fields of its row in journal.def, all of them and no other.
 * (tests/system/test_journal.py looks.)
 */
#include "daemon/journal.h"

#include <stdarg.h>

static const struct {
	const char *id;
	enum log_level level;
} journal_rows[JOURNAL_COUNT] = {
#define X(name, word, id, level, fields, help) [JOURNAL_##name] = {id, LOG_LEVEL_##level},
#include "daemon/journal.def"
#undef X
};

static void journal_add(struct journal_record *r, struct log_field field)
{
	if (r->n < JOURNAL_FIELDS_MAX)
		r->field[r->n++] = field;
}

void journal_add_number(struct journal_record *r, const char *name, uint64_t value)
{
	journal_add(r, (struct log_field){.name = name, .number = value});
}

void journal_add_text(struct journal_record *r, const char *name, const char *value)
{
	journal_add(r, (struct log_field){.name = name, .text = value});
}

struct journal_record journal_record(enum journal_event event, const struct stats *s)
{
	struct journal_record r = {.event = event};

	journal_add_text(&r, "PORTD_STATE", state_name(s->state));
	journal_add_number(&r, "PORTD_CONNECTIONS", s->connections);
	journal_add_number(&r, "PORTD_CONNECTIONS_MAX", s->budget.max_connections);
	return r;
}

void journal_send(const struct journal_record *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_record(journal_rows[r->event].level, journal_rows[r->event].id, r->field,
	        r->n, format, args);
	va_end(args);
}
