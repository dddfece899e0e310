/*
 * test_listener.c - the listener and what the kernel says of its queue. socket and bind
 * are wrapped (-Wl,--wrap=socket,--wrap=bind), for a machine without IPv6.
 */
#include "rig.h"

#include <fcntl.h>
#include <netinet/tcp.h>

int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len);

static int no_ipv6_socket, no_ipv6_bind; /* the errno of the call; 0: it works */

int __wrap_socket(int domain, int type, int protocol)
{
	if (domain == AF_INET6 && no_ipv6_socket != 0) {
		errno = no_ipv6_socket;
		return -1;
	}
	return __real_socket(domain, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (sa->sa_family == AF_INET6 && no_ipv6_bind != 0) {
		errno = no_ipv6_bind;
		return -1;
	}
	return __real_bind(fd, sa, len);
}

struct opened {
	int fd;
	struct addr addr;
	bool fallback;
};

static int try_open(const char *address, uint64_t keepalive, struct opened *ret)
{
	struct addr addr;
	cr_assert_eq(addr_parse(address, &addr), 0);
	*ret = (struct opened){.fd = -1};
	return listener_open(&addr, keepalive, &ret->fd, &ret->addr, &ret->fallback);
}

static struct opened open_or_fail(const char *address, uint64_t keepalive, int backlog)
{
	struct opened o;
	cr_assert_eq(try_open(address, keepalive, &o), 0);
	cr_assert_geq(o.fd, 0);
	cr_assert_neq(o.addr.port, 0, "the real port where 0 was asked");
	if (backlog >= 0)
		cr_assert_eq(listen(o.fd, backlog), 0);
	return o;
}

/* Connects from any family; *ret_fd may still be connecting if it does not wait. */
static int connect_to(const char *host, uint16_t port, int flags, int *ret_fd)
{
	char text[ADDR_TEXT_MAX];
	struct addr addr;
	struct sockaddr_storage sa;
	(void)snprintf(text, sizeof(text), "%s:%u", host, port);
	cr_assert_eq(addr_parse(text, &addr), 0);
	socklen_t len = addr_to_sockaddr(&addr, &sa);
	*ret_fd = __real_socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	cr_assert_geq(*ret_fd, 0);
	return connect(*ret_fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static void await_depth(int fd, uint32_t depth)
{
	struct listener_queue queue = {0};
	uint64_t end = clock_now() + RIG_DEADLINE;
	do
		cr_assert_eq(listener_read_queue(fd, &queue), 0);
	while (queue.depth != depth && clock_now() < end);
	cr_assert_eq(queue.depth, depth, "depth is %u", queue.depth);
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static bool has_ipv6(void)
{
	struct opened o;
	int r = try_open("[::1]:0", 0, &o);
	(void)own_close(o.fd);
	return r == 0;
}

Test(listener, is_bound_but_does_not_listen_yet)
{
	struct opened o = open_or_fail("127.0.0.1:0", 0, -1);
	struct listener_queue queue = {.depth = 9, .effective = 9};
	int client;
	cr_assert_not(o.fallback);
	cr_assert_eq(option_of(o.fd, SOL_SOCKET, SO_REUSEADDR), 1);
	cr_assert_eq(option_of(o.fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
	cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
	cr_assert_eq(queue.depth, 0);
	cr_assert_eq(queue.effective, 0);
	cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client), -ECONNREFUSED);
	(void)close(client);
	(void)close(o.fd);
}

Test(listener, a_taken_port_is_an_error_and_leaves_nothing_open)
{
	struct opened o = open_or_fail("127.0.0.1:0", 0, 4), second;
	char text[ADDR_TEXT_MAX];
	cr_assert_eq(try_open(addr_format(&o.addr, text), 0, &second), -EADDRINUSE);
	cr_assert_eq(second.fd, -1);
	cr_assert_eq(try_open("192.0.2.1:0", 0, &second), -EADDRNOTAVAIL);
	cr_assert_eq(second.fd, -1);
	(void)close(o.fd);
}

Test(listener, any_ipv6_address_takes_ipv4_too_and_no_other_does)
{
	if (!has_ipv6())
		cr_skip_test("no IPv6 here");
	struct opened o = open_or_fail("[::]:0", 0, 4);
	int a, b;
	cr_assert_eq(o.addr.family, AF_INET6);
	cr_assert_not(o.fallback);
	cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &a), 0);
	cr_assert_eq(connect_to("[::1]", o.addr.port, 0, &b), 0);
	(void)close(a);
	(void)close(b);
	(void)close(o.fd);

	o = open_or_fail("[::1]:0", 0, 4);
	cr_assert_eq(option_of(o.fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &a), -ECONNREFUSED);
	(void)close(a);
	(void)close(o.fd);
}

static void assert_falls_back(void)
{
	struct opened o = open_or_fail("[::]:0", 0, 4);
	int client;
	cr_assert(o.fallback);
	cr_assert_eq(o.addr.family, AF_INET);
	cr_assert(addr_is_any(&o.addr));
	cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client), 0);
	(void)close(client);
	(void)close(o.fd);
	/* Only the address that asks for both: an IPv6 host stays what it is. */
	cr_assert_lt(try_open("[::1]:0", 0, &o), 0);
	cr_assert_eq(o.fd, -1);
}

