/*
 * ticket.h - what judge.c has found out about a newcomer, and what goes with it from accept until it
 * is open.
 */
#ifndef CORE_TICKET_H
#define CORE_TICKET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/counters.h"
#include "core/source.h"
#include "net/addr.h"

struct ticket {
	struct addr peer;            /* AF_UNSPEC: not known */
	struct source_ticket source; /* its place in the books, if it has one */
	uint64_t taken;              /* when it took a token of [budget] rate, ns */
	bool token;                  /* and whether it did */
	bool priority;               /* its source may use the priority slots */
	/* What it would be shed for but for a dry run; SHED_COUNT: nothing. */
	enum shed_reason would_shed;
	bool priority_slot; /* it has one of those, not an ordinary slot */
	bool untried; /* nobody has asked yet whether it is dead: its first event will tell */
};

#endif
