/*
 * tell.c - log lines at a bounded rate.
 *
 * Invariant: the last line told of what begins and of what ends it (full or out of
 * descriptors, and no longer full; stalled, and turns again; down, and up) is the newer one. A text that
 * its opposite has overtaken is not told any more, only counted.
 */
#include "daemon/tell.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define BIT(kind) (1U << (kind))

static const struct {
	bool urgent; /* nobody else's line delays it */
	bool asked;  /* an operator's doing */
	/* What "more" counts: one, and several; NULL: the text itself says how many. */
	const char *one, *what;
	unsigned opposites; /* those that it overtakes, a bit each */
} tell_kinds[TELL_KIND_COUNT] = {
        [TELL_FULL] = {false, false, "spell", "spells", BIT(TELL_NOT_FULL)},
        [TELL_NO_FDS] = {false, false, "spell", "spells", BIT(TELL_NOT_FULL)},
        [TELL_NOT_FULL] = {false, false, NULL, NULL, BIT(TELL_FULL) | BIT(TELL_NO_FDS)},
        [TELL_ACCEPT_ERROR] = {false, false, "error", "errors", 0},
        [TELL_LOST] = {false, false, "such loss", "such losses", 0},
        [TELL_GATE] = {false, false, "change of it", "changes of it", 0},
        [TELL_STALLED] = {true, false, "stall", "stalls", BIT(TELL_TURNS_AGAIN)},
        [TELL_TURNS_AGAIN] = {true, false, "recovery", "recoveries", BIT(TELL_STALLED)},
        [TELL_REJECTED] = {true, true, "rejection", "rejections", BIT(TELL_RELOADED)},
        [TELL_RELOADED] = {true, true, "reload", "reloads", BIT(TELL_REJECTED)},
        [TELL_DRAIN] = {true, true, "change of it", "changes of it", 0},
        [TELL_DOWN] = {true, false, "such failure", "such failures", BIT(TELL_UP)},
        [TELL_UP] = {true, false, "recovery", "recoveries", BIT(TELL_DOWN)},
};

static bool tell_is_due(uint64_t told, uint64_t pause, uint64_t now)
{
	return told == 0 || now - told >= pause;
}

bool tell_is_free(const struct tell *t, enum tell_kind kind, uint64_t now)
{
	const struct tell_row *row = &t->row[kind];

	if (tell_kinds[kind].asked)
		return row->debt <= now + (TELL_ASKED_BURST - 1) * TELL_KIND_NS;
	return tell_is_due(row->told, TELL_KIND_NS, now) &&
	       (tell_kinds[kind].urgent || tell_is_due(t->told, TELL_ALL_NS, now));
}

/* Drops the kept texts that `kind` has overtaken. */
static void tell_overtake(struct tell *t, enum tell_kind kind, bool count)
{
	for (enum tell_kind k = 0; k < TELL_KIND_COUNT; k++) {
		struct tell_row *row = &t->row[k];
		if (!(tell_kinds[kind].opposites & BIT(k)) || !row->kept ||
		        row->order > t->row[kind].order)
			continue;
		row->kept = false;
		row->more += count;
	}
}

static void tell_row_out(struct tell *t, enum tell_kind kind, uint64_t now)
{
	struct tell_row *row = &t->row[kind];
	char suffix[64] = "";

	if (row->more && tell_kinds[kind].what)
		(void)snprintf(suffix, sizeof(suffix), " (and %" PRIu64 " more %s since)",
		        row->more,
		        row->more == 1 ? tell_kinds[kind].one : tell_kinds[kind].what);
	if (row->recorded && tell_kinds[kind].what)
		journal_add_number(&row->record, "PORTD_MORE", row->more);
	if (row->recorded)
		journal_send(&row->record, "%s%s", row->text, suffix);
	else if (tell_kinds[kind].asked)
		log_info("%s%s", row->text, suffix);
	else
		log_warning("%s%s", row->text, suffix);
	tell_overtake(t, kind, true);
	row->kept = false;
	row->more = 0;
	row->told = now;
	row->debt = (row->debt > now ? row->debt : now) + TELL_KIND_NS;
	if (!tell_kinds[kind].asked)
		t->told = now;
}

/* The oldest text that may go out now, or TELL_KIND_COUNT. */
static enum tell_kind tell_next(const struct tell *t, uint64_t now, bool all)
{
	enum tell_kind best = TELL_KIND_COUNT;

	for (enum tell_kind k = 0; k < TELL_KIND_COUNT; k++) {
		const struct tell_row *row = &t->row[k];
		if (!row->kept || (!all && !tell_is_free(t, k, now)))
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
	log_flush();
}

bool tell_is_newer(const struct tell *t, enum tell_kind a, enum tell_kind b)
{
	return t->row[a].order > t->row[b].order;
}

void tell_finish(struct tell *t)
{
	enum tell_kind k;

	/* Only the newest is still true. */
	for (k = 0; k < TELL_KIND_COUNT; k++)
		if (t->row[k].kept)
			tell_overtake(t, k, false);
	while ((k = tell_next(t, 0, true)) != TELL_KIND_COUNT)
		tell_row_out(t, k, 0);
}

void tell(struct tell *t, enum tell_kind kind, uint64_t now,
        const struct journal_record *record, const char *format, ...)
{
	struct tell_row *row = &t->row[kind];
	va_list args;

	row->more += row->kept;
	row->kept = true;
	row->order = ++t->order;
	row->recorded = record != NULL;
	if (record)
		row->record = *record;
	va_start(args, format);
	(void)vsnprintf(row->text, sizeof(row->text), format, args);
	va_end(args);
	tell_flush(t, now);
}
