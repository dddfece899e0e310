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
 * Invariants: an address is 128 bits here, IPv4 in the first 32, so that both families
 * share all code but the two arrays; bits beyond a network's length are 0; begins rise,
 * and no network begins before the end of the one before it.
 *
 * Reads next: fdpass.c.
 */
#include "net/prefix.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "base/parse.h"

/* Network order read as a number: the first bit of the address is the highest. */
__extension__ typedef unsigned __int128 bits128;

struct prefix_set {
	_Atomic unsigned
	        others; /* who else holds it: workers free sets, too (core/walk.h) */
	size_t n4, n6;
	/* Behind this struct, in one piece of memory. */
	bits128 *begin6;
	uint32_t *begin4;
	uint8_t *bits4, *bits6;
};

/* A network while a set is built. */
struct item {
	bits128 begin;
	uint8_t family, bits;
};

static bits128 bits_load(const uint8_t bytes[static 16])
{
	uint64_t half[2];

	memcpy(half, bytes, sizeof(half));
	return (bits128)be64toh(half[0]) << 64 | be64toh(half[1]);
}

static void bits_store(bits128 v, uint8_t bytes[static 16])
{
	uint64_t half[2] = {htobe64((uint64_t)(v >> 64)), htobe64((uint64_t)v)};

	memcpy(bytes, half, sizeof(half));
}

/* The first n bits set. */
static bits128 bits_mask(unsigned n)
{
	return n == 0 ? 0 : ~(bits128)0 << (128 - n);
}

static unsigned family_bits(uint8_t family)
{
	return family == AF_INET ? 32 : 128;
}

static struct prefix prefix_of(bits128 begin, uint8_t family, unsigned bits)
{
	struct prefix prefix = {.family = family, .bits = (uint8_t)bits};

	bits_store(begin, prefix.bytes);
	return prefix;
}

struct prefix prefix_mask(const struct addr *addr, unsigned bits4, unsigned bits6)
{
	unsigned bits = addr->family == AF_INET ? bits4 : bits6;

	if (addr->family == AF_UNSPEC)
		return (struct prefix){.family = AF_UNSPEC};
	if (bits > family_bits(addr->family))
		bits = family_bits(addr->family);
	return prefix_of(bits_load(addr->bytes) & bits_mask(bits), addr->family, bits);
}

bool prefix_equal(const struct prefix *a, const struct prefix *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

char *prefix_format(const struct prefix *prefix, char buf[static PREFIX_TEXT_MAX])
{
	if (prefix->family == AF_UNSPEC)
		return strcpy(buf, "none");
	/* Cannot fail: the family is known and the buffer is large enough. */
	(void)inet_ntop(prefix->family, prefix->bytes, buf, PREFIX_TEXT_MAX);
	if (prefix->bits < family_bits(prefix->family)) {
		size_t len = strlen(buf);

		(void)snprintf(buf + len, PREFIX_TEXT_MAX - len, "/%u", prefix->bits);
	}
	return buf;
}

/* The longest item that can be a network: an IPv6 address and its length. */
#define ITEM_MAX (INET6_ADDRSTRLEN + 4)
/* So much of an item that is none is shown. */
#define ITEM_SHOWN 40

#define SEPARATORS ", \t\r\n"
#define ITEMS_ALLOWED \
	"networks and addresses such as 203.0.113.0/24, 2001:db8::/32 or 198.51.100.7"

/* Where the items of a text go. */
struct reader {
	struct item *item;
	size_t n;
	bool mistaken;
	void (*mistake)(const char *what, void *arg);
	void *arg;
};

__attribute__((format(printf, 4, 5))) static void reader_complain(
        struct reader *r, const char *text, size_t len, const char *format, ...)
{
	char what[PREFIX_MISTAKE_MAX], *p = what;
	va_list args;

	r->mistaken = true;
	if (!r->mistake)
		return;
	*p++ = '\'';
	for (size_t i = 0; i < len && i < ITEM_SHOWN; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c > 32 && c < 127 && c != '\\')
			*p++ = (char)c;
		else
			p += sprintf(p, "\\x%02x", c);
	}
	p = stpcpy(p, len > ITEM_SHOWN ? "...' " : "' ");
	va_start(args, format);
	(void)vsnprintf(p, sizeof(what) - (size_t)(p - what), format, args);
	va_end(args);
	r->mistake(what, r->arg);
}

