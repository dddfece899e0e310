/*
 * bucket.h - token buckets: how many a second, and how many at once.
 *
 * Exact: of the takes that succeeded and were not given back, no more than burst + rate
 * * t have their `now` in any window of t seconds; and none is refused that this bound
 * would allow. A bucket begins full: zeroed memory is a full bucket.
 *
 * Times are ns of CLOCK_MONOTONIC. Nobody need agree on now: a thread that comes with an
 * older one is treated the stricter for it, and the bound holds all the same.
 */
#ifndef CORE_BUCKET_H
#define CORE_BUCKET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The greatest rate and the greatest burst: one a nanosecond. */
#define BUCKET_RATE_MAX UINT32_C(1000000000)

/* What a bucket is filled by, worked out once. */
struct bucket_rate {
	uint32_t rate;        /* tokens a second; 0: no limit, every take succeeds */
	uint32_t burst;       /* tokens of a full bucket */
	uint32_t whole, rest; /* a token's time: whole ns and rest/rate ns */
	uint64_t slack; /* what all tokens of a full bucket but one take, 1/rate ns */
	uint32_t generation;  /* which of the rates that a bucket has had … */
	uint64_t since;       /* … and from when on, ns */
	uint32_t rate_before; /* those of the generation before */
	uint32_t burst_before;
};

/* Plain data: the caller keeps threads apart. */
struct bucket {
	uint64_t full_at;    /* when all tokens will be back, ns … */
	uint64_t full_seen;  /* when it last had all tokens, or all but part of one, ns */
	uint32_t part;       /* … and 1/rate ns more */
	uint32_t generation; /* of the rate that this was written under */
};

/* Outcome of a take beside 0. */
enum bucket_refusal {
	BUCKET_EMPTY = 1
};

/* rate 0 to BUCKET_RATE_MAX (0: no limit); burst 0 to BUCKET_RATE_MAX, 0: one second's
 * worth, that is rate. The same values again change nothing, others begin a new
 * generation. Zeroed memory is a rate without limit. */
void bucket_rate_change(
        struct bucket_rate *rate, uint32_t per_second, uint32_t burst, uint64_t now);

/* Makes b a bucket of the present generation. Those that call bucket_take and the others below
 * need not, if they did so between every two changes of the rate. A bucket that is not full keeps
 * its tokens, at most the new burst; a greater burst adds its difference. Out of no limit it comes
 * full. */
void bucket_adapt(struct bucket *b, const struct bucket_rate *rate);

/* Takes a token: 0 or BUCKET_EMPTY. */
int bucket_take(struct bucket *b, const struct bucket_rate *rate, uint64_t now);
/* Gives back the token that a take at `taken` got, for a connection that in the end was
 * not admitted; less what would have been spilt meanwhile, had it not been taken. Nothing is
 * given back of one from before a change of the rate or the first second after it. */
void bucket_return(
        struct bucket *b, const struct bucket_rate *rate, uint64_t taken, uint64_t now);

/* How many takes would succeed now. UINT32_MAX without limit. */
uint32_t bucket_tokens(
        const struct bucket *b, const struct bucket_rate *rate, uint64_t now);
/* In how many ns a take would succeed; 0: now. */
uint64_t bucket_wait(
        const struct bucket *b, const struct bucket_rate *rate, uint64_t now);
/* Forgetting a full bucket and beginning a new one is the same. */
bool bucket_is_full(const struct bucket *b, const struct bucket_rate *rate, uint64_t now);

/* One that all workers share; any thread may call all but init, destroy. */
struct bucket_shared {
	_Alignas(64) _Atomic uint32_t is_on; /* rate is not 0 */
	pthread_mutex_t lock;                /* over the rest */
	struct bucket_rate rate;
	struct bucket bucket;
};

/* A full one, without limit. */
void bucket_shared_init(struct bucket_shared *s);
void bucket_shared_destroy(struct bucket_shared *s);
/* As bucket_rate_change and bucket_adapt: across a reload with the same values the bound holds. */
void bucket_shared_set(
        struct bucket_shared *s, uint32_t rate, uint32_t burst, uint64_t now);
int bucket_shared_take(struct bucket_shared *s, uint64_t now);
void bucket_shared_return(struct bucket_shared *s, uint64_t taken, uint64_t now);
uint32_t bucket_shared_tokens(struct bucket_shared *s, uint64_t now);
uint64_t bucket_shared_wait(struct bucket_shared *s, uint64_t now);

#endif
