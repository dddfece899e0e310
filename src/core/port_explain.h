/*
 * port_explain.h - what portd would decide for a client from an address right now, rule by rule, and
 * what it has decided for those that it remembers. As figures: src/daemon/explain.c has the words.
 *
 * Nothing is changed by asking: no token is taken, no source entered in the books. Main thread only.
 */
#ifndef CORE_PORT_EXPLAIN_H
#define CORE_PORT_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/counters.h"
#include "core/record.h"
#include "core/source.h"
#include "core/state.h"
#include "net/addr.h"
#include "net/prefix.h"

struct port;

/* What a rule of sheds.def says of a client. */
enum port_rule {
	PORT_RULE_UNKNOWN, /* only the connection itself will show */
	PORT_RULE_OFF,     /* not configured */
	PORT_RULE_EXEMPT,  /* it is a priority source */
	PORT_RULE_NO,
	PORT_RULE_SOME, /* of those that come now, port_verdict.pressed of 100 */
	PORT_RULE_YES
};

/* What would become of a client. reason goes with those that end in being shed. */
enum port_outcome {
	PORT_SERVED,
	PORT_SERVED_PRIORITY, /* in a priority slot */
	PORT_SERVED_EVICT,    /* in the slot of what has been idle longest */
	PORT_WAITS,           /* for a slot; shed for reason when its time is up */
	PORT_WAITS_JUDGED,    /* for its turn to be looked at; shed for reason then */
	PORT_WAITS_PRIORITY,  /* for its turn, too; then it gets a priority slot */
	PORT_SHED,            /* at once */
	PORT_SHED_SOME,       /* or served: see PORT_RULE_SOME */
	PORT_UNANSWERED, /* the kernel drops its SYN: the queue is full, or the gate closed */
	PORT_LEFT,       /* portd stops; it waits for the next one */
	PORT_UNACCEPTED, /* it waits until accept4 works again */
	PORT_REFUSED     /* portd stops, or the kernel does not listen for it */
};

struct port_verdict {
	enum port_rule rule[SHED_COUNT];
	enum port_outcome outcome;
	enum shed_reason reason;
	enum shed_reason
	        would; /* what a dry run would count it under; SHED_COUNT: nothing */

	struct prefix net; /* its source network … */
	bool is_known;     /* … is in the books: */
	struct source_view source;
	bool denied, allowed, priority; /* by the lists; allow: also if that is empty … */
	bool allow_all;                 /* … as it is */
	char denied_by[PREFIX_TEXT_MAX], allowed_by[PREFIX_TEXT_MAX],
	        priority_by[PREFIX_TEXT_MAX];

	uint32_t tokens;      /* of [budget] rate; UINT32_MAX: no limit */
	uint64_t wait_ns;     /* until there is one */
	uint32_t pressed;     /* percent that [shed] start_at sheds */
	uint32_t connections; /* in ordinary slots */
	uint32_t used, max;   /* slots, those of accepts under way included */
	uint32_t priority_used, priority_max;
	uint32_t queue, queue_max, held;
	bool gate_closed;
	bool is_down;  /* nobody can connect */
	bool is_short; /* a worker is, of descriptors */
	uint64_t
	        idlest; /* for how long the one idle longest has been, ns; only with evict_idle */
};

/* Fills *ret for a client from peer, whose port does not matter. */
void port_explain(struct port *port, const struct addr *peer, struct port_verdict *ret);

/* Of each of two kinds, that many are told of one by one. */
#define PORT_RECORDS_MAX 20U

/* Earlier ones that were shed, the newest first. */
struct port_records {
	unsigned n_peer, n_net;
	struct record_row peer[PORT_RECORDS_MAX]; /* from the address itself */
	struct record_row
	        net[PORT_RECORDS_MAX]; /* from elsewhere in its source network */
	uint64_t since;   /* everybody shed from then on is remembered, but for … */
	uint64_t dropped; /* … so many */
};

/* Looks through what all workers remember (record.h). Returns 0 or -ENOMEM. O(workers): 10 us each.
 */
int port_records(struct port *port, const struct addr *peer, const struct prefix *net,
        struct port_records *ret);

/* The source networks that were shed most in the spell of being full that began last, or in all that
 * are summed up: as source_top_shed. */
size_t port_top_shed(struct port *port, size_t n, struct source_view *ret);

#endif
