/*
 * queue_age.h - how long clients have been in the backlog queue, by what no client can renew.
 *
 * The kernel knows how long ago a client's last ACK and data came; a client that goes on sending keeps
 * both short. But the queue is first in, first out, so that whoever was counted in it at some time has
 * been there since then at least. This keeps such counts, as (number, time): the first `number` clients
 * that were ever in the queue had come by `time`.
 *
 * Clients are numbered by the calls of accept4, whatever these returned: `over` is the number of calls
 * that have returned by now, `begun` that of all that were made. A count of the queue is
 *
 *   over (read first) + depth (read then)   at a time that is read last,
 *
 * and who was just accepted has at most the number `begun`. A call that took nobody is in both, so that
 * it does no harm; calls under way, and calls that took nobody since the count, make the age shorter
 * than it is. It is never longer, as long as nobody but portd accepts; and counts that are found to be
 * too high, because somebody does, are forgotten.
 *
 * Any thread may call these. Times are ns of CLOCK_MONOTONIC.
 */
#ifndef CORE_QUEUE_AGE_H
#define CORE_QUEUE_AGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define QUEUE_AGE_COUNTS 2048U

struct queue_count {
	uint64_t number;
	uint64_t at;
};

/* 32 KiB. Both grow from each count to the next; those below `oldest` are of clients that have left the
 * queue. */
struct queue_age {
	pthread_mutex_t lock;
	uint64_t oldest, next; /* count n is at n % QUEUE_AGE_COUNTS */
	uint32_t epoch;        /* of the queue: another one after queue_age_forget */
	_Atomic bool
	        known; /* there are counts: read without the lock, to save taking it */
	struct queue_count count[QUEUE_AGE_COUNTS];
};

void queue_age_init(struct queue_age *q);
void queue_age_destroy(struct queue_age *q);

/* To be asked before a count is taken, and given with it. */
uint32_t queue_age_epoch(struct queue_age *q);

/* The queue was counted at `at`: clients up to `number` had come by then, and none above `most` (calls
 * begun, read after the depth, + depth). Of counts that are closer together than `spacing` the later
 * ones may be kept alone: so much may ages be too short. */
struct queue_look {
	uint32_t epoch;
	uint64_t number, most, at;
};
void queue_age_note(struct queue_age *q, const struct queue_look *look, uint64_t spacing);

/* Since when at least the client with this number was in the queue, CLOCK_INFINITY if that is not
 * known. For clients that have left it, about in their order: nobody is asked for who came before. */
uint64_t queue_age_since(struct queue_age *q, uint64_t number);

static inline bool queue_age_is_known(const struct queue_age *q)
{
	return atomic_load_explicit(&q->known, memory_order_relaxed);
}

/* The queue was emptied, and not by accept4: numbers begin anew. Counts that were begun before are not
 * taken any more. */
void queue_age_forget(struct queue_age *q);
/* The queue was empty at `at`: who was counted before is not in it any more. */
void queue_age_empty(struct queue_age *q, uint64_t at);

#endif
