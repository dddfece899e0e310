/*
 * tell.c - log lines about load, at a rate that load cannot raise.
 *
 * Invariant: the last line told of a pair (full and no longer full, stalled and turns
 * again) is the newer of the two. A text that its counterpart has overtaken is not told
 * any more, only counted.
 *
 * Reads next: status.c.
 */
#include "daemon/tell.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
	enum log_level level;
	bool urgent;
	const char *what;    /* what "more" counts; NULL: the text itself says how many */
	enum tell_kind pair; /* its counterpart; itself: none */
} tell_kinds[TELL_KIND_COUNT] = {
        [TELL_FULL] = {LOG_LEVEL_WARNING, false, "spells", TELL_NOT_FULL},
        [TELL_NOT_FULL] = {LOG_LEVEL_INFO, false, NULL, TELL_FULL},
        [TELL_ACCEPT_ERROR] = {LOG_LEVEL_ERROR, false, "errors", TELL_ACCEPT_ERROR},
        [TELL_LOST] = {LOG_LEVEL_WARNING, false, "such losses", TELL_LOST},
        [TELL_STALLED] = {LOG_LEVEL_ERROR, true, "stalls", TELL_TURNS_AGAIN},
        [TELL_TURNS_AGAIN] = {LOG_LEVEL_INFO, true, "recoveries", TELL_STALLED},
};

static bool tell_is_due(uint64_t told, uint64_t pause, uint64_t now)
{
	return told == 0 || now - told >= pause;
}

static void tell_line(enum log_level level, const char *text, const char *suffix)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		log_error("%s%s", text, suffix);
		break;
	case LOG_LEVEL_WARNING:
		log_warning("%s%s", text, suffix);
		break;
	case LOG_LEVEL_INFO:
		log_info("%s%s", text, suffix);
		break;
	case LOG_LEVEL_DEBUG:
		log_debug("%s%s", text, suffix);
		break;
	}
}

static void tell_row_out(struct tell *t, enum tell_kind kind, uint64_t now)
{
	struct tell_row *row = &t->row[kind];
	char suffix[64] = "";

	if (row->more && tell_kinds[kind].what)
		(void)snprintf(suffix, sizeof(suffix), " (and %" PRIu64 " more %s since)",
		        row->more, tell_kinds[kind].what);
	tell_line(tell_kinds[kind].level, row->text, suffix);

	struct tell_row *pair = &t->row[tell_kinds[kind].pair];
	if (pair->kept && pair->order < row->order) {
		pair->kept = false;
		pair->more++;
	}
	row->kept = false;
	row->more = 0;
	row->told = now;
	t->told = now;
}

/* The oldest text that may go out now, or TELL_KIND_COUNT. */
static enum tell_kind tell_next(const struct tell *t, uint64_t now, bool all)
{
	enum tell_kind best = TELL_KIND_COUNT;

	for (enum tell_kind k = 0; k < TELL_KIND_COUNT; k++) {
		const struct tell_row *row = &t->row[k];
		bool due =
		        tell_is_due(row->told, TELL_KIND_NS, now) &&
		        (tell_kinds[k].urgent || tell_is_due(t->told, TELL_ALL_NS, now));
		if (!row->kept || (!due && !all))
			continue;
		if (best == TELL_KIND_COUNT || row->order < t->row[best].order)
			best = k;
	}
	return best;
}

void tell_flush(struct tell *t, uint64_t now)
{
	enum tell_kind k;

	while ((k = tell_next(t, now, false)) != TELL_KIND_COUNT)
		tell_row_out(t, k, now);
}

void tell_finish(struct tell *t)
{
	enum tell_kind k;

	/* Of a pair only the newer one is still true. */
	for (k = 0; k < TELL_KIND_COUNT; k++) {
		const struct tell_row *row = &t->row[k];
		struct tell_row *pair = &t->row[tell_kinds[k].pair];
		if (row->kept && pair->kept && pair->order < row->order)
			pair->kept = false;
	}
	while ((k = tell_next(t, 0, true)) != TELL_KIND_COUNT)
		tell_row_out(t, k, 0);
}

void tell(struct tell *t, enum tell_kind kind, uint64_t now, const char *format, ...)
{
	struct tell_row *row = &t->row[kind];
	va_list args;

	row->more += row->kept;
	row->kept = true;
	row->order = ++t->order;
	va_start(args, format);
	(void)vsnprintf(row->text, sizeof(row->text), format, args);
	va_end(args);
	tell_flush(t, now);
}
