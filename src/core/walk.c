/*
 * walk.c - all open connections, one after the other, while portd goes on serving them.
 *
 * Invariants: a walk is in one place at one worker at a time, and whoever takes it out of there by
 * exchange has it; only who has it touches anything of it but its state; chunks stay where they are
 * as long as the worker runs, so a walk may keep a pointer to one between turns.
 */
#include "core/walk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/own.h"
#include "core/wakeup.h"
#include "core/worker.h"

int walk_create(
        struct port *port, struct prefix_set *only, uint64_t now, struct walk **ret)
{
	unsigned place = 0;
	while (place < WALK_PLACES && (port->walks & (1U << place)))
		place++;
	if (place == WALK_PLACES)
		return -EBUSY;
	struct walk *walk = calloc(1, sizeof(*walk));
	if (!walk)
		return -ENOMEM;
	walk->place = place;
	walk->began = now;
	walk->only = prefix_set_share(only);
	port->walks |= 1U << place;
	*ret = walk;
	return 0;
}

static void free_walk(struct walk *walk)
{
	walk->only = prefix_set_free(walk->only);
	free(walk);
}

struct walk *walk_destroy(struct port *port, struct walk *walk)
{
	if (!walk)
		return NULL;
	/* The place is free at once: a worker that still writes has taken the walk out of it. */
	port->walks &= ~(1U << walk->place);
	for (unsigned i = 0; i < port->n_workers; i++) {
		struct walk *mine = walk;
		if (atomic_compare_exchange_strong(
		            &port->workers[i].walks[walk->place], &mine, NULL))
			atomic_store(&walk->state, WALK_MAIN);
	}
	if (atomic_exchange(&walk->state, WALK_LEFT) == WALK_MAIN)
		free_walk(walk);
	return NULL;
}

void walk_begin_worker(struct walk *walk)
{
	walk->chunk = NULL;
	walk->next = 0;
	walk->over = false;
	walk->n_rows = 0;
}

void walk_ask(struct port *port, struct walk *walk, unsigned id)
{
	struct worker *w = &port->workers[id];
	walk->n_rows = 0;
	atomic_store(&walk->state, WALK_ASKED);
	atomic_store(&w->walks[walk->place], walk);
	worker_kick(w);
}

bool walk_poll(const struct walk *walk)
{
	return atomic_load(&walk->state) == WALK_MAIN;
}

int walk_retract(struct port *port, struct walk *walk, unsigned id)
{
	struct walk *mine = walk;
	if (atomic_compare_exchange_strong(
	            &port->workers[id].walks[walk->place], &mine, NULL)) {
		atomic_store(&walk->state, WALK_MAIN);
		return 0;
	}
	return walk_poll(walk) ? 1 : -EBUSY;
}

bool walk_worker_turns(const struct port *port, unsigned id)
{
	const struct worker *w = &port->workers[id];
	return !atomic_load(&w->stalled) && !atomic_load(&w->ended);
}

unsigned walk_workers(const struct port *port)
{
	return port->n_workers;
}

static uint64_t until(const struct walk *walk, uint64_t then)
{
	return walk->began > then ? walk->began - then : 0;
}

/* Tells of one connection, if it is of those asked for. One that is dead at this moment, and has not
 * been closed yet, has no tuple any more. */
static void tell_of(struct walk *walk, const struct conn *conn)
{
	struct walk_row *row = &walk->row[walk->n_rows];
	if (tuple_from_socket(conn->watch.fd, &row->tuple) < 0)
		return;
	if (walk->only && !prefix_set_match(walk->only, &row->tuple.src))
		return;
	row->age = until(walk, conn->opened);
	row->idle = until(walk, conn->active);
	row->bytes_in = conn->bytes_in;
	row->bytes_out = conn->bytes_out;
	walk->n_rows++;
}

static void write_piece(struct worker *w, struct walk *walk)
{
	struct list *chunks = &w->conns.chunks;
	if (!walk->chunk) {
		struct list *first = list_first(chunks);
		walk->over = !first;
		walk->chunk = first ? container_of(first, struct conn_chunk, link) : NULL;
	}
	for (unsigned passed = 0;
	        !walk->over && passed < WALK_PASS && walk->n_rows < WALK_ROWS; passed++) {
		const struct conn *conn = &walk->chunk->conns[walk->next++];
		if (conn->state == CONN_OPEN)
			tell_of(walk, conn);
		if (walk->next < CONN_CHUNK)
			continue;
		walk->over = walk->chunk->link.next == chunks;
		walk->chunk =
		        container_of(walk->chunk->link.next, struct conn_chunk, link);
		walk->next = 0;
	}
}

void walk_serve(struct worker *w)
{
	struct walk *walk = NULL;
	for (unsigned i = 0; i < WALK_PLACES; i++) {
		_Atomic(struct walk *) *at = &w->walks[w->next_walk++ % WALK_PLACES];
		if (!atomic_load_explicit(at, memory_order_relaxed))
			continue;
		if (walk) {
			/* Its turn comes with the next one, and that at once. */
			w->next_walk--;
			worker_kick(w);
			return;
		}
		walk = atomic_exchange(at, NULL);
		if (!walk)
			continue;
		write_piece(w, walk);
		int asked = WALK_ASKED;
		if (atomic_compare_exchange_strong(&walk->state, &asked, WALK_MAIN))
			worker_tell_main(w);
		else
			free_walk(walk);
	}
}
