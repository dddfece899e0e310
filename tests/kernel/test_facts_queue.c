/*
 * test_facts_queue.c - what the kernel does with the backlog queue, and says of it.
 */
#include "facts.h"

#include <linux/sock_diag.h>
#include <stdio.h>

Test(queue, accept_at_emfile_leaves_the_connection_in_the_queue)
{
	static const char fact[] = "accept4 reserves the descriptor first; at EMFILE the "
	                           "connection stays in "
	                           "the queue and its client hears nothing";
	struct fact_listener l = fact_listen(4);
	struct fact_full full;
	char byte;
	int client = fact_connect(&l);
	fact_fill(&full);
	for (int i = 0; i < 3; i++) {
		int fd = fact_accept(&l);
		FACT(fd < 0 && errno == EMFILE, fact);
	}
	FACT(fact_depth(&l) == 1, fact);
	FACT(recv(client, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, fact);
	(void)close(full.fd[--full.n]);
	int fd = fact_accept(&l);
	FACT(fd >= 0, fact);
	FACT(send(client, "x", 1, 0) == 1, fact);
	(void)close(fd);
	(void)close(client);
	fact_free(&full);
	(void)close(l.fd);
}

Test(queue, emfile_comes_on_an_empty_queue_too)
{
	struct fact_listener l = fact_listen(4);
	struct fact_full full;
	fact_fill(&full);
	int fd = fact_accept(&l);
	FACT(fd < 0 && errno == EMFILE, "EMFILE comes on an empty queue too: it does not "
	                                "mean that somebody waits");
	fact_free(&full);
	fd = fact_accept(&l);
	FACT(fd < 0 && errno == EAGAIN, "an empty queue is EAGAIN");
	(void)close(l.fd);
}

static uint32_t drops_of(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(info);
	cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len), 0);
	return info[SK_MEMINFO_DROPS];
}

Test(queue, listen_n_admits_n_plus_1_and_drops_the_rest_by_this_listeners_count)
{
	static const char fact[] = "listen(fd, N) admits N + 1";
	static const char drops[] =
	        "SO_MEMINFO[SK_MEMINFO_DROPS] on a listener counts the drops of this one";
	struct fact_listener l = fact_listen(3), other = fact_listen(3);
	int client[8], err;
	for (int i = 0; i < 8; i++)
		client[i] = fact_try_connect(&l, SOCK_NONBLOCK, &err);
	FACT_SOON(fact_depth(&l) == 4, fact);
	FACT_SOON(drops_of(l.fd) > 0, drops);
	FACT(fact_depth(&l) == 4, fact);
	FACT(drops_of(other.fd) == 0, drops);
	for (int i = 0; i < 8; i++)
		(void)close(client[i]);
	(void)close(l.fd);
	(void)close(other.fd);
}

Test(queue, listen_again_resizes_live_both_ways)
{
	static const char fact[] =
	        "listen() again resizes the queue live, both ways, and loses nobody; "
	        "tcpi_sacked on a listener is the effective size";
	struct fact_listener l = fact_listen(2);
	int client[6], err;
	FACT(fact_info(l.fd).tcpi_sacked == 2, fact);
	for (int i = 0; i < 3; i++)
		client[i] = fact_connect(&l);
	FACT(listen(l.fd, 8) == 0 && fact_info(l.fd).tcpi_sacked == 8, fact);
	for (int i = 3; i < 5; i++)
		client[i] = fact_connect(&l);
	FACT(listen(l.fd, 1) == 0 && fact_info(l.fd).tcpi_sacked == 1, fact);
	FACT(fact_depth(&l) == 5, fact);
	client[5] = fact_try_connect(&l, SOCK_NONBLOCK, &err);
	FACT_SOON(drops_of(l.fd) > 0, fact);
	for (int i = 0; i < 5; i++) {
		int fd = fact_accept(&l);
		FACT(fd >= 0, fact);
		(void)close(fd);
	}
	for (int i = 0; i < 6; i++)
		(void)close(client[i]);
	(void)close(l.fd);
}

Test(queue, the_backlog_is_clamped_silently)
{
	struct fact_listener l = fact_listen(1 << 30);
	FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
	unsigned somaxconn = 0;
	if (!file || fscanf(file, "%u", &somaxconn) != 1)
		cr_skip_test("net.core.somaxconn cannot be read here");
	(void)fclose(file);
	FACT(fact_info(l.fd).tcpi_sacked == somaxconn,
	        "the backlog is clamped to net.core.somaxconn, and tcpi_sacked says so");
	(void)close(l.fd);
}

