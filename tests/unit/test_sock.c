/*
 * test_sock.c - the small calls on connected sockets, against a real peer on loopback.
 */
#include "rig.h"

#include <fcntl.h>

struct pair {
	int client, server; /* the server's end does not block */
};

static struct pair connect_pair(void)
{
	struct sockaddr_in sa = {
	        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	OWN_FD int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(listener, 1), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
	struct pair p = {.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	cr_assert_eq(connect(p.client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	p.server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	cr_assert_geq(p.server, 0);
	return p;
}

static void close_pair(struct pair *p)
{
	p->client = own_close(p->client);
	p->server = own_close(p->server);
}

/* Until the server's end is readable, at an end, or dead. */
static void await_input(const struct pair *p)
{
	struct pollfd fd = {.fd = p->server, .events = POLLIN};
	cr_assert_eq(poll(&fd, 1, 5000), 1);
}

static void await_bytes(const struct pair *p, size_t n)
{
	static char buf[100000];
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (recv(p->server, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) < (ssize_t)n)
		cr_assert_lt(clock_now(), end);
}

Test(sock, reset_is_a_reset_for_the_peer)
{
	struct pair p = connect_pair();
	int number = p.server;
	sock_reset(TAKE_FD(p.server));
	cr_assert_eq(fcntl(number, F_GETFD), -1, "the descriptor is closed");
	cr_assert_eq(rig_await(p.client), 'r');
	close_pair(&p);
}

Test(sock, reset_leaves_nothing_behind_even_with_data_on_both_sides)
{
	struct pair p = connect_pair();
	cr_assert_eq(send(p.server, "answer", 6, 0), 6);
	cr_assert_eq(send(p.client, "ask", 3, 0), 3);
	await_bytes(&p, 3);
	sock_reset(TAKE_FD(p.server));
	char c;
	do
		c = rig_await(p.client);
	while (c == 'd');
	cr_assert_eq(c, 'r');
	close_pair(&p);
}

Test(sock, only_a_connection_that_is_over_at_both_ends_is_dead)
{
	struct pair p = connect_pair();
	cr_assert_not(sock_is_dead(p.server));
	cr_assert_eq(send(p.client, "x", 1, 0), 1);
	cr_assert_eq(shutdown(p.client, SHUT_WR), 0);
	await_bytes(&p, 1);
	cr_assert_not(sock_is_dead(p.server), "a client may send its FIN and live");
	sock_reset(TAKE_FD(p.client));
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (!sock_is_dead(p.server))
		cr_assert_lt(clock_now(), end);
	cr_assert(sock_is_dead(p.server), "looking does not change it");
	close_pair(&p);
}

Test(sock, discard_takes_what_is_there_but_never_more_than_max)
{
	struct pair p = connect_pair();
	char text[1000] = {0};
	size_t bytes = 77;
	cr_assert_eq(sock_discard(p.server, 100, &bytes), 0);
	cr_assert_eq(bytes, 0);
	cr_assert_eq(send(p.client, text, sizeof(text), 0), sizeof(text));
	await_bytes(&p, sizeof(text));
	cr_assert_eq(sock_discard(p.server, 300, &bytes), 0);
	cr_assert_eq(bytes, 300);
	cr_assert_eq(sock_discard(p.server, 0, &bytes), 0);
	cr_assert_eq(bytes, 0);
	cr_assert_eq(sock_discard(p.server, 5000, &bytes), 0);
	cr_assert_eq(bytes, 700);
	cr_assert_eq(sock_discard(p.server, 5000, NULL), 0);
	close_pair(&p);
}

Test(sock, discard_finds_the_end_and_a_reset)
{
	struct pair p = connect_pair();
	size_t bytes;
	cr_assert_eq(send(p.client, "x", 1, 0), 1);
	cr_assert_eq(shutdown(p.client, SHUT_WR), 0);
	await_bytes(&p, 1);
	/* A short read may say 0 first; then the next call says 1. */
	int r = sock_discard(p.server, 100, &bytes);
	cr_assert_eq(bytes, 1);
	if (r == 0) {
		await_input(&p);
		r = sock_discard(p.server, 100, NULL);
	}
	cr_assert_eq(r, 1);
	cr_assert_eq(sock_discard(p.server, 100, &bytes), 1, "the end stays the end");
	cr_assert_eq(bytes, 0);
	close_pair(&p);

	p = connect_pair();
	sock_reset(TAKE_FD(p.client));
	await_input(&p);
	cr_assert_eq(sock_discard(p.server, 100, NULL), -ECONNRESET);
	close_pair(&p);
}

Test(sock, flushed_means_that_the_peers_kernel_has_everything_the_fin_included)
{
	struct pair p = connect_pair();
	cr_assert(sock_is_flushed(p.server));
	cr_assert_eq(send(p.server, "x", 1, 0), 1);
	cr_assert_eq(shutdown(p.server, SHUT_WR), 0);
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (!sock_is_flushed(p.server))
		cr_assert_lt(clock_now(), end);
	close_pair(&p);

	/* A peer that does not read: its window closes, and some stays here. */
	p = connect_pair();
	static char block[65536];
	while (send(p.server, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	cr_assert_eq(errno, EAGAIN);
	cr_assert_not(sock_is_flushed(p.server));
	cr_assert_eq(shutdown(p.server, SHUT_WR), 0);
	cr_assert_not(sock_is_flushed(p.server));
	close_pair(&p);
}
