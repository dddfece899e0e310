/*
 * prefix.h - networks: an address and how many of its bits count, and immutable sets of
 * them, as lists in the configuration are («203.0.113.0/24, 2001:db8::/32 198.51.100.7»).
 *
 * IPv4 and IPv6 are two worlds: 0.0.0.0/0 is all of IPv4, ::/0 all of IPv6. A v4-mapped
 * address or network is IPv4 (addr.h). An IPv6 scope does not count: a link-local client
 * is the same network on every interface, but for the networks of a set that name one
 * («fe80::%eth0/64», «fe80::1%3»).
 *
 * Any thread may call all of these. Who holds a set may share it or give it up while others do so,
 * too. What builds a set looks interfaces up, which opens a descriptor for a moment.
 */
#ifndef NET_PREFIX_H
#define NET_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/addr.h"

/* Longest text of prefix_format and of a network of a set, with its NUL. */
#define PREFIX_TEXT_MAX 64
/* Longest text that a mistake is told in, with its NUL. */
#define PREFIX_MISTAKE_MAX 320

/* All of it counts when two are compared, so it has no padding. */
struct prefix {
	uint8_t bytes[16]; /* network order, 0 beyond bits; IPv4 uses the first four */
	uint8_t family;    /* AF_INET, AF_INET6, or AF_UNSPEC when empty */
	uint8_t bits;      /* 0 to 32, 0 to 128 */
};

_Static_assert(sizeof(struct prefix) == 18, "a prefix is compared and hashed as bytes");

/* The network of addr: its first bits4 (at most 32) or bits6 (at most 128) bits, by its
 * family; more count as all. */
struct prefix prefix_mask(const struct addr *addr, unsigned bits4, unsigned bits6);
bool prefix_equal(const struct prefix *a, const struct prefix *b);

/* "203.0.113.0/24"; an address without its length if all bits count: "198.51.100.7".
 * "none" if empty. Returns the buffer. */
char *prefix_format(const struct prefix *prefix, char buf[static PREFIX_TEXT_MAX]);

/* Immutable. NULL is the empty set wherever a set is read. Takes 5 bytes for each IPv4 and
 * 17 for each IPv6 network that is left once those inside others are gone and halves have
 * become wholes; building one takes some 70 bytes for each network of the text. */
struct prefix_set;

/* Builds a set from text: networks and addresses separated by commas, blanks, line ends.
 * Empty text gives an empty set; commas with nothing between them are a mistake. Calls
 * mistake(what, arg) for every item that is none, with the item, what is wrong with it and what is
 * allowed (or the right spelling), on one line, control and other odd bytes of the text as \xNN;
 * mistake may be NULL. O(n log n). Returns 0 and hands the set over; 1 if there was a mistake;
 * -ENOMEM. */
int prefix_set_parse(const char *text, struct prefix_set **ret,
        void (*mistake)(const char *what, void *arg), void *arg);
/* One more holder, who frees it too: the memory goes with the last of them, in whatever thread. For
 * who holds the set. Returns set; NULL is accepted. */
struct prefix_set *prefix_set_share(struct prefix_set *set);
/* NULL is accepted. Always returns NULL. */
struct prefix_set *prefix_set_free(struct prefix_set *set);

/* Is the address in one of the networks? O(log n). */
bool prefix_set_match(const struct prefix_set *set, const struct addr *addr);
/* The same, and says in which, as prefix_set_format has it: 0 and buf; 1 if in none. */
int prefix_set_find(const struct prefix_set *set, const struct addr *addr,
        char buf[static PREFIX_TEXT_MAX]);

/* How many networks are left, as above. */
size_t prefix_set_count(const struct prefix_set *set);
/* The canonical text: IPv4 first, in order, one blank between; prefix_set_parse reads it
 * back as the same set, and two sets match the same addresses only if their texts are the
 * same (but for an interface that has several names, or is named and numbered). Not longer than
 * what it was read from, but for IPv6 of the form ::192.0.2.1 and where :: stands for one group
 * (1:2:3:4:5:6::8). As
 * snprintf(3): writes at most size bytes with the NUL, returns the length that it needs
 * without it. */
size_t prefix_set_format(const struct prefix_set *set, char *buf, size_t size);

#endif
