/*
 * pool.c - see pool.h. One mapping, cut into buffers.
 *
 * Invariant: a number is in `cold`, in `warm`, or with whoever has taken it; the memory of those in
 * `cold` has been given back.
 */
#include "core/pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

void pool_init(struct pool *pool, uint32_t n)
{
	*pool = (struct pool){0};
	(void)pthread_mutex_init(&pool->lock, NULL);
	if (n == 0)
		return;
	size_t size = (size_t)n * POOL_BUFFER;
	void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
	        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint32_t *cold = malloc(n * sizeof(*cold));
	if (base == MAP_FAILED || !cold) {
		free(cold);
		if (base != MAP_FAILED)
			(void)munmap(base, size);
		return;
	}
	/* A huge page would take the memory of 32 buffers for the first byte of one. */
	(void)madvise(base, size, MADV_NOHUGEPAGE);
	pool->base = base;
	pool->cold = cold;
	pool->n = pool->n_cold = n;
	for (uint32_t i = 0; i < n; i++)
		cold[i] = n - 1 - i;
}

void pool_destroy(struct pool *pool)
{
	if (pool->base)
		(void)munmap(pool->base, (size_t)pool->n * POOL_BUFFER);
	free(pool->cold);
	pool->base = NULL;
	pool->cold = NULL;
	(void)pthread_mutex_destroy(&pool->lock);
}

uint8_t *pool_take(struct pool *pool)
{
	uint8_t *buffer = NULL;
	(void)pthread_mutex_lock(&pool->lock);
	if (pool->n_warm > 0)
		buffer = pool->base + (size_t)pool->warm[--pool->n_warm] * POOL_BUFFER;
	else if (pool->n_cold > 0)
		buffer = pool->base + (size_t)pool->cold[--pool->n_cold] * POOL_BUFFER;
	(void)pthread_mutex_unlock(&pool->lock);
	return buffer;
}

/* Returns false if there are enough of these. */
static bool keep_warm(struct pool *pool, uint32_t number)
{
	(void)pthread_mutex_lock(&pool->lock);
	bool keeps = pool->n_warm < POOL_WARM;
	if (keeps)
		pool->warm[pool->n_warm++] = number;
	(void)pthread_mutex_unlock(&pool->lock);
	return keeps;
}

void pool_give(struct pool *pool, uint8_t *buffer)
{
	if (!buffer)
		return;
	uint32_t number = (uint32_t)((size_t)(buffer - pool->base) / POOL_BUFFER);
	if (keep_warm(pool, number))
		return;
	(void)madvise(buffer, POOL_BUFFER, MADV_DONTNEED);
	(void)pthread_mutex_lock(&pool->lock);
	pool->cold[pool->n_cold++] = number;
	(void)pthread_mutex_unlock(&pool->lock);
}

uint32_t pool_taken(struct pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	uint32_t n = pool->n - pool->n_cold - pool->n_warm;
	(void)pthread_mutex_unlock(&pool->lock);
	return n;
}
