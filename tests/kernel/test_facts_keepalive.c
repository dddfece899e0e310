/*
 * test_facts_keepalive.c - what Linux does with a keepalive probe that is asked for: the facts behind
 * src/core/keepalive.c. A socket that drops what comes plays the dead peer.
 */
#include "facts.h"

#include <linux/filter.h>

#include "net/sock.h"

struct pair {
	struct fact_listener listener;
	int client, server;
};

static struct pair make_pair(void)
{
	struct pair p = {.listener = fact_listen(1)};
	cr_assert_eq(sock_set_keepalive(p.listener.fd, true), 0);
	p.client = fact_connect(&p.listener);
	p.server = fact_accept(&p.listener);
	cr_assert_geq(p.server, 0);
	/* TCP_KEEPIDLE = 1: younger silence is not probed. */
	(void)poll(NULL, 0, 1100);
	return p;
}

static struct sock_silence silence(int fd)
{
	struct sock_silence s;
	cr_assert_eq(sock_get_silence(fd, &s), 0);
	return s;
}

/* From now on everything that comes to the client is lost. */
static void make_deaf(struct pair p)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog all = {.len = 1, .filter = &drop};
	cr_assert_eq(
	        setsockopt(p.client, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof(all)), 0);
}

static void close_pair(struct pair p)
{
	(void)close(p.listener.fd);
	(void)close(p.client);
	(void)close(p.server);
}

Test(keepalive, a_probe_is_sent_when_asked_for_and_once)
{
	struct pair p = make_pair();
	FACT(fact_info(p.server).tcpi_last_ack_recv >= 1000,
	        "nothing is probed before it is asked for");
	sock_probe(p.server);
	FACT_SOON(fact_info(p.server).tcpi_last_ack_recv < 500,
	        "TCP_KEEPIDLE = 1 on a silent socket sends a probe");
	FACT(silence(p.server).tries == 0, "an answer clears tcpi_probes");
	(void)poll(NULL, 0, 1500);
	FACT(fact_info(p.server).tcpi_last_ack_recv >= 1400,
	        "the next probe comes after TCP_KEEPINTVL, not TCP_KEEPIDLE");
	close_pair(p);
}

Test(keepalive, the_kernel_counts_what_is_not_answered_and_ends_it)
{
	struct pair p = make_pair();
	make_deaf(p);
	for (unsigned n = 1; n <= SOCK_PROBES; n++) {
		sock_probe(p.server);
		FACT_SOON(fact_info(p.server).tcpi_probes == n,
		        "tcpi_probes counts the probes without an answer");
		FACT(silence(p.server).tries == n, "and so they are not answered");
	}
	struct pollfd ended = {.fd = p.server, .events = POLLIN};
	FACT(poll(&ended, 1, 100) == 0, "TCP_KEEPCNT of them end nothing yet");
	sock_probe(p.server);
	FACT(poll(&ended, 1, 2000) == 1, "the next one ends the connection");
	char byte;
	FACT(recv(p.server, &byte, 1, 0) < 0 && errno == ETIMEDOUT, "with ETIMEDOUT");
	close_pair(p);
}

Test(keepalive, what_is_sent_again_is_counted)
{
	struct pair p = make_pair();
	FACT(send(p.server, "x", 1, 0) == 1, "");
	FACT_SOON(!silence(p.server).is_pending,
	        "what the peer has acknowledged is not pending");
	make_deaf(p);
	FACT(send(p.server, "x", 1, 0) == 1, "");
	FACT_SOON(silence(p.server).tries == 2,
	        "tcpi_retransmits counts what goes out again");
	FACT(silence(p.server).is_pending, "and that is pending");
	int unused = 0;
	FACT(setsockopt(p.client, SOL_SOCKET, SO_DETACH_FILTER, &unused,
	             sizeof(unused)) == 0,
	        "");
	FACT_SOON(silence(p.server).tries == 0, "until it is acknowledged");
	close_pair(p);
}

Test(keepalive, whose_window_is_closed_answers)
{
	struct pair p = make_pair();
	static char bytes[65536];
	while (send(p.server, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	(void)poll(NULL, 0, 500);
	FACT(silence(p.server).is_pending, "what is not sent, too, is pending");
	FACT(silence(p.server).tries == 0, "a probe of a closed window is answered");
	make_deaf(p);
	FACT_SOON(silence(p.server).tries > 0, "by nobody who is gone");
	close_pair(p);
}
