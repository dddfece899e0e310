/*
 * interest.h - in and out of the listener's epoll set: what keeps a worker out, and how it is in.
 */
#ifndef CORE_INTEREST_H
#define CORE_INTEREST_H

#include <stdbool.h>

#include "core/worker.h"

void worker_block(struct worker *w, enum worker_block why);
void worker_unblock(struct worker *w, enum worker_block why);
/* Puts the listener into the set in another way. */
void worker_listen(struct worker *w, enum worker_listen how);
/* Does it turn, and could it accept if it had a slot? Any thread. */
bool worker_is_able(const struct worker *w);

#endif
