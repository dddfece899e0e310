/*
 * source_table.h - where the books of the sources are kept: a hash table of fixed memory
 * that forgets. For source.c only.
 */
#ifndef CORE_SOURCE_TABLE_H
#define CORE_SOURCE_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bucket.h"
#include "core/counters.h"
#include "net/prefix.h"

#define SOURCE_STRIPES 64U

/* What a take needs: one cache line. Under the lock of its stripe. */
struct source_entry {
	struct prefix net;       /* empty: a spare */
	_Atomic uint32_t stripe; /* whose it is, counted from 1; 0: nobody's */
	uint32_t open;
	uint32_t chain;        /* next in the chain */
	uint32_t older, newer; /* in the idle list */
	struct bucket bucket;
};

_Static_assert(sizeof(struct source_entry) == 64, "an entry is a cache line");

/* What is remembered beside, under the same lock. */
struct source_past {
	uint64_t seen, shed_at;
	_Atomic uint32_t spell, shed_spell; /* source_top_shed peeks at these */
	enum shed_reason shed_last;
	uint32_t shed[SHED_COUNT];
};

struct source_stripe {
	_Alignas(64) pthread_mutex_t lock;
	uint32_t oldest,
	        newest; /* entries with nothing open, by when they were heard of */
	uint32_t max_connections;
	uint32_t open; /* entries with open connections */
	struct bucket_rate rate;
	uint64_t forgotten, early, unbooked;
};

/* Entries are numbered from 1: 0 is none, and zeroed memory an empty table. */
struct source_books {
	uint64_t key[2];
	struct source_past *past;
	uint32_t *head;
	uint32_t head_mask, capacity;
	size_t bytes;
	_Alignas(64) _Atomic uint32_t used; /* entries 1 to used have been used */
	_Atomic uint32_t spell;
	struct source_stripe stripe[SOURCE_STRIPES];
	_Alignas(64) struct source_entry entry[];
};

/* Locks the stripe of net and returns its entry, or NULL. */
struct source_entry *source_table_find(
        struct source_books *books, const struct prefix *net, struct source_stripe **ret);
/* The same; makes the entry if need be, forgetting another. NULL if all have something
 * open (counted in unbooked). */
struct source_entry *source_table_get(struct source_books *books,
        const struct prefix *net, uint64_t now, struct source_stripe **ret);
/* Locks the stripe of entry i. Returns NULL, and locks nothing, if it is nobody's now. */
struct source_stripe *source_table_lock(struct source_books *books, uint32_t i);
void source_table_unlock(struct source_stripe *s);

/* With the stripe's lock: the source was heard of; its first connection was opened; its
 * last was closed. */
void source_table_touch(struct source_books *books, struct source_stripe *s,
        struct source_entry *e, uint64_t now);
void source_table_busy(
        struct source_books *books, struct source_stripe *s, struct source_entry *e);
void source_table_idle(
        struct source_books *books, struct source_stripe *s, struct source_entry *e);

static inline uint32_t source_table_index(
        const struct source_books *books, const struct source_entry *e)
{
	return (uint32_t)(e - books->entry);
}

#endif
