/*
 * conn_pool.c - see conn_pool.h.
 *
 * Invariant: a connection is on exactly one of its set's lists through its timer, and which one follows from
 * its state.
 */
#include "core/conn_pool.h"

#include <assert.h>
#include <stdlib.h>

#include "base/own.h"
#include "core/worker.h"

static const bool allowed[CONN_STATE_COUNT][CONN_STATE_COUNT] = {
        [CONN_FREE] = {[CONN_OPEN] = true, [CONN_LINGER] = true},
        [CONN_OPEN] = {[CONN_LINGER] = true, [CONN_CLOSED] = true},
        [CONN_LINGER] = {[CONN_CLOSED] = true},
        [CONN_CLOSED] = {[CONN_FREE] = true},
};

void conn_set_state(struct conn *conn, enum conn_state next)
{
	assert(allowed[conn->state][next]);
	conn->state = (uint8_t)next;
}

void conn_count_gauge(_Atomic uint32_t *gauge, int by)
{
	uint32_t n = atomic_load_explicit(gauge, memory_order_relaxed);
	atomic_store_explicit(gauge, n + (uint32_t)by, memory_order_relaxed);
}

void conn_set_init(struct conn_set *set)
{
	for (size_t i = 0; i < 2; i++) {
		list_init(&set->silent[i]);
		list_init(&set->talking[i]);
	}
	list_init(&set->linger);
	list_init(&set->living);
	list_init(&set->closed);
	list_init(&set->spare);
	list_init(&set->chunks);
	atomic_init(&set->open, 0);
	atomic_init(&set->lingering, 0);
	atomic_init(&set->would_shed, 0);
}

void conn_set_destroy(struct conn_set *set)
{
	struct list *link;
	while ((link = list_first(&set->chunks))) {
		list_remove(link);
		free(container_of(link, struct conn_chunk, link));
	}
	list_init(&set->spare);
}

static int add_chunk(struct conn_set *set)
{
	struct conn_chunk *chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	list_append(&set->chunks, &chunk->link);
	for (size_t i = 0; i < CONN_CHUNK; i++) {
		chunk->conns[i].watch.fd = -1;
		list_append(&set->spare, &chunk->conns[i].timer);
	}
	return 0;
}

struct conn *conn_alloc(struct worker *w, int fd, void (*ready)(struct watch *, uint32_t))
{
	struct conn_set *set = &w->conns;
	struct list *free_one = list_first(&set->spare);
	if (!free_one && add_chunk(set) == 0)
		free_one = list_first(&set->spare);
	if (!free_one)
		return NULL;
	struct conn *conn = container_of(free_one, struct conn, timer);
	list_remove(&conn->timer);
	*conn = (struct conn){
	        .watch = {.fd = fd, .ready = ready}, .worker = w, .active = w->now};
	list_init(&conn->timer);
	list_init(&conn->life);
	return conn;
}

void conn_retire(struct conn *conn, bool keep_fd)
{
	if (!keep_fd) {
		(void)own_close(conn->watch.fd);
		conn->worker->gave = true;
	}
	conn->watch.fd = -1;
	conn_set_state(conn, CONN_CLOSED);
	list_move_to_end(&conn->worker->conns.closed, &conn->timer);
}

void conn_free_closed(struct worker *w)
{
	struct list *link;
	while ((link = list_first(&w->conns.closed))) {
		conn_set_state(container_of(link, struct conn, timer), CONN_FREE);
		/* The next one gets what is still in the caches. */
		list_remove(link);
		list_prepend(&w->conns.spare, link);
	}
}
