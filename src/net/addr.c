/*
 * addr.c - internet addresses and tuples.
 *
 * Invariants: a struct addr is zero but for what its family uses; it is never v4-mapped:
 * every way in goes through addr_set_v6. Nothing here asks a name service, and only
 * addr_resolve and addr_name_as open a descriptor, so a worker may call all the others.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
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

bool addr_is_interface(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') &&
		        !(name[i] >= 'A' && name[i] <= 'Z') &&
		        !(name[i] >= '0' && name[i] <= '9') &&
		        !memchr("._-@+~", name[i], 6))
			return false;
	return len > 0 && len < ADDR_INTERFACE_MAX;
}

/* What stands behind the '%': the number of an interface, or its name. */
static int addr_parse_scope(const char *text, struct addr_named *ret)
{
	uint64_t scope;
	int r = parse_uint(text, &scope);

	if (r == 0 && (scope == 0 || scope > UINT32_MAX))
		r = -ERANGE;
	if (r == 0)
		ret->addr.scope = (uint32_t)scope;
	if (r != -EINVAL || !addr_is_interface(text, strlen(text)))
		return r < 0 ? -EINVAL : 0;
	(void)strcpy(ret->interface, text);
	return 0;
}

/* host without its brackets, with an optional %NUMBER or %NAME. */
static int addr_parse_v6(char *host, uint16_t port, struct addr_named *ret)
{
	struct in6_addr in6;
	struct addr_named named = {.interface = ""};
	char *percent = strchr(host, '%');

	if (percent) {
		*percent = '\0';
		if (addr_parse_scope(percent + 1, &named) < 0)
			return -EINVAL;
	}
	if (inet_pton(AF_INET6, host, &in6) != 1)
		return -EINVAL;
	addr_set_v6(&named.addr, &in6, named.addr.scope, port);
	/* To the kernel the interface of any other address means nothing: whoever listened on it would
	 * listen on all. */
	if (percent && !addr_is_link_local(&named.addr))
		return -EINVAL;
	*ret = named;
	return 0;
}

/* host, which is overwritten: "1.2.3.4", or if v6 "::1". */
static int addr_parse_part(char *host, bool v6, uint16_t port, struct addr_named *ret)
{
	struct in_addr in;

	if (v6)
		return addr_parse_v6(host, port, ret);
	if (inet_pton(AF_INET, host, &in) != 1)
		return -EINVAL;
	*ret = (struct addr_named){.interface = ""};
	addr_set_v4(&ret->addr, &in, port);
	return 0;
}

int addr_parse_named(const char *text, struct addr_named *ret)
{
	const char *colon = strrchr(text, ':');
	char host[ADDR_TEXT_MAX];
	uint64_t port;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	if (parse_uint(colon + 1, &port) < 0 || port > 65535)
		return -EINVAL;
	size_t len = (size_t)(colon - text);

	memcpy(host, text, len);
	host[len] = '\0';
	bool v6 = len >= 2 && host[0] == '[' && host[len - 1] == ']';

	if (v6)
		host[len - 1] = '\0';
	return addr_parse_part(v6 ? host + 1 : host, v6, (uint16_t)port, ret);
}

int addr_parse_host_named(const char *text, struct addr_named *ret)
{
	char host[ADDR_TEXT_MAX];
	size_t len = strlen(text);

	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len + 1);
	return addr_parse_part(host, strchr(host, ':'), 0, ret);
}

/* r: of the parser that has filled named. */
static int addr_take_unnamed(int r, const struct addr_named *named, struct addr *ret)
{
	if (r < 0 || *named->interface)
		return -EINVAL;
	*ret = named->addr;
	return 0;
}

int addr_parse(const char *text, struct addr *ret)
{
	struct addr_named named;

	return addr_take_unnamed(addr_parse_named(text, &named), &named, ret);
}

int addr_parse_host(const char *text, struct addr *ret)
{
	struct addr_named named;

	return addr_take_unnamed(addr_parse_host_named(text, &named), &named, ret);
}

int addr_resolve(struct addr_named *named)
{
	if (!*named->interface)
		return 0;
	errno = 0;
	uint32_t scope = if_nametoindex(named->interface);

	if (scope == 0)
		return errno ? -errno : -ENODEV;
	named->addr.scope = scope;
	return 0;
}

void addr_name_as(
        const struct addr *addr, const struct addr_named *asked, struct addr_named *ret)
{
	struct addr_named named = *asked;

	if (addr->scope == 0 || addr_resolve(&named) < 0 ||
	        named.addr.scope != addr->scope)
		named.interface[0] = '\0';
	named.addr = *addr;
	*ret = named;
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

char *addr_format_host_named(
        const struct addr_named *named, char buf[static ADDR_HOST_MAX])
{
	struct addr plain = named->addr;

	if (!*named->interface)
		return addr_format_host(&plain, buf);
	plain.scope = 0;
	size_t len = strlen(addr_format_host(&plain, buf));

	(void)snprintf(buf + len, ADDR_HOST_MAX - len, "%%%s", named->interface);
	return buf;
}

char *addr_format_named(const struct addr_named *named, char buf[static ADDR_TEXT_MAX])
{
	char host[ADDR_HOST_MAX];
	bool v6 = named->addr.family == AF_INET6;

	(void)snprintf(buf, ADDR_TEXT_MAX, "%s%s%s:%u", v6 ? "[" : "",
	        addr_format_host_named(named, host), v6 ? "]" : "", named->addr.port);
	return buf;
}

char *addr_format(const struct addr *addr, char buf[static ADDR_TEXT_MAX])
{
	return addr_format_named(&(struct addr_named){.addr = *addr}, buf);
}

bool addr_is_link_local(const struct addr *addr)
{
	return addr->family == AF_INET6 && addr->bytes[0] == 0xfe &&
	       (addr->bytes[1] & 0xc0) == 0x80;
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
