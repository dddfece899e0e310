/*
 * record.h - whom a worker has shed lately: address, time and reason of the last RECORD_SIZE, so
 * that «why was 203.0.113.7 shed at 14:02?» has an answer. Bounded; the oldest are overwritten.
 *
 * One writer (the worker), one reader (main), who hold a lock for as long as it takes to copy; the
 * worker never waits for it: what it cannot write at that moment it drops, and counts.
 */
#ifndef CORE_RECORD_H
#define CORE_RECORD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core/counters.h"
#include "net/addr.h"

#define RECORD_SIZE 1024U

struct record_row {
	struct addr peer;
	uint64_t at; /* ns, monotonic */
	enum shed_reason reason;
};

struct record {
	pthread_mutex_t lock;
	uint64_t n; /* ever written; the newest is at (n - 1) % RECORD_SIZE */
	_Atomic uint64_t dropped;
	struct record_row *rows;
};

/* Returns 0 or -ENOMEM. */
int record_init(struct record *record);
/* An empty one is fine. */
void record_destroy(struct record *record);

/* Writer only. A peer that is not known is not recorded. */
void record_add(struct record *record, const struct addr *peer, enum shed_reason reason,
        uint64_t now);

/* Reader only: copies up to max rows, the newest first, to ret. Returns their number. */
unsigned record_read(struct record *record, struct record_row *ret, unsigned max);

#endif
