/*
 * prefix_item.h - networks on their way from a text into a set: between prefix_read.c and prefix.c
 * only.
 */
#ifndef NET_PREFIX_ITEM_H
#define NET_PREFIX_ITEM_H

#include <endian.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "net/prefix.h"

#define PREFIX_SEPARATORS ", \t\r\n"

/* Network order read as a number: the first bit of the address is the highest. */
__extension__ typedef unsigned __int128 bits128;

/* A network while a set is built. */
struct item {
	bits128 begin;
	const char *interface; /* in the text, up to a separator or '/'; NULL: none */
	uint32_t scope;        /* 0: the network is one of every interface */
	uint8_t family, bits;
};

static inline bits128 bits_load(const uint8_t bytes[static 16])
{
	uint64_t half[2];

	memcpy(half, bytes, sizeof(half));
	return (bits128)be64toh(half[0]) << 64 | be64toh(half[1]);
}

static inline void bits_store(bits128 v, uint8_t bytes[static 16])
{
	uint64_t half[2] = {htobe64((uint64_t)(v >> 64)), htobe64((uint64_t)v)};

	memcpy(bytes, half, sizeof(half));
}

/* The first n bits set. */
static inline bits128 bits_mask(unsigned n)
{
	return n == 0 ? 0 : ~(bits128)0 << (128 - n);
}

static inline unsigned family_bits(uint8_t family)
{
	return family == AF_INET ? 32 : 128;
}

static inline struct prefix prefix_of(bits128 begin, uint8_t family, unsigned bits)
{
	struct prefix prefix = {.family = family, .bits = (uint8_t)bits};

	bits_store(begin, prefix.bytes);
	return prefix;
}

/* How long the name of an item's interface is in the text. */
static inline size_t item_interface_len(const char *interface)
{
	return strcspn(interface, "/" PREFIX_SEPARATORS);
}

/* prefix_format, with the name of an interface: «fe80::%eth0/64». */
static inline char *prefix_format_scoped(const struct prefix *prefix,
        const char *interface, char buf[static PREFIX_TEXT_MAX])
{
	struct prefix host = *prefix;

	host.bits = (uint8_t)family_bits(prefix->family);
	size_t len = strlen(prefix_format(&host, buf));

	len += (size_t)snprintf(buf + len, PREFIX_TEXT_MAX - len, "%%%.*s",
	        (int)item_interface_len(interface), interface);
	if (prefix->bits < host.bits)
		(void)snprintf(buf + len, PREFIX_TEXT_MAX - len, "/%u", prefix->bits);
	return buf;
}

/* Reads text into item, which has room for all that it may hold. Returns 0 with *ret_n, or 1 after
 * telling of every item that is none, as prefix_set_parse. */
int prefix_read_items(const char *text, struct item *item, size_t *ret_n,
        void (*mistake)(const char *what, void *arg), void *arg);

#endif
