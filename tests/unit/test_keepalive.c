/*
 * test_keepalive.c - whom a worker asks for a sign of life, and when, on a clock of the test's own. What
 * the kernel says of the answers is made up: --wrap=getsockopt.
 */
#include "rig.h"

#include <linux/tcp.h>

#include "core/keepalive.h"

#define KEEP  (3 * CLOCK_SEC)
#define ROUND (KEEP / KEEPALIVE_ROUNDS)

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);

static bool is_unanswered;
/* Something is on its way to the client, and has gone out so often again; the last time after its last
 * acknowledgement, or before. */
static bool is_pending;
static uint8_t resends;
static bool has_acked;

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int r = __real_getsockopt(fd, level, name, value, len);
	if (level != IPPROTO_TCP || name != TCP_INFO)
		return r;
	struct tcp_info *info = value;
	if (is_unanswered)
		info->tcpi_probes = 1;
	if (is_pending) {
		info->tcpi_unacked = 1;
		info->tcpi_retransmits = resends;
		info->tcpi_last_data_sent = 200;
		info->tcpi_last_ack_recv = has_acked ? 100 : 5000;
	}
	return r;
}

static int silent_ready(struct conn *conn, uint32_t events)
{
	(void)conn;
	(void)events;
	return 0;
}

static const struct service silent = {
        .name = "silent",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .ready = silent_ready,
};

RIG_FN uint64_t probes(struct rig *rig)
{
	return rig_counts(rig).counter[COUNTER_PROBES];
}

enum {
	CLIENTS = 160
};

/* So many silent clients of each worker. */
static void open_all(struct rig *rig, unsigned workers, int *client, unsigned n)
{
	rig_init(rig, workers, n * workers);
	rig->config.keepalive = KEEP;
	rig_open(rig, &silent);
	is_unanswered = is_pending = has_acked = false;
	for (unsigned i = 0; i < n * workers; i++)
		client[i] = rig_serve(rig, i % workers);
}

static void close_all(struct rig *rig, const int *client, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)close(client[i]);
	rig_close(rig);
}

Test(keepalive, the_period_grows_with_the_connections)
{
	cr_assert_eq(keepalive_period(0, 1000000), 0);
	cr_assert_eq(keepalive_period(60 * CLOCK_SEC, 0), 60 * CLOCK_SEC);
	cr_assert_eq(keepalive_period(60 * CLOCK_SEC, 120000), 60 * CLOCK_SEC);
	cr_assert_eq(keepalive_period(60 * CLOCK_SEC, 300000), 150 * CLOCK_SEC);
	cr_assert_eq(keepalive_period(60 * CLOCK_SEC, 1000000), 500 * CLOCK_SEC);
	cr_assert_eq(keepalive_period(3600 * CLOCK_SEC, 1000000), 3600 * CLOCK_SEC);
}

Test(keepalive, off_is_off)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &silent);
	int client = rig_serve(&rig, 0);
	cr_assert_eq(keepalive_deadline(rig_worker(&rig, 0)), CLOCK_INFINITY);
	(void)rig_run(&rig, 10 * KEEP, 100);
	cr_assert_eq(probes(&rig), 0);
	close_all(&rig, &client, 1);
}

Test(keepalive, without_connections_nobody_wakes_up)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.keepalive = KEEP;
	rig_open(&rig, &silent);
	cr_assert_eq(keepalive_deadline(rig_worker(&rig, 0)), CLOCK_INFINITY);
	int client = rig_serve(&rig, 0);
	rig_turn(&rig, 0);
	cr_assert_eq(keepalive_deadline(rig_worker(&rig, 0)), rig.now + ROUND);
	close_all(&rig, &client, 1);
}

/* All came together; their probes do not leave together. */
Test(keepalive, silent_ones_are_probed_in_turn)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 2, client, CLIENTS / 2);
	(void)rig_run(&rig, KEEPALIVE_EVERY * ROUND, 1000);
	uint64_t before = probes(&rig);
	for (unsigned i = 0; i < 3 * KEEPALIVE_EVERY; i++) {
		uint64_t began = probes(&rig);
		(void)rig_run(&rig, ROUND, 100);
		/* A part of EVERY, and once a part more, as a round ends. */
		cr_assert_leq(probes(&rig) - began, 2 * CLIENTS / KEEPALIVE_EVERY + 2);
	}
	uint64_t n = probes(&rig) - before;
	cr_assert(n >= 3 * CLIENTS - CLIENTS / 4 && n <= 3 * CLIENTS + CLIENTS / 4,
	        "%lu probes", (unsigned long)n);
	close_all(&rig, client, CLIENTS);
}

