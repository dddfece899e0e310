/*
 * prefix.c - networks and sets of them.
 *
 * A set is two sorted arrays, one a family, of disjoint networks: those inside another
 * are dropped and two halves become their whole, so that there is one array for each set
 * of addresses, the smallest. As no two overlap, the only network that can have an
 * address is the last that does not begin after it: one binary search (17 steps in
 * 100,000) and one comparison. The begins stand apart from the lengths, 16 or 4 to a
 * cache line, since the search looks at begins only: 20 ns in a list of 10, 40 of 1,000,
 * 75 of 100,000, IPv6 20, 40 and 120 (tests/bench/bench_checks.c). A trie would need
 * memory of its own for every branch and no fewer cache misses; a hash table one probe
 * for every length in use.
 *
 * Networks of one interface, which are few, have an array of their own, in order of the interface.
 *
 * Invariants: an address is 128 bits here, IPv4 in the first 32, so that both families
 * share all code but the two arrays; bits beyond a network's length are 0; begins rise,
 * and no network begins before the end of the one before it.
 */
#include "net/prefix.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "net/prefix_item.h"

/* A network of one interface only. */
struct scoped {
	bits128 begin;
	uint32_t scope;
	uint8_t bits;
	char interface[ADDR_INTERFACE_MAX]; /* as it was written */
};

struct prefix_set {
	_Atomic unsigned
	        others; /* who else holds it: workers free sets, too (core/walk.h) */
	size_t n4, n6, n_scoped;
	/* Behind this struct, in one piece of memory. */
	bits128 *begin6;
	struct scoped *scoped;
	uint32_t *begin4;
	uint8_t *bits4, *bits6;
};

static int item_compare(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;

	if (a->family != b->family)
		return a->family == AF_INET ? -1 : 1;
	if (a->scope != b->scope)
		return a->scope < b->scope ? -1 : 1;
	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	/* The wider one first: it has all the others. */
	return a->bits < b->bits ? -1 : a->bits > b->bits;
}

/* Does wide have item, which comes after it in order, and so is no wider? */
static bool item_has(const struct item *wide, const struct item *item)
{
	return wide->family == item->family && wide->scope == item->scope &&
	       (item->begin & bits_mask(wide->bits)) == wide->begin;
}

/* Are low and high, in this order and not the same, the two halves of one network? */
static bool item_are_halves(const struct item *low, const struct item *high)
{
	return low->family == high->family && low->scope == high->scope &&
	       low->bits == high->bits && low->bits > 0 &&
	       low->begin == (high->begin & bits_mask(low->bits - 1U));
}

/* Drops networks of one interface that lie inside one of all: item is in order, and those of all
 * come before them and are disjoint. */
static size_t items_drop_scoped(struct item *item, size_t n)
{
	size_t first = 0, all, kept;

	while (first < n && item[first].family == AF_INET)
		first++;
	for (all = first; all < n && item[all].scope == 0;)
		all++;
	kept = all;
	for (size_t i = all; i < n; i++) {
		size_t at = first;

		for (size_t left = all - first; left > 1; left -= left / 2)
			at = item[at + left / 2].begin <= item[i].begin ? at + left / 2
			                                                : at;
		if (at == all || item[at].bits > item[i].bits ||
		        (item[i].begin & bits_mask(item[at].bits)) != item[at].begin)
			item[kept++] = item[i];
	}
	return kept;
}

/* Sorts, drops what lies inside another, joins halves. Returns how many are left. */
static size_t items_reduce(struct item *item, size_t n)
{
	size_t kept = 0;

	if (n > 1)
		qsort(item, n, sizeof(*item), item_compare);
	for (size_t i = 0; i < n; i++) {
		/* Sorted, so that a network which has this one was the last kept. */
		if (kept > 0 && item_has(&item[kept - 1], &item[i]))
			continue;
		item[kept++] = item[i];
		while (kept > 1 && item_are_halves(&item[kept - 2], &item[kept - 1])) {
			kept--;
			item[kept - 1].bits--;
		}
	}
	return items_drop_scoped(item, kept);
}