Test(listener, falls_back_to_ipv4_where_ipv6_is_off)
{
	no_ipv6_socket = EAFNOSUPPORT;
	assert_falls_back();
	no_ipv6_socket = 0;
	no_ipv6_bind = EADDRNOTAVAIL;
	assert_falls_back();
	/* Any other failure is no reason to take another address. */
	no_ipv6_bind = EACCES;
	struct opened o;
	cr_assert_eq(try_open("[::]:0", 0, &o), -EACCES);
	cr_assert_eq(o.fd, -1);
}

/* The kernel is to probe nobody by itself: keepalive.h. */
static const struct {
	unsigned seconds;
	int on, idle, interval, count;
} keepalives[] = {
        {0, 0, 0, 0, 0}, {3, 1, 32767, 32767, 10}, {32767, 1, 32767, 32767, 10}};

Test(listener, accepted_sockets_inherit_keepalive)
{
	for (size_t i = 0; i < ARRAY_SIZE(keepalives); i++) {
		struct opened o =
		        open_or_fail("127.0.0.1:0", keepalives[i].seconds * CLOCK_SEC, 4);
		int client;
		cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client), 0);
		await_depth(o.fd, 1);
		int fd = accept4(o.fd, NULL, NULL, SOCK_CLOEXEC);
		cr_assert_geq(fd, 0);
		cr_assert_eq(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), keepalives[i].on);
		if (keepalives[i].on) {
			cr_assert_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE),
			        keepalives[i].idle);
			cr_assert_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL),
			        keepalives[i].interval);
			cr_assert_eq(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT),
			        keepalives[i].count);
		}
		cr_assert_eq(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
		(void)close(fd);
		(void)close(client);
		(void)close(o.fd);
	}
}

Test(listener, the_queue_is_as_deep_as_clients_wait_and_as_long_as_asked)
{
	struct opened o = open_or_fail("127.0.0.1:0", 0, 8);
	struct listener_queue queue;
	int client[3];
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client[i]), 0);
		await_depth(o.fd, i + 1);
	}
	cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
	cr_assert_eq(queue.effective, 8);
	int fd = accept4(o.fd, NULL, NULL, SOCK_CLOEXEC);
	await_depth(o.fd, 2);
	/* Live, both ways; nobody in the queue is lost. */
	cr_assert_eq(listen(o.fd, 2), 0);
	cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
	cr_assert_eq(queue.effective, 2);
	cr_assert_eq(queue.depth, 2);
	cr_assert_eq(shutdown(o.fd, SHUT_RD), 0);
	cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
	cr_assert_eq(queue.depth, 0);
	cr_assert_eq(queue.effective, 0);
	for (int i = 0; i < 3; i++)
		(void)close(client[i]);
	(void)close(fd);
	(void)close(o.fd);
	cr_assert_eq(listener_read_queue(o.fd, &queue), -EBADF);
}

Test(listener, drops_are_this_listeners)
{
	enum {
		CLIENTS = 8
	};
	struct opened o = open_or_fail("127.0.0.1:0", 0, 1);
	struct opened calm = open_or_fail("127.0.0.1:0", 0, 1);
	uint32_t drops = 99;
	int client[CLIENTS];
	cr_assert_eq(listener_read_drops(o.fd, &drops), 0);
	cr_assert_eq(drops, 0);
	for (int i = 0; i < CLIENTS; i++)
		(void)connect_to("127.0.0.1", o.addr.port, SOCK_NONBLOCK, &client[i]);
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (drops == 0 && clock_now() < end)
		cr_assert_eq(listener_read_drops(o.fd, &drops), 0);
	cr_assert_gt(drops, 0);
	cr_assert_eq(listener_read_drops(calm.fd, &drops), 0);
	cr_assert_eq(drops, 0);
	for (int i = 0; i < CLIENTS; i++)
		(void)close(client[i]);
	(void)close(o.fd);
	(void)close(calm.fd);
	cr_assert_eq(listener_read_drops(o.fd, &drops), -EBADF);
}

/* Connects, sends if asked, lets 60 ms pass, accepts. Returns what is read as its age; the
 * greatest that can be true in *ret_most. */
