/*
 * waiter.h - who frees a slot or a descriptor wakes whom it may be for: the holder of the head of the queue.
 */
#ifndef CORE_WAITER_H
#define CORE_WAITER_H

#include <stdbool.h>

struct worker;

/* Both in w's own thread. A slot, or a descriptor, came free at w's: wakes the holder. */
void hold_notify(struct worker *w);
/* Gives back a slot of w's, an ordinary one or one for priority sources, and wakes the holder, who
 * may have a client for it. */
void worker_give_slot(struct worker *w, bool priority_slot);

#endif
