/*
 * target.c - see target.h. The only file of portload that asks a name service, before any
 * process is forked.
 *
 * Invariant: addresses are counted from the base on in network order, so that the sources of
 * two processes never meet (plan.c).
 */
#include "load/target.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/own.h"
#include "base/parse.h"

/* 127.0.0.0 and 127.255.255.255 are nobody's; 127.0.0.1 is usually the target: a client from
 * there to a port of the ephemeral range could meet itself. */
#define LOOPBACK_FIRST  (INADDR_LOOPBACK + 1)
#define LOOPBACK_COUNT  ((uint64_t)0x7ffffffe - LOOPBACK_FIRST + 1)
#define HOST_NAME_BYTES 256

static int resolve(
        const char *host, const char *port, struct addr *ret, const char **ret_why)
{
	const struct addrinfo hints = {
	        .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *list = NULL, *chosen;
	/* AI_ADDRCONFIG does not count loopback: a machine without a network asks again. */
	int r = getaddrinfo(host, port, &hints, &list);
	if (r == EAI_NONAME || r == EAI_ADDRFAMILY) {
		const struct addrinfo any = {.ai_socktype = SOCK_STREAM};
		r = getaddrinfo(host, port, &any, &list);
	}
	if (r != 0) {
		*ret_why = gai_strerror(r);
		return 1;
	}
	for (chosen = list; chosen && chosen->ai_family != AF_INET;
	        chosen = chosen->ai_next)
		;
	if (!chosen)
		chosen = list;
	r = chosen ? addr_from_sockaddr(chosen->ai_addr, chosen->ai_addrlen, ret)
	           : -EINVAL;
	freeaddrinfo(list);
	return r < 0 ? -EINVAL : 0;
}

/* A name with its port. */
static int parse_name(const char *text, struct addr *ret, const char **ret_why)
{
	char host[HOST_NAME_BYTES];
	const char *colon = strrchr(text, ':');
	uint64_t port;

	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(host) ||
	        parse_uint(colon + 1, &port) < 0 || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	(void)snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	/* What has colons or brackets is an address written wrong, no name. */
	if (strpbrk(host, ":[]%/"))
		return -EINVAL;
	return resolve(host, colon + 1, ret, ret_why);
}

int target_parse(const char *text, struct addr *ret, char told[static ADDR_TEXT_MAX],
        const char **ret_why)
{
	struct addr_named named;
	int r = addr_parse_named(text, &named);

	if (r < 0) {
		r = parse_name(text, ret, ret_why);
		if (r == 0)
			(void)addr_format(ret, told);
		return r;
	}
	if (named.addr.port == 0)
		return -EINVAL;
	r = addr_resolve(&named);
	if (r == 0 && addr_is_link_local(&named.addr) && named.addr.scope == 0) {
		*ret_why = "a link-local address needs its interface, such as "
		           "[fe80::1%eth0]:7777";
		return 1;
	}
	if (r < 0) {
		*ret_why =
		        r == -ENODEV ? "there is no such interface" : strerrordesc_np(-r);
		return 1;
	}
	*ret = named.addr;
	(void)addr_format_named(&named, told);
	return 0;
}

bool target_is_loopback(const struct addr *addr)
{
	static const uint8_t one[16] = {[15] = 1};
	if (addr->family == AF_INET)
		return addr->bytes[0] == 127;
	return addr->family == AF_INET6 && memcmp(addr->bytes, one, sizeof(one)) == 0;
}

/* "ADDRESS/BITS" or "ADDRESS". */
static int parse_network(
        const char *text, const struct addr *target, struct source_range *ret)
{
	char host[ADDR_HOST_MAX];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	uint64_t bits, width;

	if (len >= sizeof(host))
		return -EINVAL;
	(void)snprintf(host, sizeof(host), "%.*s", (int)len, text);
	struct addr_named named;

	if (addr_parse_host_named(host, &named) < 0)
		return -EINVAL;
	if (addr_resolve(&named) < 0)
		return -ENODEV;
	ret->base = named.addr;
	/* To a link-local target there is no way but from its own interface. */
	if (addr_is_link_local(&ret->base) && ret->base.scope == 0)
		ret->base.scope = target->scope;
	width = ret->base.family == AF_INET ? 32 : 128;
	bits = width;
	if (slash && (parse_uint(slash + 1, &bits) < 0 || bits > width))
		return -EINVAL;
	if (ret->base.family != target->family)
		return -EAFNOSUPPORT;

	/* The network's first address, by clearing what is behind its bits. */
	for (uint64_t bit = bits; bit < width; bit++)
		ret->base.bytes[bit / 8] &= (uint8_t) ~(0x80U >> bit % 8);
	uint64_t free_bits = width - bits;
	ret->count = UINT64_C(1) << (free_bits < 32 ? free_bits : 32);
	if (free_bits >= 2) {
		/* Without the address of the network itself, and of its broadcast. */
		target_source(&(struct source_range){.base = ret->base}, 1, &ret->base);
		ret->count -= 2;
	}
	if (ret->count > OPTIONS_SOURCES_MAX)
		ret->count = OPTIONS_SOURCES_MAX;
	ret->limit = ret->count;
	return 0;
}

/* What is there without being named. */
static void own_addresses(const struct addr *target, struct source_range *ret)
{
	*ret = (struct source_range){.limit = 1};
	if (target->family == AF_INET && target_is_loopback(target)) {
		uint32_t first = htonl(LOOPBACK_FIRST);
		ret->base.family = AF_INET;
		memcpy(ret->base.bytes, &first, sizeof(first));
		ret->limit = LOOPBACK_COUNT;
	}
}

int target_sources(const char *text, const struct addr *target, struct source_range *ret)
{
	uint64_t count;

	own_addresses(target, ret);
	if (!text)
		return 0;
	int r = parse_uint(text, &count);
	if (r == -EINVAL)
		return parse_network(text, target, ret);
	if (r < 0 || count == 0 || count > OPTIONS_SOURCES_MAX)
		return -ERANGE;
	if (count > ret->limit)
		return -EADDRNOTAVAIL;
	ret->count = ret->limit = count;
	return 0;
}

void target_source(const struct source_range *range, uint64_t index, struct addr *ret)
{
	*ret = range->base;
	ret->port = 0;
	for (int i = ret->family == AF_INET ? 3 : 15; i >= 0 && index; i--) {
		index += ret->bytes[i];
		ret->bytes[i] = (uint8_t)index;
		index >>= 8;
	}
}
