/*
 * engine_list.c - what a client asks of its engine: a place in the order of ends, an address to come from, and a
 * count of its errors.
 *
 * Invariant: a client is on the list once, or not at all.
 */
#include "load/engine.h"

void engine_list_append(struct engine *e, int fd)
{
	struct client *c = &e->clients[fd];

	c->prev = e->last;
	c->next = -1;
	if (e->last >= 0)
		e->clients[e->last].next = fd;
	else
		e->first = fd;
	e->last = fd;
}

void engine_list_remove(struct engine *e, int fd)
{
	struct client *c = &e->clients[fd];

	if (e->first != fd && c->prev < 0)
		return;
	if (c->prev >= 0)
		e->clients[c->prev].next = c->next;
	else
		e->first = c->next;
	if (c->next >= 0)
		e->clients[c->next].prev = c->prev;
	else
		e->last = c->prev;
	c->prev = c->next = -1;
}

int64_t engine_take_source(struct engine *e)
{
	for (uint64_t tries = 0; tries < e->share.sources; tries++) {
		uint32_t source = e->source_next;

		e->source_next = source + 1 < e->share.sources ? source + 1 : 0;
		if (e->source_used[source] < e->share.ports)
			return source;
	}
	return -1;
}

void engine_count_error(struct engine *e, int error)
{
	struct error_count *rows = e->shared->figures.errors;

	for (int i = 0; i < SHARED_ERRORS; i++) {
		if (rows[i].error != 0 && rows[i].error != error)
			continue;
		rows[i].error = error;
		rows[i].count++;
		return;
	}
}
