/*
 * source.c - the books of each source network: what is decided and remembered.
 *
 * Where they are kept, why they are bounded and what happens beyond the bound is
 * source_table.c's. Here an entry is looked up, judged and written in one go with its
 * stripe's lock, so that no decision rests on something that has changed meanwhile. The
 * limits are a copy in each stripe: source_set_limits changes one after the other, and a
 * bucket finds out by its generation (bucket.c).
 *
 * Invariants: a source's open is the number of tickets with its entry that were neither
 * given nor undone; nothing is decided by shed counters.
 */
#include "core/source.h"

#include <string.h>

#include "core/source_table.h"

static int entry_judge(const struct source_stripe *s, const struct source_entry *e)
{
	return s->max_connections > 0 && e->open >= s->max_connections ? SOURCE_LIMIT : 0;
}

int source_take(struct source_books *books, const struct prefix *net, bool exempt,
        uint64_t now, struct source_ticket *ret)
{
	struct source_stripe *s;
	struct source_entry *e = source_table_get(books, net, now, &s);
	int r = 0;
	*ret = (struct source_ticket){.taken = now};
	if (e) {
		r = entry_judge(s, e);
		if (r == 0 && !exempt && s->rate.rate > 0) {
			ret->token = bucket_take(&e->bucket, &s->rate, now) == 0;
			r = ret->token ? 0 : SOURCE_RATE;
		}
		source_table_touch(books, s, e, now);
	}
	if (e && r == 0) {
		ret->entry = source_table_index(books, e);
		if (e->open++ == 0)
			source_table_busy(books, s, e);
	}
	source_table_unlock(s);
	return r;
}

/* One connection less, and its token back if it has one. */
static void ticket_end(
        struct source_books *books, const struct source_ticket *ticket, uint64_t now)
{
	if (ticket->entry == SOURCE_NONE)
		return;
	struct source_entry *e = &books->entry[ticket->entry];
	struct source_stripe *s = source_table_lock(books, ticket->entry);
	/* Not with a ticket of these books: an entry with something open is somebody's. */
	if (!s)
		return;
	if (ticket->token)
		bucket_return(&e->bucket, &s->rate, ticket->taken, now);
	if (--e->open == 0)
		source_table_idle(books, s, e);
	source_table_touch(books, s, e, now);
	source_table_unlock(s);
}

void source_give(struct source_books *books, uint32_t entry, uint64_t now)
{
	ticket_end(books, &(struct source_ticket){.entry = entry}, now);
}

void source_undo(
        struct source_books *books, const struct source_ticket *ticket, uint64_t now)
{
	ticket_end(books, ticket, now);
}

/* A bucket knows of the last change only: all hear of that before there is another. */
static void adapt_all(struct source_books *books)
{
	uint32_t used = atomic_load(&books->used);
	for (uint32_t i = 1; i <= used; i++) {
		/* Nobody's: it begins with a full one. */
		struct source_stripe *s = source_table_lock(books, i);
		if (!s)
			continue;
		bucket_adapt(&books->entry[i].bucket, &s->rate);
		source_table_unlock(s);
	}
}

void source_set_limits(struct source_books *books, uint32_t max_connections,
        uint32_t rate, uint32_t burst, uint64_t now)
{
	adapt_all(books);
	for (unsigned i = 0; i < SOURCE_STRIPES; i++) {
		struct source_stripe *s = &books->stripe[i];
		(void)pthread_mutex_lock(&s->lock);
		s->max_connections = max_connections;
		bucket_rate_change(&s->rate, rate, burst, now);
		source_table_unlock(s);
	}
}

static uint32_t spell_count(
        const struct source_books *books, const struct source_past *past)
{
	uint32_t now = atomic_load_explicit(&books->spell, memory_order_relaxed);
	if (atomic_load_explicit(&past->spell, memory_order_relaxed) != now)
		return 0;
	return atomic_load_explicit(&past->shed_spell, memory_order_relaxed);
}

static uint32_t add_one(uint32_t n)
{
	return n < UINT32_MAX ? n + 1 : n;
}

