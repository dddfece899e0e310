/*
 * hist.h - a histogram of times in fixed memory: 64 buckets of equal width for each power of
 * two, so that what it says is at most 1/64 (1.6 %) above what was measured, and never
 * below. One writer; merged only once the writer rests.
 */
#ifndef LOAD_HIST_H
#define LOAD_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6
/* Times of 2^42 ns (73 min) and more are counted as that; their max and sum stay exact. */
#define HIST_MAX_BITS 42
#define HIST_BUCKETS  ((HIST_MAX_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

/* All zero is empty. */
struct hist {
	uint64_t count;
	uint64_t sum; /* ns; wraps after 584 years of waiting */
	uint64_t max; /* ns, exact */
	uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);

/* The time in ns that at least per_mille of 1000 of them did not exceed (0 to 1000): the
 * upper end of its bucket, but never more than max. 0 if empty. */
uint64_t hist_quantile(const struct hist *hist, unsigned per_mille);
/* In ns; 0 if empty. */
uint64_t hist_mean(const struct hist *hist);

#endif