Test(queue, the_age_of_a_silent_client_is_its_last_ack)
{
	static const char fact[] = "tcpi_last_ack_recv of a freshly accepted socket is "
	                           "the time in the queue of a "
	                           "client that has sent nothing";
	static const char data[] =
	        "tcpi_last_data_recv is that time for a client that has sent at once";
	struct fact_listener l = fact_listen(4);
	uint64_t began = fact_now_ms();
	int silent = fact_connect(&l), speaker = fact_connect(&l);
	cr_assert_eq(send(speaker, "x", 1, 0), 1);
	while (fact_now_ms() < began + 120)
		(void)poll(NULL, 0, 10);
	int a = fact_accept(&l), b = fact_accept(&l);
	cr_assert(a >= 0 && b >= 0);
	struct tcp_info info = fact_info(a);
	unsigned passed = (unsigned)(fact_now_ms() - began);
	FACT(info.tcpi_last_ack_recv >= 100 && info.tcpi_last_ack_recv <= passed + 20,
	        fact);
	info = fact_info(b);
	passed = (unsigned)(fact_now_ms() - began);
	FACT(info.tcpi_last_data_recv >= 100 && info.tcpi_last_data_recv <= passed + 20,
	        data);
	(void)close(a);
	(void)close(b);
	(void)close(silent);
	(void)close(speaker);
	(void)close(l.fd);
}

