/*
 * addr.h - internet addresses and the tuple that makes a TCP connection unique.
 *
 * An IPv4 address that came through an IPv6 socket (::ffff:a.b.c.d, RFC 4291 § 2.5.5.2)
 * is IPv4 here, from the moment it is read: users never see the mapped form.
 */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Longest text of addr_format: "[" 45 characters of IPv6 "%" scope "]:65535" and the NUL.
 */
#define ADDR_TEXT_MAX 80
/* Longest text of addr_format_host. */
#define ADDR_HOST_MAX 64
/* Longest name of an interface, with its NUL. */
#define ADDR_INTERFACE_MAX 16
/* Longest line of tuple_format, with its newline and NUL. */
#define TUPLE_TEXT_MAX 160

struct addr {
	uint8_t bytes[16]; /* network order; IPv4 uses the first four */
	uint32_t scope;    /* IPv6 scope (interface index), else 0 */
	uint16_t port;     /* host order */
	uint8_t family;    /* AF_INET, AF_INET6, or AF_UNSPEC when empty */
};

/* An address as somebody has written it: its scope may be the name of an interface. Interfaces come
 * and go, and change their numbers: so the name is looked up when the address is to be used. */
struct addr_named {
	struct addr addr; /* scope 0 until the name has been looked up */
	char interface[ADDR_INTERFACE_MAX]; /* "": none */
};

struct tuple {
	struct addr src, dst;
};

/* Reads a socket address; v4-mapped becomes IPv4.
 * Returns 0, or -EAFNOSUPPORT for other families or a short len. */
int addr_from_sockaddr(const struct sockaddr *sa, socklen_t len, struct addr *ret);

/* Fills sa and returns its length. addr must not be empty. */
socklen_t addr_to_sockaddr(const struct addr *addr, struct sockaddr_storage *ret);

/* Parses "1.2.3.4:80" or "[::1]:80", numeric only, port 0 to 65535, nothing around it.
 * Returns 0, or -EINVAL. */
int addr_parse(const char *text, struct addr *ret);

/* The same for an address alone: "1.2.3.4", "::1", "fe80::1%3"; its port is 0. */
int addr_parse_host(const char *text, struct addr *ret);

/* The same, and "[fe80::1%eth0]:80", "fe80::1%eth0": what is no number behind a '%' names an
 * interface, in letters, digits and ._-@+~ (any other by its number). Nothing is looked up. */
int addr_parse_named(const char *text, struct addr_named *ret);
int addr_parse_host_named(const char *text, struct addr_named *ret);
/* A name that may stand behind a '%'. */
bool addr_is_interface(const char *name, size_t len);

/* Looks the interface up, if one is named, and makes its number the scope. It opens a descriptor for a
 * moment, so it is not for a worker. Returns 0; -ENODEV: there is none of this name; another -errno. */
int addr_resolve(struct addr_named *named);
/* *ret is addr, under the name that asked has for its interface if that is the same one now: so that
 * what was asked for is told alike. Not for a worker either. */
void addr_name_as(
        const struct addr *addr, const struct addr_named *asked, struct addr_named *ret);

/* "1.2.3.4:80" or "[::1]:80"; the host alone for addr_format_host. Return the buffer. */
char *addr_format(const struct addr *addr, char buf[static ADDR_TEXT_MAX]);
char *addr_format_host(const struct addr *addr, char buf[static ADDR_HOST_MAX]);

/* The same, with the interface's name if there is one. */
char *addr_format_named(const struct addr_named *named, char buf[static ADDR_TEXT_MAX]);
char *addr_format_host_named(
        const struct addr_named *named, char buf[static ADDR_HOST_MAX]);

/* fe80::/10, of which each interface has its own: nothing can be done with one without a scope. */
bool addr_is_link_local(const struct addr *addr);
/* True for 0.0.0.0 and ::. */
bool addr_is_any(const struct addr *addr);
bool addr_equal(const struct addr *a, const struct addr *b);

/* The peer of a socket that was accepted, also when the connection is dead by now (SO_PEERNAME, which
 * asks as accept4(2) does). Returns 0 or -errno, with *ret empty. */
int addr_of_peer(int fd, struct addr *ret);

/* Reads both ends of a connected socket, by getpeername(2) and getsockname(2).
 * Returns 0; -ENOTCONN if the connection is dead already (TCP state CLOSE); another
 * -errno. */
int tuple_from_socket(int fd, struct tuple *ret);

/* "tcp SRC_ADDR SRC_PORT DST_ADDR DST_PORT\n". Returns its length without the NUL. */
unsigned tuple_format(const struct tuple *tuple, char buf[static TUPLE_TEXT_MAX]);

#endif