static void note_in_spell(struct source_books *books, struct source_past *past)
{
	uint32_t n = add_one(spell_count(books, past));
	/* The count first: with the new spell an old count would be a lie. */
	atomic_store_explicit(&past->shed_spell, n, memory_order_relaxed);
	atomic_store_explicit(
	        &past->spell, atomic_load(&books->spell), memory_order_release);
}

void source_note_shed(struct source_books *books, const struct prefix *net,
        enum shed_reason reason, bool in_spell, uint64_t now)
{
	struct source_stripe *s;
	struct source_entry *e = source_table_get(books, net, now, &s);
	if (e) {
		struct source_past *past = &books->past[source_table_index(books, e)];
		past->shed[reason] = add_one(past->shed[reason]);
		past->shed_last = reason;
		past->shed_at = now;
		if (in_spell)
			note_in_spell(books, past);
		source_table_touch(books, s, e, now);
	}
	source_table_unlock(s);
}

void source_begin_spell(struct source_books *books)
{
	atomic_fetch_add(&books->spell, 1);
}

/* With the stripe's lock. */
static void entry_view(const struct source_books *books, const struct source_stripe *s,
        const struct source_entry *e, uint64_t now, struct source_view *ret)
{
	const struct source_past *past = &books->past[source_table_index(books, e)];
	*ret = (struct source_view){.net = e->net,
	        .open = e->open,
	        .tokens = bucket_tokens(&e->bucket, &s->rate, now),
	        .wait_ns = bucket_wait(&e->bucket, &s->rate, now),
	        .seen = past->seen,
	        .shed_at = past->shed_at,
	        .shed_last = past->shed_last,
	        .shed_spell = spell_count(books, past),
	        .outcome = entry_judge(s, e)};
	if (ret->outcome == 0 && ret->wait_ns > 0)
		ret->outcome = SOURCE_RATE;
	memcpy(ret->shed, past->shed, sizeof(ret->shed));
}

int source_find(struct source_books *books, const struct prefix *net, uint64_t now,
        struct source_view *ret)
{
	struct source_stripe *s;
	const struct source_entry *e = source_table_find(books, net, &s);
	if (e)
		entry_view(books, s, e, now, ret);
	else
		*ret = (struct source_view){.net = *net,
		        .tokens = s->rate.rate > 0 ? s->rate.burst : UINT32_MAX};
	source_table_unlock(s);
	return e ? 0 : 1;
}

/* What entry i says, if it is still somebody's; nothing shed if not. */
static void view_read(
        struct source_books *books, uint32_t i, uint64_t now, struct source_view *ret)
{
	struct source_stripe *s = source_table_lock(books, i);
	*ret = (struct source_view){.shed_spell = 0};
	if (s) {
		entry_view(books, s, &books->entry[i], now, ret);
		source_table_unlock(s);
	}
}

size_t source_top_shed(
        struct source_books *books, uint64_t now, size_t n, struct source_view *ret)
{
	uint32_t used = atomic_load(&books->used);
	size_t found = 0;
	for (uint32_t i = 1; i <= used && n > 0; i++) {
		struct source_view view;
		uint32_t least = found == n ? ret[n - 1].shed_spell : 0;
		/* Peeked at without a lock; what counts is read again with it. */
		if (spell_count(books, &books->past[i]) <= least)
			continue;
		view_read(books, i, now, &view);
		if (view.shed_spell <= least)
			continue;
		size_t at = found < n ? found++ : n - 1;
		for (; at > 0 && ret[at - 1].shed_spell < view.shed_spell; at--)
			ret[at] = ret[at - 1];
		ret[at] = view;
	}
	return found;
}

void source_read_usage(struct source_books *books, struct source_usage *ret)
{
	*ret = (struct source_usage){.capacity = books->capacity,
	        .used = atomic_load(&books->used),
	        .bytes = books->bytes};
	for (unsigned i = 0; i < SOURCE_STRIPES; i++) {
		struct source_stripe *s = &books->stripe[i];
		(void)pthread_mutex_lock(&s->lock);
		ret->open += s->open;
		ret->forgotten += s->forgotten;
		ret->early += s->early;
		ret->unbooked += s->unbooked;
		source_table_unlock(s);
	}
}
