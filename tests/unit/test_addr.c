/*
 * test_addr.c - addresses as text and as the kernel has them, and the tuples of real
 * connections over IPv4, IPv6 and IPv4 through an IPv6 listener.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/own.h"
#include "net/addr.h"

Test(addr, text_there_and_back)
{
	static const struct {
		const char *in, *out;
		uint8_t family;
	} rows[] = {
	        {"0.0.0.0:0", "0.0.0.0:0", AF_INET},
	        {"127.0.0.1:7777", "127.0.0.1:7777", AF_INET},
	        {"255.255.255.255:65535", "255.255.255.255:65535", AF_INET},
	        {"[::]:7777", "[::]:7777", AF_INET6},
	        {"[::1]:80", "[::1]:80", AF_INET6},
	        {"[2001:DB8:0:0::1]:443", "[2001:db8::1]:443", AF_INET6},
	        {"[fe80::1%2]:1", "[fe80::1%2]:1", AF_INET6},
	        {"[::ffff:192.0.2.7]:9", "192.0.2.7:9", AF_INET},
	        {"[::ffff:0:0]:9", "0.0.0.0:9", AF_INET},
	        /* The longest of all. */
	        {"[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535",
	                "[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535",
	                AF_INET6},
	};
	char buf[ADDR_TEXT_MAX];
	struct addr a, b;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert_eq(addr_parse(rows[i].in, &a), 0, "%s", rows[i].in);
		cr_assert_eq(a.family, rows[i].family, "%s", rows[i].in);
		cr_assert_str_eq(addr_format(&a, buf), rows[i].out);
		cr_assert_eq(addr_parse(buf, &b), 0, "%s", buf);
		cr_assert(addr_equal(&a, &b), "%s", buf);
	}
}

Test(addr, text_that_is_none)
{
	static const char *const bad[] = {"", ":", ":80", "127.0.0.1",
	        "127.0.0.1:", "7777", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1",
	        "127.0.0.1: 80", "127.0.0.1:80 ", " 127.0.0.1:80", "127.0.0.1:80x",
	        "127.0.0.1:0x50", "127.0.0.1:99999999999999999999", "127.1:80",
	        "0127.0.0.1:80", "256.0.0.1:80", "127.0.0.1.1:80", "localhost:80", "*:80",
	        "[127.0.0.1]:80", "::1:80", "[::1]", "[::1]:", "[::1]80", "[::1:80",
	        "::1]:80", "[]:80", "[::1]]:80", "[[::1]]:80", "[1::2::3]:80",
	        "[12345::]:80", "[fe80::1%]:80", "[fe80::1%lo]:80", "[fe80::1%0]:80",
	        "[fe80::1%-1]:80", "[fe80::1%4294967296]:80", "[::ffff:192.0.2.7%2]:80",
	        "[::1]:80:80",
	        "[1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:"
	        "1111:1111:"
	        "1111]:80"};
	char before[sizeof(struct addr)];
	struct addr a;

	memset(&a, 0x5a, sizeof(a));
	memcpy(before, &a, sizeof(a));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_eq(addr_parse(bad[i], &a), -EINVAL, "'%s'", bad[i]);
		cr_assert_eq(
		        memcmp(before, &a, sizeof(a)), 0, "'%s' was written", bad[i]);
	}
}

Test(addr, an_address_alone)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
	        {"1.2.3.4", "1.2.3.4"},
	        {"::1", "::1"},
	        {"2001:DB8:0:0::7", "2001:db8::7"},
	        {"fe80::1%7", "fe80::1%7"},
	        {"::ffff:1.2.3.4", "1.2.3.4"},
	};
	static const char *const bad[] = {"", " ", "1.2.3", "1.2.3.4 ", "01.2.3.4",
	        "1.2.3.4:5", "[::1]", "[::1]:5", "::1%lo", "::1%", "::ffff:1.2.3.4%1",
	        "1.2.3.4%1", ":", "1.2.3.4/8", "::1/64", "localhost",
	        "0000:0000:0000:0000:0000:0000:0000:0001%"
	        "000000000000000000000000000000000000000007"};
	char buf[ADDR_HOST_MAX];
	struct addr a;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert_eq(addr_parse_host(rows[i].in, &a), 0, "%s", rows[i].in);
		cr_assert_str_eq(addr_format_host(&a, buf), rows[i].out);
		cr_assert_eq(a.port, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_eq(addr_parse_host(bad[i], &a), -EINVAL, "'%s'", bad[i]);
}

