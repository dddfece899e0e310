/*
 * explain_words.h - what `portctl explain` says of each rule and of the outcome: the same words as text
 * and in JSON.
 */
#ifndef DAEMON_EXPLAIN_WORDS_H
#define DAEMON_EXPLAIN_WORDS_H

#include <stdio.h>

#include "core/port_explain.h"
#include "daemon/daemon.h"
#include "daemon/wall.h"

#define EXPLAIN_WORDS_MAX 256

struct explain {
	struct daemon *d;
	struct addr_named peer;
	struct port_verdict verdict;
	struct wall wall;
	FILE *out;
};

/* What the rule `reason` rests on, with its figures. Returns buf, or a static text; as the others. */
const char *explain_rule(const struct explain *x, enum shed_reason reason,
        char buf[static EXPLAIN_WORDS_MAX]);
/* The priority slots. */
const char *explain_priority(const struct explain *x, char buf[static EXPLAIN_WORDS_MAX]);
/* «would be served», without the one who would. */
const char *explain_outcome(const struct explain *x, char buf[static EXPLAIN_WORDS_MAX]);

#endif
