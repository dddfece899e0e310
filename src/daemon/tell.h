/*
 * tell.h - log lines about load and of what an operator's tools do, at a rate that neither can raise.
 *
 * Each kind gets at most one line in TELL_KIND_NS, and all kinds together at most one in
 * TELL_ALL_NS (a stalled worker and a port that is down are told at once all the same: they are rare and urgent).
 * What comes in between is counted; its last text is kept and told when its time has
 * come, with the count. So the last thing that happened is always told, however short a
 * spell is.
 *
 * What an operator has done is told at once, and delays no other line: TELL_ASKED_BURST times, each
 * of which comes back after TELL_KIND_NS. Main thread only. Time is an argument (ns).
 */
#ifndef DAEMON_TELL_H
#define DAEMON_TELL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/journal.h"

#define TELL_KIND_NS  (UINT64_C(5) * 1000000000)
#define TELL_ALL_NS   (UINT64_C(1) * 1000000000)
#define TELL_TEXT_MAX 400
/* A tool in a loop goes beyond it, a person does not. */
#define TELL_ASKED_BURST 10U

enum tell_kind {
	TELL_FULL,
	TELL_NO_FDS,
	TELL_NOT_FULL,
	TELL_ACCEPT_ERROR,
	TELL_LOST,
	TELL_GATE,
	TELL_MEMORY,
	TELL_STALLED,
	TELL_TURNS_AGAIN,
	TELL_DOWN,
	TELL_UP,
	TELL_REJECTED,
	TELL_RELOADED,
	TELL_DRAIN,
	TELL_KIND_COUNT
};

struct tell_row {
	uint64_t told;  /* when the last line went out; 0: never */
	uint64_t order; /* of the text kept, among all */
	uint64_t more;  /* told of nowhere yet, beside the text kept */
	uint64_t debt;  /* when all of TELL_ASKED_BURST will be back */
	bool kept;
	bool recorded; /* the text is the line of the record, else of the log */
	struct journal_record record;
	char text[TELL_TEXT_MAX];
};

struct tell {
	uint64_t told; /* when the last line of any kind went out; 0: never */
	uint64_t order;
	struct tell_row row[TELL_KIND_COUNT];
};

/* Something happened: told now, or kept for tell_flush. The record is copied, the
 * texts of its fields are not; it gets one more field, PORTD_MORE, where the text does not say
 * how many it speaks of. NULL: the text is a plain line: a warning, or for TELL_DRAIN info. */
void tell(struct tell *t, enum tell_kind kind, uint64_t now,
        const struct journal_record *record, const char *format, ...)
        __attribute__((format(printf, 5, 6)));

/* Whether a text of this kind would be told now. */
bool tell_is_free(const struct tell *t, enum tell_kind kind, uint64_t now);

/* Whether what happened last of `a` is newer than what happened last of `b`. */
bool tell_is_newer(const struct tell *t, enum tell_kind a, enum tell_kind b);

/* Tells what is kept and due, oldest first, and of lost lines. Call it with every tick. */
void tell_flush(struct tell *t, uint64_t now);

/* Tells everything that is kept, due or not: portd is about to end. */
void tell_finish(struct tell *t);

#endif