Test(addr, interfaces_by_name)
{
	static const struct {
		const char *in, *host;
	} rows[] = {
	        {"[fe80::1%lo]:7777", "fe80::1%lo"},
	        {"[fe80::1%eth0.100]:0", "fe80::1%eth0.100"},
	        {"[fe80::1%a-b_c@d+e~f]:1", "fe80::1%a-b_c@d+e~f"},
	        {"[fe80::1%3]:65535", "fe80::1%3"},
	        {"[::1]:80", "::1"},
	        {"192.0.2.1:80", "192.0.2.1"},
	        {"[fe80:1111:2222:3333:4444:5555:6666:7777%fifteen-letters]:65535",
	                "fe80:1111:2222:3333:4444:5555:6666:7777%fifteen-letters"},
	};
	static const char *const bad[] = {"[fe80::1%]:80", "[fe80::1%0]:80",
	        "[fe80::1%4294967296]:80", "[fe80::1%sixteen-letters-]:80",
	        "[fe80::1%a b]:80", "[fe80::1%a\"b]:80", "[fe80::1%a/b]:80",
	        "[fe80::1%lo%lo]:80", "[::ffff:192.0.2.7%lo]:80", "192.0.2.7%lo:80",
	        "[::%lo]:80", "[::1%lo]:80", "[::1%1]:80", "[2001:db8::1%lo]:80",
	        "[fe7f::1%lo]:80", "[fec0::1%lo]:80", "[ff02::1%lo]:80", "fe80::1%lo:80",
	        "[%lo]:80"};
	char buf[ADDR_TEXT_MAX], host[ADDR_HOST_MAX];
	struct addr_named a;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert_eq(addr_parse_named(rows[i].in, &a), 0, "%s", rows[i].in);
		cr_assert_str_eq(addr_format_named(&a, buf), rows[i].in);
		cr_assert_str_eq(addr_format_host_named(&a, host), rows[i].host);
		cr_assert_eq(addr_parse_host_named(host, &a), 0, "%s", host);
		cr_assert_str_eq(addr_format_host_named(&a, host), rows[i].host);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_eq(addr_parse_named(bad[i], &a), -EINVAL, "'%s'", bad[i]);
}

/* lo has the number 1 in every network namespace. */
Test(addr, interfaces_are_looked_up)
{
	struct addr_named a, like;
	struct addr bound;
	char buf[ADDR_TEXT_MAX];

	cr_assert_eq(addr_parse_named("[fe80::1%lo]:7", &a), 0);
	cr_assert_eq(addr_resolve(&a), 0);
	cr_assert_eq(a.addr.scope, 1);
	cr_assert_str_eq(addr_format_named(&a, buf), "[fe80::1%lo]:7");
	bound = a.addr;
	bound.port = 9;
	addr_name_as(&bound, &a, &like);
	cr_assert_str_eq(addr_format_named(&like, buf), "[fe80::1%lo]:9");
	bound.scope = 2;
	addr_name_as(&bound, &a, &like);
	cr_assert_str_eq(addr_format_named(&like, buf), "[fe80::1%2]:9");
	cr_assert_eq(addr_parse_named("[fe80::1%3]:7", &a), 0);
	cr_assert_eq(addr_resolve(&a), 0);
	cr_assert_eq(a.addr.scope, 3);
	cr_assert_eq(addr_parse_named("[fe80::1%no-such-one]:7", &a), 0);
	cr_assert_eq(addr_resolve(&a), -ENODEV);
}

