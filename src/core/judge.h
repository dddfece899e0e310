/*
 * judge.h - JUDGE: may this newcomer be served at all? Lists of addresses, books of its source
 * network, rates, pressure: everything but the slots and descriptors, which admit.h has. The reasons
 * are asked in the order of sheds.def; the first that holds is the one that counts.
 *
 * With [shed] dry_run nobody is refused here, but for memory: the reason is counted under would_shed,
 * once the connection is open.
 *
 * The caller's worker only.
 */
#ifndef CORE_JUDGE_H
#define CORE_JUDGE_H

#include <stdbool.h>

#include "core/counters.h"
#include "core/ticket.h"

struct config;
struct port;
struct worker;

/* True if nothing that is configured could refuse a newcomer, or depends on who it is: then nobody
 * need ask for its address. */
bool judge_is_idle(const struct config *config);

/* Judges a connection that was just accepted from peer. Returns 0 with *ret, which goes to conn_open
 * or back to judge_undo; or 1 with the reason to shed it for, and nothing to give back. */
int judge_newcomer(struct worker *worker, const struct addr *peer, struct ticket *ret,
        enum shed_reason *ret_reason);

/* It was judged good and is not served after all: gives back its place in the books and its tokens. */
void judge_undo(struct worker *worker, const struct ticket *ticket);

/* What [shed] start_at sheds of the newcomers now, in parts of 2^32. Any thread. */
uint64_t judge_pressure(const struct port *port, const struct config *config);

/* Is it denied by its address alone? For who sheds everybody anyway. */
bool judge_is_denied(const struct worker *worker, const struct addr *peer);
/* Has it priority by the list of now? AF_UNSPEC has none. */
bool judge_is_priority(const struct worker *worker, const struct addr *peer);

#endif