/* The length behind the slash, digits without a leading 0. */
static int length_parse(const char *text, unsigned greatest, unsigned *ret)
{
	uint64_t v;

	if ((text[0] == '0' && text[1] != '\0') || parse_uint(text, &v) < 0 ||
	        v > greatest)
		return -EINVAL;
	*ret = (unsigned)v;
	return 0;
}

/* A network whose address has bits beyond its length: names both things that may have
 * been meant. */
static void reader_complain_bits(struct reader *r, const char *text, size_t len,
        const struct prefix *whole, unsigned bits)
{
	struct prefix network =
	        prefix_of(bits_load(whole->bytes) & bits_mask(bits), whole->family, bits);
	char meant[PREFIX_TEXT_MAX], host[PREFIX_TEXT_MAX];

	reader_complain(r, text, len,
	        "has bits set beyond its length; allowed: %s for the network, %s for the "
	        "one "
	        "address",
	        prefix_format(&network, meant), prefix_format(whole, host));
}

/* The length of a v4-mapped network counts from the IPv6 address's first bit. */
static int length_parse_mapped(
        struct reader *r, const char *text, size_t len, const char *slash, unsigned *ret)
{
	if (length_parse(slash + 1, 128, ret) < 0 || *ret < 96) {
		reader_complain(r, text, len,
		        "is IPv4 in IPv6's form; allowed: a length of 96 to 128, or "
		        "IPv4's "
		        "own form with 0 to 32");
		return -EINVAL;
	}
	*ret -= 96;
	return 0;
}

/* Reads the address before the slash. */
static int host_parse(const char *host, struct prefix *ret, bool *ret_mapped)
{
	struct in6_addr in6;

	*ret = (struct prefix){.family = AF_INET, .bits = 32};
	*ret_mapped = false;
	if (inet_pton(AF_INET, host, ret->bytes) == 1)
		return 0;
	if (inet_pton(AF_INET6, host, &in6) != 1)
		return -EINVAL;
	*ret_mapped = IN6_IS_ADDR_V4MAPPED(&in6);
	if (*ret_mapped) {
		memcpy(ret->bytes, &in6.s6_addr[12], 4);
	} else {
		*ret = (struct prefix){.family = AF_INET6, .bits = 128};
		memcpy(ret->bytes, in6.s6_addr, 16);
	}
	return 0;
}

static void reader_take(struct reader *r, const char *text, size_t len)
{
	char host[ITEM_MAX + 1];
	struct prefix whole;
	bool mapped;

	(void)snprintf(host, sizeof(host), "%.*s", len < ITEM_MAX ? (int)len : 0, text);
	char *slash = strchr(host, '/');

	if (slash)
		*slash = '\0';
	if (host_parse(host, &whole, &mapped) < 0) {
		reader_complain(
		        r, text, len, "is no IP network; allowed: " ITEMS_ALLOWED);
		return;
	}
	unsigned bits = whole.bits, greatest = whole.bits;

	if (slash && mapped) {
		if (length_parse_mapped(r, text, len, slash, &bits) < 0)
			return;
	} else if (slash && length_parse(slash + 1, greatest, &bits) < 0) {
		reader_complain(r, text, len,
		        "has a wrong length behind its slash; allowed: 0 to %u",
		        greatest);
		return;
	}
	bits128 begin = bits_load(whole.bytes);

	if ((begin & ~bits_mask(bits)) != 0) {
		reader_complain_bits(r, text, len, &whole, bits);
		return;
	}
	r->item[r->n++] = (struct item){
	        .begin = begin, .family = whole.family, .bits = (uint8_t)bits};
}