Test(keepalive, who_moves_is_not_probed)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 1, client, CLIENTS);
	struct worker *w = rig_worker(&rig, 0);
	for (unsigned i = 0; i < 4 * KEEPALIVE_EVERY; i++) {
		(void)rig_run(&rig, ROUND, 100);
		struct list *all = &w->conns.living;
		for (struct list *l = all->next; l != all; l = l->next)
			conn_touch(container_of(l, struct conn, life), true);
	}
	cr_assert_eq(probes(&rig), 0);
	close_all(&rig, client, CLIENTS);
}

/* All of them at once: each in every round, at a bounded pace. */
Test(keepalive, who_does_not_answer_is_probed_again)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 2, client, CLIENTS / 2);
	is_unanswered = true;
	(void)rig_run(&rig, 2 * KEEPALIVE_EVERY * ROUND, 10000);
	uint64_t before = probes(&rig);
	for (unsigned ms = 0; ms < 10 * ROUND / CLOCK_MSEC; ms++) {
		uint64_t began = probes(&rig);
		(void)rig_run(&rig, CLOCK_MSEC, 100);
		cr_assert_leq(probes(&rig) - began, 128, "a batch of each worker");
	}
	uint64_t n = probes(&rig) - before;
	cr_assert(n >= 9 * CLIENTS && n <= 11 * CLIENTS, "%lu probes", (unsigned long)n);
	is_unanswered = false;
	(void)rig_run(&rig, ROUND, 1000);
	before = probes(&rig);
	(void)rig_run(&rig, ROUND, 1000);
	cr_assert_leq(probes(&rig) - before, 2 * CLIENTS / KEEPALIVE_EVERY + 2);
	close_all(&rig, client, CLIENTS);
}

/* A pause of all workers: what is due is not made good for at once. */
Test(keepalive, after_a_stop_it_goes_on_at_its_pace)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 2, client, CLIENTS / 2);
	is_unanswered = true;
	(void)rig_run(&rig, 2 * KEEPALIVE_EVERY * ROUND, 10000);
	rig.now += 100 * KEEP;
	uint64_t began = probes(&rig);
	(void)rig_run(&rig, CLOCK_MSEC, 100);
	cr_assert_leq(probes(&rig) - began, 128);
	close_all(&rig, client, CLIENTS);
}

/* Whoever is closed may be the one whose turn it is. */
Test(keepalive, connections_end_while_it_goes_round)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 1, client, CLIENTS);
	struct worker *w = rig_worker(&rig, 0);
	is_unanswered = true;
	(void)rig_run(&rig, 2 * KEEPALIVE_EVERY * ROUND, 10000);
	while (w->conns.open > 0) {
		struct list *next = w->conns.next;
		if (!next)
			next = list_first(&w->conns.living);
		conn_close(container_of(next, struct conn, life), CLOSE_IDLE);
		cr_assert(!w->conns.next || w->conns.next != next);
		conn_free_closed(w);
		(void)rig_run(&rig, ROUND / 4, 100);
	}
	cr_assert_null(w->conns.next);
	close_all(&rig, client, CLIENTS);
}

/* Who has left unanswered what was sent to him is closed, in the time in which probes would have done it;
 * he is not probed. */
Test(keepalive, what_is_sent_again_is_as_good_as_a_probe)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 2, client, CLIENTS / 2);
	is_pending = true;
	resends = 3;
	(void)rig_run(&rig, 14 * ROUND - CLOCK_MSEC, 10000);
	cr_assert_eq(rig_counts(&rig).closed[CLOSE_TIMEOUT], 0);
	(void)rig_run(&rig, 10 * ROUND, 10000);
	cr_assert_eq(rig_counts(&rig).closed[CLOSE_TIMEOUT], CLIENTS);
	cr_assert_eq(probes(&rig), 0);
	close_all(&rig, client, CLIENTS);
}

Test(keepalive, who_acknowledges_or_was_asked_too_little_stays)
{
	static int client[CLIENTS];
	struct rig rig;
	open_all(&rig, 1, client, CLIENTS);
	is_pending = true;
	resends = 2;
	(void)rig_run(&rig, 3 * KEEP, 10000);
	resends = 3;
	has_acked = true;
	(void)rig_run(&rig, ROUND, 10000);
	has_acked = false;
	/* From the beginning. */
	(void)rig_run(&rig, 10 * ROUND, 10000);
	has_acked = true;
	(void)rig_run(&rig, 3 * KEEP, 10000);
	resends = 0;
	has_acked = false;
	(void)rig_run(&rig, 3 * KEEP, 10000);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, CLIENTS);
	cr_assert_eq(probes(&rig), 0);
	close_all(&rig, client, CLIENTS);
}
