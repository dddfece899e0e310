/*
 * prefix_text.c - one network: made of an address, compared, and in words.
 *
 * Invariant: bits beyond a network's length are 0.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "net/prefix.h"
#include "net/prefix_item.h"

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
