/*
 * source_table.c - the table behind the books of the sources.
 *
 * A hash table of chains over one fixed array of entries. Entries never move, so that a
 * connection remembers its own by a number of 4 bytes. SipHash with a random key: nobody
 * who cannot read our memory can choose addresses that share a chain. The chains are
 * divided among 64 stripes, each with a lock; an entry belongs to the stripe of its
 * chain. Nobody takes a second lock while having one, and nothing sleeps with one, so a
 * lock is held for a few cache misses. One lock for all would be held for 0.4 % of the
 * time at 40,000 connections a second from 10,000 sources, for 3 % with a million
 * sources; with 64 of them workers hardly ever meet.
 *
 * Cost (tests/bench/bench_checks.c; ns of CPU time, AMD EPYC): to take and to give back
 * 70 with 10 sources, 100 with 10,000, 700 with 1,000,000, where each thing touched is a
 * cache miss; to note a shed 50, 75, 600; a shed of a new source when the table is full
 * and another must be forgotten 250 to 600. A bare connection costs 40,000. Memory, for
 * each source of the capacity: 64 bytes, what was shed (32 and 4 for each reason), and 4
 * to 8 of the chains; pages that no source has needed yet are not there.
 *
 * Entries without open connections are on their stripe's idle list, heard of longest ago
 * first. A new source gets an entry that was never used; when there is none, its stripe's
 * oldest idle one; when that stripe has none, another stripe's. The capacity is slots +
 * spare and at most `slots` entries have open connections, so there are always more idle
 * ones than threads: no open connection is ever forgotten or left out of the books.
 *
 * What is lost beyond the capacity. Forgetting a source that has nothing open and all
 * its tokens back changes no decision; of the eight oldest the first such one goes, and
 * those passed over move to the young end. If all eight lack tokens, the oldest goes all
 * the same (`early`), and begins with a full bucket if it comes back. What does that
 * give an attacker? A source lacks tokens for 1/rate s, at most a second, for each
 * connection that it was granted: to keep 65,536 entries lacking takes as many granted
 * connections a second, spread over as many networks, and who can do that has 65,536 *
 * rate a second by right. What protects then is [budget] rate and the slots. The
 * alternatives are worse: one common bucket for all that find no entry lets a flood lock
 * out every newcomer; to let newcomers in unbooked makes max_connections void.
 *
 * Invariants: an entry is on its stripe's idle list if and only if it has nothing open;
 * it is in the chain of its net, or has an empty net and is in none (a spare, left over
 * when two threads brought the same source at once); while it has something open, its
 * net and its stripe stay. An entry's stripe changes from s to nobody's and from
 * nobody's to s with the lock of s only; while it is nobody's it is the thread's that
 * took it out.
 */
#include "core/source_table.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/siphash.h"
#include "core/source.h"

/* How many idle entries are looked at for one that can be forgotten without loss. */
#define LOOK 8U

static size_t round_up(size_t n)
{
	return (n + 63) / 64 * 64;
}

