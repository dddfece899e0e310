/*
 * accept_call.h - one accept4, and one judgement of its errors: a shortage, an error of one client only, or a
 * listener that does not work.
 */
#ifndef CORE_ACCEPT_CALL_H
#define CORE_ACCEPT_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "net/addr.h"

struct worker;

/* The first pause of a row, where clients are in the way. */
#define ACCEPT_SKIP_PAUSE (10 * CLOCK_MSEC)

/* Accepts one connection: counts, judges the errno. *ret_peer is empty where nobody is likely to ask
 * for it. Outcomes beside 0 (*ret_fd is the socket): */
enum worker_accept_outcome {
	WORKER_ACCEPT_NOTHING = 1, /* the queue is empty */
	WORKER_ACCEPT_SKIP,        /* this connection only: take the next one */
	WORKER_ACCEPT_SHORT,       /* short of descriptors or memory */
	WORKER_ACCEPT_PAUSE        /* stop for a while */
};
int worker_accept_one(
        struct worker *w, bool through_kept, int *ret_fd, struct addr *ret_peer);
/* Leaves the listener for a while. Each pause in a row is twice as long; an accept that succeeds, or finds nothing, ends the
 * row. */
void worker_pause(struct worker *w, uint64_t first);
/* This worker ran into EMFILE or its like. */
void worker_set_short(struct worker *w);
/* Is it over? Looks, if it is time or something was closed. Returns true if descriptors
 * are there. */
bool worker_check_short(struct worker *w, bool now);

#endif
