/*
 * progress.h - one line on a terminal, once a second.
 */
#ifndef LOAD_PROGRESS_H
#define LOAD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "load/crew.h"

struct progress {
	const struct options *options;
	uint64_t connections;
	uint64_t start;  /* ns of clock_now */
	uint64_t before; /* attempted, a tick ago */
	bool shown;      /* the line is there */
	bool wanted;     /* stderr is a terminal */
};

void progress_begin(struct progress *progress, const struct options *options,
        uint64_t connections, uint64_t start);
/* For crew_wait: arg is the progress. */
void progress_tick(struct crew *crew, void *arg);
/* Wipes the line. */
void progress_end(struct progress *progress);

#endif