static uint64_t age_of(struct opened *o, bool speaks, uint64_t *ret_most)
{
	int client;
	uint64_t age = 0, began = clock_now();
	cr_assert_eq(connect_to("127.0.0.1", o->addr.port, 0, &client), 0);
	if (speaks)
		cr_assert_eq(send(client, "x", 1, 0), 1);
	await_depth(o->fd, 1);
	while (clock_now() - began < 60 * CLOCK_MSEC)
		(void)poll(NULL, 0, 10);
	int fd = accept4(o->fd, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(listener_read_age(fd, &age), 0);
	*ret_most = clock_now() - began;
	(void)close(fd);
	(void)close(client);
	return age;
}

Test(listener, age_is_the_time_in_the_queue)
{
	struct opened o = open_or_fail("127.0.0.1:0", 0, 4);
	uint64_t most;
	for (int speaks = 0; speaks < 2; speaks++) {
		uint64_t age = age_of(&o, speaks, &most);
		/* The kernel counts in jiffies, 10 ms at most. */
		cr_assert_geq(age, 40 * CLOCK_MSEC, "%lu ns", (unsigned long)age);
		cr_assert_leq(age, most + 20 * CLOCK_MSEC);
	}
	(void)close(o.fd);
}

Test(listener, age_knows_the_dead)
{
	struct opened o = open_or_fail("127.0.0.1:0", 0, 4);
	uint64_t age;
	int client;
	cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client), 0);
	await_depth(o.fd, 1);
	sock_reset(client);
	int fd = accept4(o.fd, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(fd, 0);
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (listener_read_age(fd, &age) != 1)
		cr_assert_lt(clock_now(), end);
	(void)close(fd);
	(void)close(o.fd);
	cr_assert_eq(listener_read_age(fd, &age), -EBADF);
}

/* Whether a listener bound to `bound` is what `asked` would give. */
static bool fits(const char *asked, const char *bound)
{
	struct addr a, b;
	cr_assert_eq(addr_parse(asked, &a), 0);
	cr_assert_eq(addr_parse(bound, &b), 0);
	return listener_fits(&a, &b);
}

Test(listener, fits_what_is_asked_for)
{
	cr_assert(fits("127.0.0.1:80", "127.0.0.1:80"));
	cr_assert(fits("127.0.0.1:0", "127.0.0.1:8080"), "any port");
	cr_assert_not(fits("127.0.0.1:80", "127.0.0.1:81"));
	cr_assert_not(fits("127.0.0.1:80", "127.0.0.2:80"));
	cr_assert_not(fits("0.0.0.0:80", "[::]:80"));
	cr_assert_not(fits("[::1]:80", "0.0.0.0:80"));
	if (has_ipv6())
		cr_assert_not(fits("[::]:80", "0.0.0.0:80"), "[::] is to be had");
	no_ipv6_socket = EAFNOSUPPORT;
	cr_assert(fits("[::]:80", "0.0.0.0:80"), "what it falls back to");
	cr_assert_not(fits("[::]:80", "0.0.0.0:81"));
	cr_assert_not(fits("[::]:80", "127.0.0.1:80"));
	no_ipv6_socket = 0;
	no_ipv6_bind = EADDRNOTAVAIL;
	cr_assert(fits("[::]:0", "0.0.0.0:80"));
}

