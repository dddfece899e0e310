/*
 * addr.c - internet addresses and tuples.
 *
 * Invariants: a struct addr is zero but for what its family uses; it is never v4-mapped:
 * every way in goes through addr_set_v6. Nothing here asks a name service or opens a
 * descriptor, so a worker may call all of it: an IPv6 scope is a number, never an
 * interface's name.
 *
 * Reads next: sock.c.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"

static void addr_set_v4(struct addr *a, const void *bytes, uint16_t port)
{
	*a = (struct addr){.family = AF_INET, .port = port};
	memcpy(a->bytes, bytes, 4);
}

static void addr_set_v6(
        struct addr *a, const struct in6_addr *in6, uint32_t scope, uint16_t port)
{
	if (IN6_IS_ADDR_V4MAPPED(in6)) {
		addr_set_v4(a, &in6->s6_addr[12], port);
		return;
	}
	*a = (struct addr){.family = AF_INET6, .port = port, .scope = scope};
	memcpy(a->bytes, in6->s6_addr, 16);
}

int addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *ret)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (len < (socklen_t)sizeof(sa->sa_family))
		return -EAFNOSUPPORT;
	if (sa->sa_family == AF_INET && len >= (socklen_t)sizeof(in)) {
		memcpy(&in, sa, sizeof(in));
		addr_set_v4(ret, &in.sin_addr, ntohs(in.sin_port));
		return 0;
	}
	if (sa->sa_family == AF_INET6 && len >= (socklen_t)sizeof(in6)) {
		memcpy(&in6, sa, sizeof(in6));
		addr_set_v6(ret, &in6.sin6_addr, in6.sin6_scope_id, ntohs(in6.sin6_port));
		return 0;
	}
	return -EAFNOSUPPORT;
}

socklen_t addr_to_sockaddr(const struct addr *addr, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (addr->family == AF_INET) {
		struct sockaddr_in in = {
		        .sin_family = AF_INET, .sin_port = htons(addr->port)};

		memcpy(&in.sin_addr, addr->bytes, 4);
		memcpy(ret, &in, sizeof(in));
		return sizeof(in);
	}
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
	        .sin6_port = htons(addr->port),
	        .sin6_scope_id = addr->scope};

	memcpy(&in6.sin6_addr, addr->bytes, 16);
	memcpy(ret, &in6, sizeof(in6));
	return sizeof(in6);
}

/* host without its brackets, with an optional %NUMBER. */
static int addr_parse_v6(char *host, uint16_t port, struct addr *ret)
{
	struct in6_addr in6;
	uint64_t scope = 0;
	char *percent = strchr(host, '%');

	if (percent) {
		*percent = '\0';
		if (parse_uint(percent + 1, &scope) < 0 || scope == 0 ||
		        scope > UINT32_MAX)
			return -EINVAL;
	}
	if (inet_pton(AF_INET6, host, &in6) != 1)
		return -EINVAL;
	if (scope != 0 && IN6_IS_ADDR_V4MAPPED(&in6))
		return -EINVAL;
	addr_set_v6(ret, &in6, (uint32_t)scope, port);
	return 0;
}

int addr_parse(const char *text, struct addr *ret)
{
	const char *colon = strrchr(text, ':');
	char host[ADDR_TEXT_MAX];
	struct in_addr in;
	uint64_t port;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	if (parse_uint(colon + 1, &port) < 0 || port > 65535)
		return -EINVAL;
	size_t len = (size_t)(colon - text);

	memcpy(host, text, len);
	host[len] = '\0';
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		return addr_parse_v6(host + 1, (uint16_t)port, ret);
	}
	if (inet_pton(AF_INET, host, &in) != 1)
		return -EINVAL;
	addr_set_v4(ret, &in, (uint16_t)port);
	return 0;
}

int addr_parse_host(const char *text, struct addr *ret)
{
	char host[ADDR_TEXT_MAX];
	struct in_addr in;
	size_t len = strlen(text);

	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len + 1);
	if (strchr(host, ':'))
		return addr_parse_v6(host, 0, ret);
	if (inet_pton(AF_INET, host, &in) != 1)
		return -EINVAL;
	addr_set_v4(ret, &in, 0);
	return 0;
}

char *addr_format_host(const struct addr *addr, char buf[static ADDR_HOST_MAX])
{
	buf[0] = '\0';
	if (addr->family == AF_UNSPEC)
		return strcpy(buf, "none");
	/* Cannot fail: the family is known and the buffer is large enough. */
	(void)inet_ntop(addr->family, addr->bytes, buf, ADDR_HOST_MAX);
	if (addr->scope != 0) {
		size_t len = strlen(buf);

		(void)snprintf(buf + len, ADDR_HOST_MAX - len, "%%%u", addr->scope);
	}
	return buf;
}

char *addr_format(const struct addr *addr, char buf[static ADDR_TEXT_MAX])
{
	char host[ADDR_HOST_MAX];

	if (addr->family == AF_INET6)
		(void)snprintf(buf, ADDR_TEXT_MAX, "[%s]:%u",
		        addr_format_host(addr, host), addr->port);
	else
		(void)snprintf(buf, ADDR_TEXT_MAX, "%s:%u", addr_format_host(addr, host),
		        addr->port);
	return buf;
}

bool addr_is_any(const struct addr *addr)
{
	static const uint8_t zero[16];

	return addr->family != AF_UNSPEC && memcmp(addr->bytes, zero, sizeof(zero)) == 0;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->port == b->port && a->scope == b->scope &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

int addr_of_peer(int fd, struct addr *ret)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(struct sockaddr_in6);

	*ret = (struct addr){.family = AF_UNSPEC};
	int r = getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &sa, &len);
	/* EINVAL: it is not as long as that. */
	if (r < 0 && errno == EINVAL) {
		len = sizeof(struct sockaddr_in);
		r = getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &sa, &len);
	}
	return r < 0 ? -errno : addr_from_sockaddr((struct sockaddr *)&sa, len, ret);
}

int tuple_from_socket(int fd, struct tuple *ret)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct tuple tuple;
	int r;

	sa.ss_family = AF_UNSPEC;
	/* getpeername(2) says ENOTCONN for a socket in state CLOSE, as the contract does.
	 */
	if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	r = addr_from_sockaddr((const struct sockaddr *)&sa, len, &tuple.src);
	if (r < 0)
		return r;
	len = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	r = addr_from_sockaddr((const struct sockaddr *)&sa, len, &tuple.dst);
	if (r < 0)
		return r;
	*ret = tuple;
	return 0;
}

unsigned tuple_format(const struct tuple *tuple, char buf[static TUPLE_TEXT_MAX])
{
	char src[ADDR_HOST_MAX], dst[ADDR_HOST_MAX];

	int len = snprintf(buf, TUPLE_TEXT_MAX, "tcp %s %u %s %u\n",
	        addr_format_host(&tuple->src, src), tuple->src.port,
	        addr_format_host(&tuple->dst, dst), tuple->dst.port);

	return (unsigned)len;
}
