/*
 * source.h - the books of each source network: what it has open, how fast it comes, what
 * of it was shed and why.
 *
 * A source is a struct prefix: the caller masks an address with [source]
 * prefix4/prefix6. The length is part of the name, so new masks make new sources:
 * connections that are open stay booked under the network they came from, and count
 * there until they close, but not for the networks that the new masks make.
 *
 * The memory is fixed. Sources with open connections are never forgotten. Beyond the
 * capacity one of those heard of longest ago is forgotten for a new one: of eight, the
 * first that forgetting changes nothing for (nothing open, all tokens back), else the
 * oldest.
 *
 * Times are ns of CLOCK_MONOTONIC. Any thread may call all but create and destroy.
 */
#ifndef CORE_SOURCE_H
#define CORE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/counters.h"
#include "net/prefix.h"

/* Sources that can be remembered beside those with open connections, as portd has it. */
#define SOURCE_SPARE 65536U
/* No entry; what an empty ticket has. */
#define SOURCE_NONE 0U

/* Outcomes of source_take beside 0. */
enum source_refusal {
	SOURCE_LIMIT = 1, /* max_connections are open from there */
	SOURCE_RATE       /* it has no token */
};

/* What a take got. A connection need remember no more than the entry. */
struct source_ticket {
	uint64_t taken; /* when */
	uint32_t entry; /* SOURCE_NONE: not booked */
	bool token;     /* it took one */
};

/* What the books say of a source. */
struct source_view {
	struct prefix net;
	uint32_t open;
	uint32_t
	        tokens; /* it may open so many at once by its rate; UINT32_MAX: any number */
	uint64_t wait_ns;           /* until it has a token */
	uint64_t seen;              /* when it was last heard of */
	uint64_t shed_at;           /* when it was last shed; 0: never */
	enum shed_reason shed_last; /* and why */
	uint32_t shed_spell;        /* times in spells since source_begin_spell */
	uint32_t shed[SHED_COUNT];  /* times; these counters stop at UINT32_MAX */
	int outcome;                /* what source_take, with how = 0, would say now */
};

struct source_usage {
	uint32_t capacity;  /* sources that can be remembered */
	uint32_t used;      /* of those, in use by now: never falls */
	uint32_t open;      /* sources with open connections */
	size_t bytes;       /* of memory in all; what was never used costs none yet */
	uint64_t forgotten; /* sources forgotten so far … */
	uint64_t early;     /* … and of those, how many still lacked tokens */
	uint64_t
	        unbooked; /* takes and sheds that found no entry, all having open connections */
};

struct source_books;

/* slots: the most connections that can ever be booked at once, also after a reload;
 * spare: SOURCE_SPARE. Capacity: their sum. No limits yet. Returns 0 or -errno (ENOMEM,
 * or getrandom(2)'s). */
int source_books_create(uint32_t slots, uint32_t spare, struct source_books **ret);
/* NULL is accepted. Always returns NULL. */
struct source_books *source_books_destroy(struct source_books *books);

/* New limits for each source; 0: none. rate and burst as bucket_rate_change's and
 * bucket_adapt's. Connections above max_connections stay; the same rate and burst again change
 * nothing. O(used), one thread at a time. */
void source_set_limits(struct source_books *books, uint32_t max_connections,
        uint32_t rate, uint32_t burst, uint64_t now);

/* Books a connection from net; one that is exempt needs and takes no token of the rate.
 * Returns 0 or an enum source_refusal, the first that holds; a refused one is not booked,
 * takes no token and gets an empty ticket. */
int source_take(struct source_books *books, const struct prefix *net, bool exempt,
        uint64_t now, struct source_ticket *ret);
/* The connection is closed. entry: its ticket's; SOURCE_NONE does nothing. */
void source_give(struct source_books *books, uint32_t entry, uint64_t now);
/* The connection was not admitted after all: as source_give, and its token goes back (see
 * bucket_return). */
void source_undo(
        struct source_books *books, const struct source_ticket *ticket, uint64_t now);

/* A connection from net was shed; in_spell: shed_spell counts it, too. */
void source_note_shed(struct source_books *books, const struct prefix *net,
        enum shed_reason reason, bool in_spell, uint64_t now);
/* From now on shed_spell counts from 0 again. */
void source_begin_spell(struct source_books *books);

/* What is known of net. Returns 0; 1 if nothing is (*ret is then an empty view with the
 * outcome that a new source would have, 0). */
int source_find(struct source_books *books, const struct prefix *net, uint64_t now,
        struct source_view *ret);
/* The n sources that were shed most since source_begin_spell, the most first. Returns how
 * many there are, at most n. O(used): 2 ns each. */
size_t source_top_shed(
        struct source_books *books, uint64_t now, size_t n, struct source_view *ret);
void source_read_usage(struct source_books *books, struct source_usage *ret);

#endif
