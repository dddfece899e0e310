/*
 * history.h - what portd has been through: a ring of the last HISTORY_SIZE entries, for `portctl
 * events`. 512 entries of 256 bytes, 128 KiB, part of struct daemon; a page of it is memory only once
 * it was written to.
 *
 * What comes thick and fast is summed up, so that the ring holds hours. Each topic may write
 * HISTORY_BURST entries in a row, then one a minute (for a spell that is its beginning and its end).
 * What comes in between is kept back, and written as one entry that says how often and since when,
 * when the minute is over. So the last thing that happened always comes to be told, and nothing that
 * is written changes any more. 512 entries are over four hours of one topic that never rests, and
 * more than an hour of all eight.
 *
 * An entry's number grows by one from entry to entry and is never used again: who asks «since N» sees
 * every entry once, and knows how many were lost. Main thread only. Times are ns of CLOCK_MONOTONIC.
 */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "core/limits.h"
#include "core/state.h"
#include "net/prefix.h"

#define HISTORY_SIZE    512U
#define HISTORY_BURST   8U
#define HISTORY_PACE_NS (60 * CLOCK_SEC)
/* Source networks that the end of a spell names. */
#define HISTORY_NETS_MAX 5U
#define HISTORY_TEXT_MAX 208

enum history_topic_id {
	HISTORY_TOPIC_SPELL,
	HISTORY_TOPIC_GATE,
	HISTORY_TOPIC_DRAIN,
	HISTORY_TOPIC_RELOAD,
	HISTORY_TOPIC_STALL,
	HISTORY_TOPIC_ERROR,
	HISTORY_TOPIC_DOWN,
	HISTORY_TOPIC_LOSS,
	HISTORY_TOPIC_COUNT,
	HISTORY_TOPIC_NONE = HISTORY_TOPIC_COUNT
};

enum history_kind {
#define X(name, ...) HISTORY_##name,
#include "daemon/history.def"
#undef X
	HISTORY_KIND_COUNT
};

struct history_full {
	enum state_cause cause;
	enum limits_bound bound;
	uint64_t connections, max, depth, depth_max;
};

/* OPEN, STORED, RELOADED, STOPPING. */
struct history_port {
	enum limits_bound bound;
	uint64_t connections, max;
	const char *
	        from; /* the listener: "own", "stored", "socket" (enum listener_origin) */
	char address[ADDR_TEXT_MAX];
};

struct history_net {
	struct prefix net;
	uint32_t shed;
};

struct history_spells {
	enum state_cause cause; /* of the last one */
	bool goes_on;           /* SPELLS: it is not over yet, and not in the figures */
	uint64_t n, lasted, shed, depth_peak;
	unsigned n_nets;
	struct history_net net[HISTORY_NETS_MAX]; /* the most first */
};

struct history_worker {
	unsigned id;
	unsigned stalled, workers; /* STALLED, TURNS_AGAIN: so many of all */
	int err;                   /* ACCEPT_ERROR */
};

struct history_entry {
	enum history_kind kind;
	uint32_t alike;  /* so many of `summed` are of this kind */
	uint64_t number; /* from 1 */
	uint64_t at;
	/* Not told of on their own, this one included; 0: it was told when it happened. */
	uint64_t summed, since, last;
	union {
		struct history_full full;
		struct history_spells spells; /* NOT_FULL, SPELLS */
		struct history_worker worker;
		struct history_port port;
		uint64_t lost;               /* REPORTS_LOST */
		uint64_t lasted;             /* UP: for how long it was down, ns */
		char text[HISTORY_TEXT_MAX]; /* REJECTED: the first mistake; DOWN: why */
	};
};

_Static_assert(sizeof(struct history_entry) <= 256, "the opening comment says how much");

struct history_topic {
	uint64_t full_at; /* when it may write HISTORY_BURST in a row again */
	struct history_entry
	        kept; /* the last that was kept back, if its summed is not 0 */
	/* Of each kind, so many were kept back. */
	uint32_t kinds[HISTORY_KIND_COUNT];
};

/* Zeroed memory is an empty one. */
struct history {
	uint64_t n;      /* ever written; the newest is at (n - 1) % HISTORY_SIZE */
	uint64_t latest; /* its time; none that comes later is older */
	bool spell_on, spell_told;
	struct history_topic topic[HISTORY_TOPIC_COUNT];
	struct history_entry ring[HISTORY_SIZE];
};

/* The word of history.def. */
const char *history_kind_name(enum history_kind kind);
/* The other kind of its topic; itself if it has none. */
enum history_kind history_kind_opposite(enum history_kind kind);

/* The text of entry, with an ellipsis for what does not fit. */
void history_set_text(struct history_entry *entry, const char *text);

/* Something happened, at entry->at, which is now; all but spells. */
void history_add(struct history *h, const struct history_entry *entry);

/* A spell began: FULL. Returns whether that was written. If not, its end is summed up too, unless
 * history_write_spells comes first. */
bool history_begin_spell(struct history *h, const struct history_entry *entry);
/* It ended: NOT_FULL. The networks are asked for only if history_tells_end was true. */
void history_end_spell(struct history *h, const struct history_entry *entry);
/* Will the end of the spell that is on be an entry? */
static inline bool history_tells_end(const struct history *h)
{
	return h->spell_on && h->spell_told;
}
/* Spells are being summed up. */
static inline bool history_sums_spells(const struct history *h)
{
	return h->topic[HISTORY_TOPIC_SPELL].kept.summed > 0;
}
/* How many have ended, and are in the figures. */
static inline uint64_t history_sum_spells(const struct history *h)
{
	return history_sums_spells(h) ? h->topic[HISTORY_TOPIC_SPELL].kept.spells.n : 0;
}
/* Is it time to write the sum? */
bool history_spells_are_due(const struct history *h, uint64_t now);
/* These networks were shed most in the spells that it has by now. */
void history_set_nets(struct history *h, const struct history_net *nets, unsigned n_nets);
/* Writes it: SPELLS. */
void history_write_spells(struct history *h, uint64_t now);

/* Writes what was kept back and is due, all but spells. Call it with every tick. */
void history_flush(struct history *h, uint64_t now);

/* The oldest entry with a number above `since` that is still there, NULL: none. *ret_lost: how many
 * such came before it and are forgotten. */
const struct history_entry *history_next(
        const struct history *h, uint64_t since, uint64_t *ret_lost);

#endif
