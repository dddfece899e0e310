/*
 * pool.h - the buffers of all workers, for what clients do not take at once: as many as were asked for
 * at the start, and never more.
 *
 * They are address space until they are written to. What comes back is given back to the machine, but
 * for a few buffers that the next clients get. Any thread.
 */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include <pthread.h>
#include <stdint.h>

/* A buffer: what a service may read at once. */
#define POOL_BUFFER (64U * 1024U)
/* Of those that are free, so many keep their memory. */
#define POOL_WARM 16U

struct pool {
	pthread_mutex_t lock;
	uint8_t *base; /* NULL: there are none */
	uint32_t n;
	/* Under the lock: numbers of free ones. */
	uint32_t n_cold, n_warm;
	uint32_t *cold;
	uint32_t warm[POOL_WARM];
};

/* n buffers; none at all where the address space is refused. */
void pool_init(struct pool *pool, uint32_t n);
void pool_destroy(struct pool *pool);

/* A buffer, or NULL: all are taken. */
uint8_t *pool_take(struct pool *pool);
/* NULL is fine. */
void pool_give(struct pool *pool, uint8_t *buffer);
/* How many are taken. */
uint32_t pool_taken(struct pool *pool);

#endif
