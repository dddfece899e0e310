/*
 * hist.c - see hist.h.
 *
 * Invariant: buckets 0 to 63 are one ns wide; row e of the others, e from 0, has the values
 * from 64 << e to (128 << e) - 1 in 64 buckets that are 1 << e wide.
 */
#include "load/hist.h"

#define SUB (UINT64_C(1) << HIST_SUB_BITS)

static unsigned index_of(uint64_t ns)
{
	if (ns < SUB)
		return (unsigned)ns;
	if (ns >> HIST_MAX_BITS)
		return HIST_BUCKETS - 1;
	unsigned row = 63U - (unsigned)__builtin_clzll(ns) - HIST_SUB_BITS;
	return (unsigned)(((uint64_t)row << HIST_SUB_BITS) + (ns >> row));
}

static uint64_t upper_end(unsigned index)
{
	if (index < SUB)
		return index;
	unsigned row = (index >> HIST_SUB_BITS) - 1;
	return ((uint64_t)(index - (row << HIST_SUB_BITS) + 1) << row) - 1;
}

void hist_add(struct hist *hist, uint64_t ns)
{
	hist->count++;
	hist->sum += ns;
	if (ns > hist->max)
		hist->max = ns;
	hist->bucket[index_of(ns)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->max > into->max)
		into->max = from->max;
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t hist_quantile(const struct hist *hist, unsigned per_mille)
{
	/* Rounded up: the 99th percentile of ten is the tenth. */
	uint64_t rank = hist->count / 1000 * per_mille +
	                (hist->count % 1000 * per_mille + 999) / 1000;
	uint64_t seen = 0;

	if (hist->count == 0)
		return 0;
	if (rank == 0)
		rank = 1;
	for (unsigned i = 0; i < HIST_BUCKETS - 1; i++) {
		seen += hist->bucket[i];
		if (seen >= rank)
			return upper_end(i) < hist->max ? upper_end(i) : hist->max;
	}
	return hist->max;
}

uint64_t hist_mean(const struct hist *hist)
{
	return hist->count ? hist->sum / hist->count : 0;
}
