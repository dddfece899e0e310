/*
 * test_timeouts.c - when an open connection is closed for doing nothing, on a clock of the test's own.
 */
#include "rig.h"

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

RIG_FN uint64_t closed(struct rig *rig, enum close_reason reason)
{
	return rig_counts(rig).closed[reason];
}

#define MS(n) ((uint64_t)(n)*CLOCK_MSEC)

/* Two that are silent, the second opened 100 ms after the first; *ret_client are theirs.
 */
static void open_two(struct rig *rig, int ret_client[2])
{
	rig_open(rig, &silent);
	for (int i = 0; i < 2; i++) {
		if (i > 0)
			rig->now += MS(100);
		ret_client[i] = rig_serve(rig, 0);
	}
}

static void close_two(struct rig *rig, const int client[2])
{
	(void)close(client[0]);
	(void)close(client[1]);
	rig_close(rig);
}

Test(timeouts, the_first_byte_is_due_exactly_in_time_in_the_order_of_opening)
{
	struct rig rig;
	int client[2];
	rig_init(&rig, 1, 4);
	rig.config.first_byte = MS(300);
	rig.config.idle = MS(1000);
	open_two(&rig, client);
	struct worker *w = rig_worker(&rig, 0);
	uint64_t first = rig.now - MS(100) + MS(300);
	cr_assert_eq(conn_next_deadline(w), first);
	rig.now = first - 1;
	rig_turn(&rig, 0);
	cr_assert_eq(w->conns.open, 2, "1 ns too early");
	rig.now = first;
	rig_turn(&rig, 0);
	cr_assert_eq(w->conns.open, 1);
	cr_assert_eq(closed(&rig, CLOSE_FIRST_BYTE), 1);
	cr_assert_eq(rig_await(client[0]), 'e', "the elder one");
	cr_assert_eq(conn_next_deadline(w), first + MS(100));
	/* Late: all that are due, at once. */
	rig.now = first + MS(5000);
	rig_turn(&rig, 0);
	cr_assert_eq(closed(&rig, CLOSE_FIRST_BYTE), 2);
	cr_assert_eq(conn_next_deadline(w), CLOCK_INFINITY);
	close_two(&rig, client);
}

Test(timeouts, idle_counts_from_the_last_move_and_reorders)
{
	struct rig rig;
	int client[2];
	rig_init(&rig, 1, 4);
	rig.config.first_byte = MS(300);
	rig.config.idle = MS(1000);
	open_two(&rig, client);
	struct worker *w = rig_worker(&rig, 0);
	struct conn *young = rig_newest(&rig, 0);
	struct conn *old = container_of(w->conns.silent[0].next, struct conn, timer);
	cr_assert_neq(young, old);
	conn_touch(young, true);
	rig.now += MS(50);
	rig_turn(&rig, 0);
	conn_touch(old, true);
	cr_assert_eq(conn_next_deadline(w), rig.now - MS(50) + MS(1000));
	/* The young one moves on: now the old one is the first. */
	rig.now += MS(20);
	rig_turn(&rig, 0);
	conn_touch(young, false);
	cr_assert_eq(conn_next_deadline(w), rig.now - MS(20) + MS(1000));
	rig.now += MS(980) - 1;
	rig_turn(&rig, 0);
	cr_assert_eq(w->conns.open, 2);
	rig.now += 1;
	rig_turn(&rig, 0);
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	cr_assert_eq(young->state, CONN_OPEN);
	rig.now += MS(20);
	rig_turn(&rig, 0);
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 2);
	close_two(&rig, client);
}

Test(timeouts, what_the_service_sends_is_no_first_byte)
{
	struct rig rig;
	int client[2];
	rig_init(&rig, 1, 4);
	rig.config.first_byte = MS(300);
	open_two(&rig, client);
	struct conn *young = rig_newest(&rig, 0);
	conn_touch(young, false);
	cr_assert_not(young->spoken);
	rig.now += MS(300);
	rig_turn(&rig, 0);
	cr_assert_eq(closed(&rig, CLOSE_FIRST_BYTE), 2);
	close_two(&rig, client);
}

/* first_byte and idle, in ms, and what a silent connection is closed for, after how long.
 */
static const struct {
	unsigned first_byte, idle, after;
	enum close_reason reason;
} silences[] = {
        {300, 0, 300, CLOSE_FIRST_BYTE},
        {0, 400, 400, CLOSE_IDLE},
        {300, 400, 300, CLOSE_FIRST_BYTE},
        {400, 300, 300, CLOSE_IDLE},
        {300, 300, 300, CLOSE_FIRST_BYTE},
};

Test(timeouts, of_two_the_shorter_decides_and_is_the_reason)
{
	for (size_t i = 0; i < ARRAY_SIZE(silences); i++) {
		struct rig rig;
		rig_init(&rig, 1, 4);
		rig.config.first_byte = MS(silences[i].first_byte);
		rig.config.idle = MS(silences[i].idle);
		rig_open(&rig, &silent);
		int client = rig_serve(&rig, 0);
		rig.now += MS(silences[i].after) - 1;
		rig_turn(&rig, 0);
		cr_assert_eq(rig_worker(&rig, 0)->conns.open, 1, "row %zu", i);
		rig.now += 1;
		rig_turn(&rig, 0);
		cr_assert_eq(closed(&rig, silences[i].reason), 1, "row %zu", i);
		(void)close(client);
		rig_close(&rig);
	}
}

Test(timeouts, who_has_something_to_say_is_not_evicted)
{
	static const uint64_t idle[] = {0, MS(100)};
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++) {
		struct rig rig;
		int client[2];
		rig_init(&rig, 1, 4);
		open_two(&rig, client);
		struct worker *w = rig_worker(&rig, 0);
		rig.now += MS(100);
		w->now = rig.now;
		/* The elder one, whose byte nobody has read yet. */
		cr_assert_eq(send(client[0], "x", 1, MSG_NOSIGNAL), 1);
		cr_assert(conn_evict(w, idle[i]));
		cr_assert_eq(closed(&rig, CLOSE_EVICTED), 1);
		cr_assert_not(conn_evict(w, idle[i]));
		cr_assert_eq(w->conns.open, 1);
		cr_assert_neq(rig_await(client[1]), 0, "the younger one");
		close_two(&rig, client);
	}
}

Test(timeouts, none_is_none)
{
	struct rig rig;
	int client[2];
	rig_init(&rig, 1, 4);
	open_two(&rig, client);
	struct worker *w = rig_worker(&rig, 0);
	conn_touch(rig_newest(&rig, 0), true);
	cr_assert_eq(conn_next_deadline(w), CLOCK_INFINITY);
	rig.now += 1000 * 3600 * CLOCK_SEC;
	rig_turn(&rig, 0);
	cr_assert_eq(w->conns.open, 2);
	close_two(&rig, client);
}

Test(timeouts, only_the_first_of_a_list_is_looked_at)
{
	struct rig rig;
	int client[2];
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(1000);
	open_two(&rig, client);
	struct worker *w = rig_worker(&rig, 0);
	/* A second one whose time is long over would be found by a scan: it is not. */
	rig_newest(&rig, 0)->active = 1;
	rig_turn(&rig, 0);
	cr_assert_eq(w->conns.open, 2);
	cr_assert_eq(conn_next_deadline(w), rig.now - MS(100) + MS(1000));
	close_two(&rig, client);
}