int source_books_create(uint32_t slots, uint32_t spare, struct source_books **ret)
{
	uint64_t entries = (uint64_t)slots + spare + 1, heads = SOURCE_STRIPES;
	if (entries > UINT32_MAX / 2)
		return -ENOMEM;
	while (heads < entries)
		heads *= 2;
	size_t past_at =
	        sizeof(struct source_books) + entries * sizeof(struct source_entry);
	size_t heads_at = past_at + round_up(entries * sizeof(struct source_past));
	size_t bytes = heads_at + heads * sizeof(uint32_t);
	/* Zeroed pages that cost nothing until they are touched. */
	char *memory = mmap(
	        NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	struct source_books *books = (struct source_books *)(void *)memory;
	if (getrandom(books->key, sizeof(books->key), 0) != sizeof(books->key)) {
		int err = errno;
		(void)munmap(memory, bytes);
		return -err;
	}
	books->past = (struct source_past *)(void *)(memory + past_at);
	books->head = (uint32_t *)(void *)(memory + heads_at);
	books->head_mask = (uint32_t)heads - 1;
	books->capacity = (uint32_t)entries - 1;
	books->bytes = bytes;
	/* Cannot fail on Linux: no attributes, nothing is allocated. */
	for (unsigned i = 0; i < SOURCE_STRIPES; i++)
		(void)pthread_mutex_init(&books->stripe[i].lock, NULL);
	*ret = books;
	return 0;
}

struct source_books *source_books_destroy(struct source_books *books)
{
	for (unsigned i = 0; books && i < SOURCE_STRIPES; i++)
		(void)pthread_mutex_destroy(&books->stripe[i].lock);
	if (books)
		(void)munmap(books, books->bytes);
	return NULL;
}

static void stripe_lock(struct source_stripe *s)
{
	(void)pthread_mutex_lock(&s->lock);
}

void source_table_unlock(struct source_stripe *s)
{
	(void)pthread_mutex_unlock(&s->lock);
}

struct source_stripe *source_table_lock(struct source_books *books, uint32_t i)
{
	_Atomic uint32_t *stripe = &books->entry[i].stripe;
	uint32_t was = atomic_load_explicit(stripe, memory_order_relaxed);
	if (was == 0)
		return NULL;
	struct source_stripe *s = &books->stripe[was - 1];
	stripe_lock(s);
	if (atomic_load_explicit(stripe, memory_order_relaxed) == was)
		return s;
	source_table_unlock(s);
	return NULL;
}

static uint32_t *chain_of(const struct source_books *books, const struct prefix *net)
{
	return &books->head[siphash(books->key, net, sizeof(*net)) & books->head_mask];
}

/* The low bits of a chain's index say its stripe. */
static uint32_t stripe_of(const struct source_books *books, const uint32_t *chain)
{
	return (uint32_t)(chain - books->head) % SOURCE_STRIPES;
}

/* All below but entry_fresh and entry_from_others are called with the stripe's lock. */

static void idle_remove(
        struct source_books *books, struct source_stripe *s, struct source_entry *e)
{
	*(e->older ? &books->entry[e->older].newer : &s->oldest) = e->newer;
	*(e->newer ? &books->entry[e->newer].older : &s->newest) = e->older;
	e->older = e->newer = SOURCE_NONE;
}

static void idle_append(
        struct source_books *books, struct source_stripe *s, struct source_entry *e)
{
	uint32_t i = source_table_index(books, e);
	e->older = s->newest;
	*(e->older ? &books->entry[e->older].newer : &s->oldest) = i;
	s->newest = i;
}

void source_table_touch(struct source_books *books, struct source_stripe *s,
        struct source_entry *e, uint64_t now)
{
	struct source_past *past = &books->past[source_table_index(books, e)];
	if (past->seen < now)
		past->seen = now;
	if (e->open == 0 && e->newer != SOURCE_NONE) {
		idle_remove(books, s, e);
		idle_append(books, s, e);
	}
}

void source_table_busy(
        struct source_books *books, struct source_stripe *s, struct source_entry *e)
{
	idle_remove(books, s, e);
	s->open++;
}

void source_table_idle(
        struct source_books *books, struct source_stripe *s, struct source_entry *e)
{
	idle_append(books, s, e);
	s->open--;
}

static struct source_entry *chain_find(
        struct source_books *books, const uint32_t *chain, const struct prefix *net)
{
	for (uint32_t i = *chain; i != SOURCE_NONE; i = books->entry[i].chain)
		if (prefix_equal(&books->entry[i].net, net))
			return &books->entry[i];
	return NULL;
}

static void chain_remove(struct source_books *books, struct source_entry *e)
{
	uint32_t i = source_table_index(books, e), *link = chain_of(books, &e->net);
	while (*link != i)
		link = &books->entry[*link].chain;
	*link = e->chain;
}

static bool entry_is_spare(const struct source_entry *e)
{
	return e->net.family == AF_UNSPEC;
}

/* Takes the idle entry that is missed least out of the stripe; NULL if none is idle. */
static struct source_entry *stripe_forget(
        struct source_books *books, struct source_stripe *s, uint64_t now)
{
	struct source_entry *e, *first = &books->entry[s->oldest];
	bool lacks = true;
	if (s->oldest == SOURCE_NONE)
		return NULL;
	for (unsigned n = 0; n < LOOK && lacks; n++) {
		e = &books->entry[s->oldest];
		lacks = !bucket_is_full(&e->bucket, &s->rate, now);
		idle_remove(books, s, e);
		idle_append(books, s, e);
	}
	if (lacks)
		e = first;
	idle_remove(books, s, e);
	if (!entry_is_spare(e)) {
		chain_remove(books, e);
		s->forgotten++;
		s->early += lacks;
	}
	atomic_store_explicit(&e->stripe, 0, memory_order_relaxed);
	return e;
}

/* Makes e, which is nobody's, an idle entry of net; a spare if chain is NULL. */
static void entry_begin(struct source_books *books, struct source_entry *e,
        uint32_t stripe, uint32_t *chain, const struct prefix *net)
{
	struct source_past *past = &books->past[source_table_index(books, e)];
	e->net = chain ? *net : (struct prefix){.family = AF_UNSPEC};
	e->chain = SOURCE_NONE;
	e->bucket = (struct bucket){.full_at = 0};
	if (chain) {
		e->chain = *chain;
		*chain = source_table_index(books, e);
	}
	past->seen = past->shed_at = 0;
	past->shed_last = 0;
	memset(past->shed, 0, sizeof(past->shed));
	atomic_store_explicit(&past->shed_spell, 0, memory_order_relaxed);
	atomic_store_explicit(&e->stripe, stripe + 1, memory_order_relaxed);
	idle_append(books, &books->stripe[stripe], e);
}

/* One that was never used. */
static struct source_entry *entry_fresh(struct source_books *books)
{
	uint32_t used = atomic_load_explicit(&books->used, memory_order_relaxed);
	while (used < books->capacity)
		if (atomic_compare_exchange_weak(&books->used, &used, used + 1))
			return &books->entry[used + 1];
	return NULL;
}

/* One of any stripe but this. */
static struct source_entry *entry_from_others(
        struct source_books *books, uint32_t stripe, uint64_t now)
{
	struct source_entry *e = NULL;
	for (uint32_t i = 1; i < SOURCE_STRIPES && !e; i++) {
		struct source_stripe *other =
		        &books->stripe[(stripe + i) % SOURCE_STRIPES];
		stripe_lock(other);
		e = stripe_forget(books, other, now);
		source_table_unlock(other);
	}
	return e;
}

struct source_entry *source_table_find(
        struct source_books *books, const struct prefix *net, struct source_stripe **ret)
{
	uint32_t *chain = chain_of(books, net);
	*ret = &books->stripe[stripe_of(books, chain)];
	stripe_lock(*ret);
	return chain_find(books, chain, net);
}

struct source_entry *source_table_get(struct source_books *books,
        const struct prefix *net, uint64_t now, struct source_stripe **ret)
{
	uint32_t *chain = chain_of(books, net), stripe = stripe_of(books, chain);
	struct source_stripe *s = *ret = &books->stripe[stripe];
	stripe_lock(s);
	struct source_entry *e = chain_find(books, chain, net);
	if (e)
		return e;
	struct source_entry *made = entry_fresh(books);
	if (!made)
		made = stripe_forget(books, s, now);
	if (!made) {
		source_table_unlock(s);
		made = entry_from_others(books, stripe, now);
		stripe_lock(s);
		/* Somebody may have brought the same source meanwhile. */
		e = chain_find(books, chain, net);
		if (made && e)
			entry_begin(books, made, stripe, NULL, NULL);
		if (e)
			return e;
	}
	if (made)
		entry_begin(books, made, stripe, chain, net);
	else
		s->unbooked++;
	return made;
}
