/*
 * record.c - whom a worker has shed lately.
 */
#include "core/record.h"

#include <errno.h>
#include <stdlib.h>

int record_init(struct record *r)
{
	*r = (struct record){.rows = calloc(RECORD_SIZE, sizeof(*r->rows))};
	if (!r->rows)
		return -ENOMEM;
	(void)pthread_mutex_init(&r->lock, NULL);
	return 0;
}

void record_destroy(struct record *r)
{
	if (!r->rows)
		return;
	free(r->rows);
	r->rows = NULL;
	(void)pthread_mutex_destroy(&r->lock);
}

void record_add(
        struct record *r, const struct addr *peer, enum shed_reason reason, uint64_t now)
{
	if (peer->family == AF_UNSPEC)
		return;
	if (pthread_mutex_trylock(&r->lock) != 0) {
		atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
		return;
	}
	r->rows[r->n++ % RECORD_SIZE] =
	        (struct record_row){.peer = *peer, .at = now, .reason = reason};
	(void)pthread_mutex_unlock(&r->lock);
}

unsigned record_read(struct record *r, struct record_row *ret, unsigned max)
{
	(void)pthread_mutex_lock(&r->lock);
	uint64_t n = r->n < RECORD_SIZE ? r->n : RECORD_SIZE;
	if (n > max)
		n = max;
	for (uint64_t i = 0; i < n; i++)
		ret[i] = r->rows[(r->n - 1 - i) % RECORD_SIZE];
	(void)pthread_mutex_unlock(&r->lock);
	return (unsigned)n;
}
