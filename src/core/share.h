/*
 * share.h - SHARE: the listener is everybody's, and connections are to be spread evenly: a
 * worker that holds more than its share leaves it to the others for a while.
 *
 * All for the caller's own worker w, in its thread.
 */
#ifndef CORE_SHARE_H
#define CORE_SHARE_H

#include <stdint.h>

struct worker;

/* A peer that answers and could take a slot now, the emptiest; NULL if there is none. */
struct worker *share_able_peer(struct worker *w);
/* Asks a peer to look at the queue in w's place. */
void share_ask_to_look(struct worker *peer);

/* How many more connections w may accept before it is the others' turn. */
uint32_t share_left(struct worker *w);
/* w holds its share: leaves the listener to the others, if there is one that could accept. */
void share_leave(struct worker *w);
/* w is out because it holds more than its share. It comes back when that is over, or when nobody
 * else takes the work. */
void share_rejoin(struct worker *w);

#endif