/* The client finds a reset, if it waits for it. */
static bool is_reset(int client)
{
	struct pollfd p = {.fd = client, .events = POLLIN};
	char byte;
	(void)poll(&p, 1, 2000);
	return recv(client, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET;
}

Test(queue, closing_a_listener_resets_its_queue)
{
	struct fact_listener l = fact_listen(4);
	int client[3];
	for (int i = 0; i < 3; i++)
		client[i] = fact_connect(&l);
	(void)close(l.fd);
	for (int i = 0; i < 3; i++) {
		FACT(is_reset(client[i]),
		        "closing a listener resets every queued client");
		(void)close(client[i]);
	}
}

Test(queue, shutdown_resets_the_queue_refuses_newcomers_and_can_be_revived)
{
	static const char fact[] = "shutdown(SHUT_RD) of a listener resets the queue at "
	                           "once, refuses newcomers, "
	                           "and listen() revives it on the port that was bound";
	/* A port that was asked for: one that the kernel chose is given up. */
	struct fact_listener any = fact_listen(4);
	(void)close(any.fd);
	struct fact_listener l = fact_listen_at(ntohs(any.sa.sin_port), 4);
	int client = fact_connect(&l), err;
	/* As close to another table as one thread comes: another descriptor of the same. */
	int other = fcntl(l.fd, F_DUPFD_CLOEXEC, 0);
	FACT(shutdown(l.fd, SHUT_RD) == 0, fact);
	FACT(is_reset(client), fact);
	FACT(accept4(other, NULL, NULL, 0) < 0 && errno == EINVAL, fact);
	(void)close(fact_try_connect(&l, 0, &err));
	FACT(err == ECONNREFUSED, fact);
	FACT(listen(other, 4) == 0, fact);
	(void)close(fact_connect(&l));
	(void)close(client);
	(void)close(other);
	(void)close(l.fd);
}

Test(queue, a_client_that_resets_in_the_queue_is_accepted_and_dead)
{
	static const char fact[] =
	        "a client that resets before accept is accepted all the same; "
	        "getpeername "
	        "says ENOTCONN (TCP state CLOSE) and the first read ECONNRESET";
	static const char alive[] =
	        "a client that has sent its FIN still has a peer name";
	struct fact_listener l = fact_listen(4);
	struct linger now = {.l_onoff = 1};
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	char byte;
	int client = fact_connect(&l);
	cr_assert_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(client);
	int fd = fact_accept(&l);
	FACT(fd >= 0, fact);
	FACT_SOON(getpeername(fd, (struct sockaddr *)&sa, &len) < 0 && errno == ENOTCONN,
	        fact);
	FACT(fact_info(fd).tcpi_state == 7 /* TCP_CLOSE */, fact);
	FACT(recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET, fact);
	(void)close(fd);

	client = fact_connect(&l);
	cr_assert_eq(shutdown(client, SHUT_WR), 0);
	fd = fact_accept(&l);
	FACT_SOON(recv(fd, &byte, 1, MSG_DONTWAIT) == 0, alive);
	len = sizeof(sa);
	FACT(getpeername(fd, (struct sockaddr *)&sa, &len) == 0, alive);
	(void)close(client);
	(void)close(fd);
	(void)close(l.fd);
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

Test(queue, accepted_sockets_inherit_keepalive)
{
	static const char fact[] = "SO_KEEPALIVE and TCP_KEEPIDLE, TCP_KEEPINTVL, "
	                           "TCP_KEEPCNT are inherited from "
	                           "the listener";
	const int set[][3] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
	        {IPPROTO_TCP, TCP_KEEPIDLE, 33}, {IPPROTO_TCP, TCP_KEEPINTVL, 11},
	        {IPPROTO_TCP, TCP_KEEPCNT, 3}};
	struct fact_listener l = fact_listen(4);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(setsockopt(l.fd, set[i][0], set[i][1], &set[i][2],
		                     sizeof(set[i][2])),
		        0);
	int client = fact_connect(&l), fd = fact_accept(&l);
	for (int i = 0; i < 4; i++)
		FACT(option_of(fd, set[i][0], set[i][1]) == set[i][2], fact);
	(void)close(fd);
	(void)close(client);
	(void)close(l.fd);
}

Test(queue, linger_0_is_a_reset_and_unread_data_at_close_too)
{
	struct fact_listener l = fact_listen(4);
	struct linger now = {.l_onoff = 1};
	int client = fact_connect(&l), fd = fact_accept(&l);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(fd);
	FACT(is_reset(client), "SO_LINGER {1, 0} and close are an immediate reset");
	(void)close(client);

	client = fact_connect(&l);
	cr_assert_eq(send(client, "x", 1, 0), 1);
	fd = fact_accept(&l);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	cr_assert_eq(poll(&p, 1, 2000), 1);
	(void)close(fd);
	FACT(is_reset(client), "close with unread client data sends a reset");
	(void)close(client);
	(void)close(l.fd);
}

Test(queue, msg_trunc_discards_without_a_buffer)
{
	static const char fact[] =
	        "recv with MSG_TRUNC on TCP drops the bytes and says how many";
	struct fact_listener l = fact_listen(4);
	int client = fact_connect(&l), fd = fact_accept(&l);
	char rest[8];
	cr_assert_eq(send(client, "abcdefgh", 8, 0), 8);
	FACT_SOON(recv(fd, rest, 8, MSG_PEEK | MSG_DONTWAIT) == 8, fact);
	FACT(recv(fd, rest, 5, MSG_TRUNC | MSG_DONTWAIT) == 5, fact);
	FACT(recv(fd, rest, 8, MSG_DONTWAIT) == 3 && rest[0] == 'f', fact);
	(void)close(fd);
	(void)close(client);
	(void)close(l.fd);
}

Test(queue, a_client_can_keep_its_age_at_nothing)
{
	static const char fact[] =
	        "a client that goes on sending keeps both tcpi_last_ack_recv and "
	        "tcpi_last_data_recv short";
	static const char order[] = "the queue is first in, first out";
	struct fact_listener l = fact_listen(4);
	char data[1000] = {0};
	int renewing = fact_connect(&l), silent = fact_connect(&l);
	uint64_t began = fact_now_ms();
	do {
		cr_assert_gt(send(renewing, data, sizeof(data), 0), 0);
		(void)poll(NULL, 0, 20);
	} while (fact_now_ms() < began + 300);
	cr_assert_gt(send(renewing, data, sizeof(data), 0), 0);
	int a = fact_accept(&l), b = fact_accept(&l);
	cr_assert(a >= 0 && b >= 0);
	struct tcp_info first = fact_info(a), second = fact_info(b);
	FACT(second.tcpi_last_ack_recv >= 280, order);
	FACT(first.tcpi_last_ack_recv < second.tcpi_last_ack_recv / 2 &&
	                first.tcpi_last_data_recv < second.tcpi_last_ack_recv / 2,
	        fact);
	(void)close(a);
	(void)close(b);
	(void)close(renewing);
	(void)close(silent);
	(void)close(l.fd);
}

Test(queue, a_listener_that_was_shut_down_can_listen_again)
{
	static const char dead[] =
	        "a listener that somebody has shut down gives EINVAL to "
	        "accept4, and its state is no longer LISTEN";
	static const char again[] = "connect() to AF_UNSPEC, bind() and listen() make it "
	                            "listen on the same port again";
	struct fact_listener l = fact_listen(4);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	FACT(shutdown(l.fd, SHUT_RDWR) == 0, dead);
	FACT(accept4(l.fd, NULL, NULL, SOCK_NONBLOCK) < 0 && errno == EINVAL, dead);
	FACT(fact_info(l.fd).tcpi_state != 10, dead);
	FACT(connect(l.fd, &none, sizeof(none)) == 0, again);
	/* Its port was the kernel's choice: it is not bound any more. */
	FACT(bind(l.fd, (struct sockaddr *)&l.sa, sizeof(l.sa)) == 0, again);
	FACT(bind(l.fd, (struct sockaddr *)&l.sa, sizeof(l.sa)) < 0 && errno == EINVAL,
	        again);
	FACT(listen(l.fd, 4) == 0, again);
	FACT(getsockname(l.fd, (struct sockaddr *)&sa, &len) == 0 &&
	                sa.sin_port == l.sa.sin_port,
	        again);
	int client = fact_connect(&l), fd = fact_accept(&l);
	FACT(fd >= 0, again);
	(void)close(fd);
	(void)close(client);
	(void)close(l.fd);
}