static struct scoped scoped_of(const struct item *item)
{
	struct scoped scoped = {
	        .begin = item->begin, .scope = item->scope, .bits = item->bits};

	/* It was read: it fits. */
	(void)memcpy(
	        scoped.interface, item->interface, item_interface_len(item->interface));
	return scoped;
}

static struct prefix_set *set_new(const struct item *item, size_t n)
{
	size_t n4 = 0, n6 = 0;

	while (n4 < n && item[n4].family == AF_INET)
		n4++;
	while (n4 + n6 < n && item[n4 + n6].scope == 0)
		n6++;
	size_t n_scoped = n - n4 - n6, head = (sizeof(struct prefix_set) + 15) / 16 * 16;
	size_t bytes =
	        head + sizeof(struct scoped) * n_scoped + 16 * n6 + 4 * n4 + n4 + n6;
	char *memory = aligned_alloc(16, (bytes + 15) / 16 * 16);

	if (!memory)
		return NULL;
	struct prefix_set *set = (struct prefix_set *)(void *)memory;

	atomic_init(&set->others, 0);
	set->n4 = n4;
	set->n6 = n6;
	set->n_scoped = n_scoped;
	set->scoped = (struct scoped *)(void *)(memory + head);
	set->begin6 = (bits128 *)(void *)(set->scoped + n_scoped);
	set->begin4 = (uint32_t *)(void *)(set->begin6 + n6);
	set->bits4 = (uint8_t *)(set->begin4 + n4);
	set->bits6 = set->bits4 + n4;
	for (size_t i = 0; i < n4; i++) {
		set->begin4[i] = (uint32_t)(item[i].begin >> 96);
		set->bits4[i] = item[i].bits;
	}
	for (size_t i = 0; i < n6; i++) {
		set->begin6[i] = item[n4 + i].begin;
		set->bits6[i] = item[n4 + i].bits;
	}
	for (size_t i = 0; i < n_scoped; i++)
		set->scoped[i] = scoped_of(&item[n4 + n6 + i]);
	return set;
}

int prefix_set_parse(const char *text, struct prefix_set **ret,
        void (*mistake)(const char *what, void *arg), void *arg)
{
	OWN_MEM struct item *item = NULL;
	size_t most = 1, n;

	for (const char *p = text; *(p += strspn(p, PREFIX_SEPARATORS)) != '\0'; most++)
		p += strcspn(p, PREFIX_SEPARATORS);
	item = calloc(most, sizeof(*item));
	if (!item)
		return -ENOMEM;
	if (prefix_read_items(text, item, &n, mistake, arg) != 0)
		return 1;
	struct prefix_set *set = set_new(item, items_reduce(item, n));

	if (!set)
		return -ENOMEM;
	*ret = set;
	return 0;
}

struct prefix_set *prefix_set_share(struct prefix_set *set)
{
	if (set)
		(void)atomic_fetch_add_explicit(&set->others, 1, memory_order_relaxed);
	return set;
}

struct prefix_set *prefix_set_free(struct prefix_set *set)
{
	/* The last one has to see all that the others did with it. */
	if (set && atomic_fetch_sub_explicit(&set->others, 1, memory_order_acq_rel) == 0)
		free(set);
	return NULL;
}

/* Both return the index of the last begin that is not above key, 0 if all are. The
 * compiler makes a conditional move of the choice: the way is not predictable. */
static size_t search4(const uint32_t *begin, size_t n, uint32_t key)
{
	size_t at = 0;

	for (size_t left = n; left > 1;) {
		size_t half = left / 2;

		at = begin[at + half] <= key ? at + half : at;
		left -= half;
	}
	return at;
}