Test(addr, link_local)
{
	static const char *const yes[] = {"fe80::1", "febf:ffff::", "fe80::1%2"};
	static const char *const no[] = {"fe7f::1", "fec0::1", "::1", "254.128.0.1"};
	struct addr a;

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		cr_assert_eq(addr_parse_host(yes[i], &a), 0);
		cr_assert(addr_is_link_local(&a), "%s", yes[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
		cr_assert_eq(addr_parse_host(no[i], &a), 0);
		cr_assert_not(addr_is_link_local(&a), "%s", no[i]);
	}
}

Test(addr, sockaddr_there_and_back)
{
	static const char *const texts[] = {
	        "192.0.2.1:7", "[2001:db8::1]:8", "[fe80::1%3]:9"};
	struct sockaddr_storage sa;
	struct addr a, b;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		cr_assert_eq(addr_parse(texts[i], &a), 0);
		socklen_t len = addr_to_sockaddr(&a, &sa);

		cr_assert_eq(len, a.family == AF_INET ? sizeof(struct sockaddr_in)
		                                      : sizeof(struct sockaddr_in6));
		cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, len, &b), 0);
		cr_assert(addr_equal(&a, &b), "%s", texts[i]);
		cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, len - 1, &b),
		        -EAFNOSUPPORT, "%s was read beyond its end", texts[i]);
	}
	sa.ss_family = AF_UNIX;
	cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, sizeof(sa), &b),
	        -EAFNOSUPPORT);
	cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, 0, &b), -EAFNOSUPPORT);
	cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, 1, &b), -EAFNOSUPPORT);
}

Test(addr, any_and_equal)
{
	struct addr a, b, empty = {.family = AF_UNSPEC};
	char buf[ADDR_HOST_MAX];

	addr_parse("0.0.0.0:1", &a);
	cr_assert(addr_is_any(&a));
	addr_parse("[::]:1", &b);
	cr_assert(addr_is_any(&b));
	cr_assert(!addr_equal(&a, &b), "0.0.0.0 is not ::");
	cr_assert(!addr_is_any(&empty));
	cr_assert_str_neq(addr_format_host(&empty, buf), "");
	addr_parse("[::1]:1", &a);
	cr_assert(!addr_is_any(&a));
	addr_parse("[::1]:2", &b);
	cr_assert(!addr_equal(&a, &b), "ports differ");
	addr_parse("[fe80::1%1]:1", &a);
	addr_parse("[fe80::1%2]:1", &b);
	cr_assert(!addr_equal(&a, &b), "scopes differ");
	addr_parse("[fe80::2%1]:1", &b);
	cr_assert(!addr_equal(&a, &b), "addresses differ");
}

/* A listener on any port of an address, or -1 where the machine has no such family. */
static int listen_on(const char *text, uint16_t *ret_port)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct addr a;

	cr_assert_eq(addr_parse(text, &a), 0);
	OWN_FD int fd = socket(a.family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&a, &sa)) < 0)
		return -1;
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, len, &a), 0);
	*ret_port = a.port;
	return TAKE_FD(fd);
}

/* A client from one address to another; *ret_port is its own port. */
static int connect_from(
        const char *from, const char *to, uint16_t port, uint16_t *ret_port)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct addr src, dst;
	char text[ADDR_TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%s:%u", to, port);
	cr_assert_eq(addr_parse(text, &dst), 0);
	(void)snprintf(text, sizeof(text), "%s:0", from);
	cr_assert_eq(addr_parse(text, &src), 0);
	OWN_FD int fd = socket(dst.family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&src, &sa)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, addr_to_sockaddr(&dst, &sa)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	cr_assert_eq(addr_from_sockaddr((struct sockaddr *)&sa, len, &src), 0);
	*ret_port = src.port;
	return TAKE_FD(fd);
}