static int item_compare(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;

	if (a->family != b->family)
		return a->family == AF_INET ? -1 : 1;
	if (a->begin != b->begin)
		return a->begin < b->begin ? -1 : 1;
	/* The wider one first: it has all the others. */
	return a->bits < b->bits ? -1 : a->bits > b->bits;
}

/* Does wide have item, which comes after it in order, and so is no wider? */
static bool item_has(const struct item *wide, const struct item *item)
{
	return wide->family == item->family &&
	       (item->begin & bits_mask(wide->bits)) == wide->begin;
}

/* Are low and high, in this order and not the same, the two halves of one network? */
static bool item_are_halves(const struct item *low, const struct item *high)
{
	return low->family == high->family && low->bits == high->bits && low->bits > 0 &&
	       low->begin == (high->begin & bits_mask(low->bits - 1U));
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
	return kept;
}

static struct prefix_set *set_new(const struct item *item, size_t n)
{
	size_t n4 = 0;

	while (n4 < n && item[n4].family == AF_INET)
		n4++;
	size_t n6 = n - n4, head = (sizeof(struct prefix_set) + 15) / 16 * 16;
	char *memory =
	        aligned_alloc(16, (head + 16 * n6 + 4 * n4 + n4 + n6 + 15) / 16 * 16);

	if (!memory)
		return NULL;
	struct prefix_set *set = (struct prefix_set *)(void *)memory;

	atomic_init(&set->others, 0);
	set->n4 = n4;
	set->n6 = n6;
	set->begin6 = (bits128 *)(void *)(memory + head);
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
	return set;
}

int prefix_set_parse(const char *text, struct prefix_set **ret,
        void (*mistake)(const char *what, void *arg), void *arg)
{
	OWN_MEM struct item *item = NULL;
	size_t most = 1;

	for (const char *p = text; *(p += strspn(p, SEPARATORS)) != '\0'; most++)
		p += strcspn(p, SEPARATORS);
	item = calloc(most, sizeof(*item));
	if (!item)
		return -ENOMEM;
	struct reader reader = {.item = item, .mistake = mistake, .arg = arg};

	for (const char *p = text; *(p += strspn(p, SEPARATORS)) != '\0';) {
		size_t len = strcspn(p, SEPARATORS);

		reader_take(&reader, p, len);
		p += len;
	}
	/* Something was meant to be there, and an empty list may mean everybody. */
	if (reader.n == 0 && !reader.mistaken && strchr(text, ','))
		reader_complain(&reader, text, strlen(text),
		        "has commas and no network; allowed: " ITEMS_ALLOWED
		        ", or nothing at all");
	if (reader.mistaken)
		return 1;
	struct prefix_set *set = set_new(item, items_reduce(item, reader.n));

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

/* Network i in canonical order. */
static struct prefix set_get(const struct prefix_set *set, size_t i)
{
	if (i < set->n4)
		return prefix_of((bits128)set->begin4[i] << 96, AF_INET, set->bits4[i]);
	i -= set->n4;
	return prefix_of(set->begin6[i], AF_INET6, set->bits6[i]);
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
	}
	return -1;
}

bool prefix_set_match(const struct prefix_set *set, const struct addr *addr)
{
	return set_search(set, addr) >= 0;
}

int prefix_set_find(
        const struct prefix_set *set, const struct addr *addr, struct prefix *ret)
{
	ptrdiff_t i = set_search(set, addr);

	if (i < 0)
		return 1;
	*ret = set_get(set, (size_t)i);
	return 0;
}

size_t prefix_set_count(const struct prefix_set *set)
{
	return set ? set->n4 + set->n6 : 0;
}

size_t prefix_set_format(const struct prefix_set *set, char *buf, size_t size)
{
	size_t len = 0;
	char text[PREFIX_TEXT_MAX];

	if (size > 0)
		*buf = '\0';
	for (size_t i = 0; i < prefix_set_count(set); i++) {
		struct prefix prefix = set_get(set, i);
		size_t room = len < size ? size - len : 0;

		len += (size_t)snprintf(room > 0 ? buf + len : NULL, room, "%s%s",
		        i > 0 ? " " : "", prefix_format(&prefix, text));
	}
	return len;
}