static size_t search6(const bits128 *begin, size_t n, bits128 key)
{
	size_t at = 0;

	for (size_t left = n; left > 1;) {
		size_t half = left / 2;

		at = begin[at + half] <= key ? at + half : at;
		left -= half;
	}
	return at;
}

/* In order of the interface, then of the address; as those above. */
static size_t search_scoped(
        const struct scoped *scoped, size_t n, uint32_t scope, bits128 key)
{
	size_t at = 0;

	for (size_t left = n; left > 1;) {
		const struct scoped *middle = &scoped[at + left / 2];

		if (middle->scope < scope ||
		        (middle->scope == scope && middle->begin <= key))
			at += left / 2;
		left -= left / 2;
	}
	return at;
}

/* The text of network i in canonical order. */
static char *set_format(
        const struct prefix_set *set, size_t i, char buf[static PREFIX_TEXT_MAX])
{
	struct prefix prefix;

	if (i < set->n4) {
		prefix = prefix_of((bits128)set->begin4[i] << 96, AF_INET, set->bits4[i]);
		return prefix_format(&prefix, buf);
	}
	i -= set->n4;
	if (i < set->n6) {
		prefix = prefix_of(set->begin6[i], AF_INET6, set->bits6[i]);
		return prefix_format(&prefix, buf);
	}
	const struct scoped *scoped = &set->scoped[i - set->n6];

	prefix = prefix_of(scoped->begin, AF_INET6, scoped->bits);
	return prefix_format_scoped(&prefix, scoped->interface, buf);
}

/* As set_search. */
static ptrdiff_t set_search_scoped(
        const struct prefix_set *set, uint32_t scope, bits128 key)
{
	size_t i = search_scoped(set->scoped, set->n_scoped, scope, key);
	const struct scoped *scoped = &set->scoped[i];

	return scoped->scope == scope && (key & bits_mask(scoped->bits)) == scoped->begin
	               ? (ptrdiff_t)(set->n4 + set->n6 + i)
	               : -1;
}

/* Returns the index, in canonical order, of the network that has addr, or -1. */
static ptrdiff_t set_search(const struct prefix_set *set, const struct addr *addr)
{
	if (!set)
		return -1;
	bits128 key = bits_load(addr->bytes);

	if (addr->family == AF_INET) {
		size_t i = search4(set->begin4, set->n4, (uint32_t)(key >> 96));

		if (i < set->n4 &&
		        (key & bits_mask(set->bits4[i])) >> 96 == set->begin4[i])
			return (ptrdiff_t)i;
	} else if (addr->family == AF_INET6) {
		size_t i = search6(set->begin6, set->n6, key);

		if (set->n6 > 0 && (key & bits_mask(set->bits6[i])) == set->begin6[i])
			return (ptrdiff_t)(set->n4 + i);
		return addr->scope && set->n_scoped > 0
		               ? set_search_scoped(set, addr->scope, key)
		               : -1;
	}
	return -1;
}

bool prefix_set_match(const struct prefix_set *set, const struct addr *addr)
{
	return set_search(set, addr) >= 0;
}

int prefix_set_find(const struct prefix_set *set, const struct addr *addr,
        char buf[static PREFIX_TEXT_MAX])
{
	ptrdiff_t i = set_search(set, addr);

	if (i < 0)
		return 1;
	(void)set_format(set, (size_t)i, buf);
	return 0;
}

size_t prefix_set_count(const struct prefix_set *set)
{
	return set ? set->n4 + set->n6 + set->n_scoped : 0;
}

size_t prefix_set_format(const struct prefix_set *set, char *buf, size_t size)
{
	size_t len = 0;
	char text[PREFIX_TEXT_MAX];

	if (size > 0)
		*buf = '\0';
	for (size_t i = 0; i < prefix_set_count(set); i++) {
		size_t room = len < size ? size - len : 0;

		len += (size_t)snprintf(room > 0 ? buf + len : NULL, room, "%s%s",
		        i > 0 ? " " : "", set_format(set, i, text));
	}
	return len;
}