Test(listener, adopts_a_listener_only)
{
	struct opened o = open_or_fail("127.0.0.1:0", 60 * CLOCK_SEC, 8);
	struct addr address;
	int pair[2], client;
	bool revived = true;

	cr_assert_eq(fcntl(o.fd, F_SETFL, 0), 0);
	cr_assert_eq(fcntl(o.fd, F_SETFD, 0), 0);
	cr_assert_eq(listener_adopt(o.fd, 0, &address, &revived), 0);
	cr_assert(addr_equal(&address, &o.addr));
	cr_assert_eq(option_of(o.fd, SOL_SOCKET, SO_KEEPALIVE), 0, "switched off again");
	cr_assert(fcntl(o.fd, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(o.fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(listener_adopt(o.fd, 12 * CLOCK_SEC, &address, &revived), 0);
	cr_assert_eq(option_of(o.fd, IPPROTO_TCP, TCP_KEEPIDLE), SOCK_KEEPALIVE_MAX);

	cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client), 0);
	cr_assert_eq(
	        listener_adopt(client, 0, &address, &revived), LISTENER_NOT_LISTENING);
	(void)own_close(client);
	cr_assert_eq(pipe(pair), 0);
	cr_assert_eq(listener_adopt(pair[0], 0, &address, &revived), LISTENER_NOT_TCP);
	(void)own_close(pair[0]);
	(void)own_close(pair[1]);
	int udp = __real_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(listener_adopt(udp, 0, &address, &revived), LISTENER_NOT_TCP);
	(void)own_close(udp);
	cr_assert_eq(listener_adopt(-1, 0, &address, &revived), -EBADF);

	/* Retired, its port can be bound while another descriptor still holds it. */
	int other = dup(o.fd);
	cr_assert_eq(listen(other, 8), 0);
	char text[ADDR_TEXT_MAX];
	struct opened again;
	cr_assert_eq(try_open(addr_format(&o.addr, text), 0, &again), -EADDRINUSE);
	listener_retire(o.fd);
	cr_assert_eq(try_open(text, 0, &again), 0);
	cr_assert_eq(listen(again.fd, 8), 0);
	(void)own_close(again.fd);
	(void)own_close(other);
	(void)own_close(o.fd);
}

/* Somebody who shares it shuts it down; ss -K, which needs root, is in tests/e2e. */
Test(listener, listens_again_on_the_same_port)
{
	struct opened o = open_or_fail("127.0.0.1:0", 60 * CLOCK_SEC, 8), again;
	struct listener_queue queue;
	struct addr address;
	char text[ADDR_TEXT_MAX];
	bool revived = false;
	int client;

	for (int i = 0; i < 2; i++) {
		cr_assert_eq(shutdown(o.fd, SHUT_RDWR), 0);
		cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
		cr_assert_not(queue.listening);
		cr_assert_eq(listener_listen(o.fd, &o.addr, 8), 0);
		cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
		cr_assert(queue.listening);
		cr_assert_eq(queue.effective, 8);
		cr_assert_eq(connect_to("127.0.0.1", o.addr.port, 0, &client), 0);
		(void)own_close(client);
	}
	/* Of one that listens only the backlog changes. */
	cr_assert_eq(listener_listen(o.fd, &o.addr, 16), 0);
	cr_assert_eq(listener_read_queue(o.fd, &queue), 0);
	cr_assert_eq(queue.effective, 16);
	cr_assert_gt(queue.depth, 0, "who was queued still is");
	/* Adopted, too; and not where somebody else has the port by now. */
	cr_assert_eq(shutdown(o.fd, SHUT_RDWR), 0);
	cr_assert_eq(listener_adopt(o.fd, 0, &address, &revived), 0);
	cr_assert(revived);
	cr_assert(addr_equal(&address, &o.addr));
	cr_assert_eq(listener_adopt(o.fd, 0, &address, &revived), 0);
	cr_assert_not(revived);
	cr_assert_eq(shutdown(o.fd, SHUT_RDWR), 0);
	cr_assert_eq(try_open(addr_format(&o.addr, text), 0, &again), 0);
	cr_assert_eq(listen(again.fd, 8), 0);
	cr_assert_eq(listener_listen(o.fd, &o.addr, 8), -EADDRINUSE);
	cr_assert_eq(listener_adopt(o.fd, 0, &address, &revived), -EADDRINUSE);
	(void)own_close(again.fd);
	(void)own_close(o.fd);
	/* Not bound at all. */
	int fresh = __real_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(
	        listener_adopt(fresh, 0, &address, &revived), LISTENER_NOT_LISTENING);
	(void)own_close(fresh);
}

/* accept4 has to fail for a while, and that while begins when it is first seen. */
Test(listener, what_fails_now_has_not_failed_for_ever)
{
	struct rig rig;
	struct pollfd queue;
	rig_init(&rig, 2, 8);
	rig_open(&rig, &(const struct service){.name = "none", .fds_per_connection = 1});
	_Atomic uint64_t *failed_at = &rig_worker(&rig, 0)->failed_at;
	rig.port->stuck_from = clock_now() - 2 * CLOCK_SEC;
	atomic_store(failed_at, clock_now());
	cr_assert_eq(port_check_listener(rig.port), 0, "nobody waits");
	int client = rig_connect(&rig);
	queue = (struct pollfd){.fd = rig.port->listen_fd, .events = POLLIN};
	cr_assert_eq(poll(&queue, 1, 5000), 1);
	cr_assert_eq(port_check_listener(rig.port), 0, "at the first look");
	cr_assert_eq(port_check_listener(rig.port), 0, "and at the next");
	rig.port->stuck_from -= 2 * CLOCK_SEC;
	atomic_store(failed_at, rig.port->stuck_from + CLOCK_SEC);
	cr_assert_eq(port_check_listener(rig.port), 0,
	        "nobody has tried since: the port may be full");
	atomic_store(failed_at, clock_now());
	cr_assert_eq(port_check_listener(rig.port), PORT_ACCEPTS_NOTHING);
	atomic_store(failed_at, 0);
	cr_assert_eq(port_check_listener(rig.port), 0);
	atomic_store(failed_at, clock_now());
	cr_assert_eq(port_check_listener(rig.port), 0, "it begins anew");
	rig.port->stuck_from -= 2 * CLOCK_SEC;
	rig.port->stuck_at--;
	cr_assert_eq(port_check_listener(rig.port), 0, "one was accepted since");
	(void)close(client);
	rig_close(&rig);
}
