/*
 * walk.h - all open connections, one after the other, while portd goes on serving them.
 *
 * The main thread asks a worker for a piece; the worker writes it at its next turn and says so. A
 * worker looks at no more than WALK_PASS places and tells of no more than WALK_ROWS connections in a
 * turn, so a walk of a million connections holds nobody up; and it goes on only when it is asked again,
 * so a walk takes the memory of one piece however slowly it is read.
 *
 * A connection that was open from the beginning of the walk to its end is told of once; one that is
 * opened or closed meanwhile once or not at all. For a connection never moves: it belongs to one worker
 * for life, and keeps its place in the worker's memory (conn.h); and the walk looks at each place of
 * each worker once.
 *
 * Life of a piece: walk_ask → (the worker) → walk_poll says that it is there → its rows → walk_ask …
 * → walk_destroy. All of these by the main thread; only walk_serve is the worker's.
 */
#ifndef CORE_WALK_H
#define CORE_WALK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/addr.h"
#include "net/prefix.h"

struct port;
struct worker;
struct conn_chunk;

/* Walks at once. Each has a place of its own at every worker. */
#define WALK_PLACES 4U
/* Connections told of in one turn: two system calls each, some 0.1 ms in all. */
#define WALK_ROWS 128U
/* Places of connections passed in one turn, free ones and those of other clients included. */
#define WALK_PASS 256U

/* An open connection. Times in ns, up to when the walk began; 0: since then. */
struct walk_row {
	struct tuple tuple;
	uint64_t age;
	uint64_t idle; /* since it last moved, to 1 ms (conn_touch) */
	uint64_t bytes_in, bytes_out;
};

/* Who has the walk. */
enum walk_state {
	WALK_MAIN,  /* the main thread: it reads rows, asks, frees */
	WALK_ASKED, /* in its place at a worker, or being written */
	WALK_LEFT   /* the main thread has given up: the worker frees it */
};

struct walk {
	_Atomic int state; /* enum walk_state */
	unsigned place;
	uint64_t began;          /* ns */
	struct prefix_set *only; /* clients from there; NULL: all */
	struct conn_chunk
	        *chunk; /* the worker's, where it goes on; NULL: at its beginning */
	unsigned next;  /* and the place in it */
	bool over;      /* this worker has told of all that it has */
	unsigned n_rows;
	struct walk_row row[WALK_ROWS];
};

/* For connections of clients from `only`, which is shared; NULL: of all. Their times count up to `now`,
 * so that they can be compared, whenever which worker tells of them. Returns 0, -EBUSY if
 * WALK_PLACES are under way, or -ENOMEM. */
int walk_create(
        struct port *port, struct prefix_set *only, uint64_t now, struct walk **ret);
/* Also while a worker has it. NULL is accepted. Always returns NULL. */
struct walk *walk_destroy(struct port *port, struct walk *walk);

/* From now on worker `id` (less than the number of workers) is asked, from its beginning. */
void walk_begin_worker(struct walk *walk);
/* Asks worker `id` for its next piece. It pokes the port's main_fd when that is there. */
void walk_ask(struct port *port, struct walk *walk, unsigned id);
/* Is the piece there? */
bool walk_poll(const struct walk *walk);
/* Takes the walk back from worker `id`, which has not answered. Returns 0: it has not begun; 1: the
 * piece has come by now; -EBUSY: it is in the midst of it, and the walk is lost: walk_destroy is all
 * that may be done with it. */
int walk_retract(struct port *port, struct walk *walk, unsigned id);
/* Does worker `id` turn, as far as is known? */
bool walk_worker_turns(const struct port *port, unsigned id);
unsigned walk_workers(const struct port *port);

/* The worker's, once a turn: writes a piece for one of those that wait. O(WALK_PASS). */
void walk_serve(struct worker *w);

#endif
