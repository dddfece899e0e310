/*
 * history_text.h - entries of the history in words, and as JSON; the answer to `portctl events`.
 */
#ifndef DAEMON_HISTORY_TEXT_H
#define DAEMON_HISTORY_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/history.h"
#include "daemon/wall.h"

struct history_render {
	FILE *out;
	struct wall wall;
	bool json;
};

/* One line: «TIME KIND words», or an object with number, time, event and the figures of its kind, as
 * portctl(1) has them. An entry with the number 0 is one that is kept back still. */
void history_render(const struct history_render *r, const struct history_entry *entry);

/* A line in the place of `lost` entries, the last of which has the number `number`. */
void history_render_lost(const struct history_render *r, uint64_t lost, uint64_t number);

#endif