/* The server's tuple of a real connection, as its line. */
static void assert_tuple(const char *listener, const char *from, const char *to,
        const char *src_text, const char *dst_text)
{
	uint16_t port, client_port;
	OWN_FD int listen_fd = listen_on(listener, &port);
	char expected[TUPLE_TEXT_MAX], line[TUPLE_TEXT_MAX];
	struct tuple tuple;
	struct addr peer;

	if (listen_fd < 0)
		cr_skip_test("no such family here");
	OWN_FD int client = connect_from(from, to, port, &client_port);
	OWN_FD int served = accept(listen_fd, NULL, NULL);

	cr_assert_geq(served, 0);
	cr_assert_eq(tuple_from_socket(served, &tuple), 0);
	(void)snprintf(expected, sizeof(expected), "tcp %s %u %s %u\n", src_text,
	        client_port, dst_text, port);
	cr_assert_eq(tuple_format(&tuple, line), strlen(expected));
	cr_assert_str_eq(line, expected);
	cr_assert_eq(addr_of_peer(served, &peer), 0);
	cr_assert(addr_equal(&peer, &tuple.src));
	/* From the client's side the ends change places. */
	cr_assert_eq(tuple_from_socket(client, &tuple), 0);
	cr_assert_eq(tuple.src.port, port);
	cr_assert_eq(tuple.dst.port, client_port);
}

Test(addr, tuple_v4)
{
	assert_tuple("127.0.0.1:0", "127.0.0.3", "127.0.0.1", "127.0.0.3", "127.0.0.1");
}

Test(addr, tuple_v6)
{
	assert_tuple("[::]:0", "[::1]", "[::1]", "::1", "::1");
}

Test(addr, tuple_v4_through_v6_is_v4)
{
	assert_tuple("[::]:0", "127.0.0.3", "127.0.0.2", "127.0.0.3", "127.0.0.2");
}

Test(addr, tuple_of_what_is_no_connection)
{
	uint16_t port, client_port;
	struct linger now = {.l_onoff = 1};
	struct tuple tuple;
	char byte;
	OWN_FD int listen_fd = listen_on("127.0.0.1:0", &port);
	int client = connect_from("127.0.0.1", "127.0.0.1", port, &client_port);
	OWN_FD int served = accept(listen_fd, NULL, NULL);
	int pair[2];

	cr_assert_eq(tuple_from_socket(listen_fd, &tuple), -ENOTCONN);
	/* The client resets: what is left is in state CLOSE once the reset has been seen.
	 */
	cr_assert_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	client = own_close(client);
	cr_assert_lt(recv(served, &byte, 1, 0), 0);
	cr_assert_eq(tuple_from_socket(served, &tuple), -ENOTCONN);
	/* Who it was can be asked all the same. */
	struct addr peer, client_addr;
	cr_assert_eq(addr_of_peer(served, &peer), 0);
	cr_assert_eq(addr_parse("127.0.0.1:1", &client_addr), 0);
	client_addr.port = client_port;
	cr_assert(addr_equal(&peer, &client_addr));
	cr_assert_eq(addr_of_peer(-1, &peer), -EBADF);
	cr_assert_eq(peer.family, AF_UNSPEC);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(tuple_from_socket(pair[0], &tuple), -EAFNOSUPPORT);
	pair[0] = own_close(pair[0]);
	pair[1] = own_close(pair[1]);
	cr_assert_eq(tuple_from_socket(-1, &tuple), -EBADF);
}

Test(addr, the_longest_tuple_fits)
{
	struct tuple t;
	char line[TUPLE_TEXT_MAX];

	addr_parse("[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535", &t.src);
	t.dst = t.src;
	unsigned len = tuple_format(&t, line);

	cr_assert_lt(len, TUPLE_TEXT_MAX);
	cr_assert_eq(strlen(line), len);
	cr_assert_eq(line[len - 1], '\n');
}
