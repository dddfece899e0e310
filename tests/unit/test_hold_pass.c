/*
 * test_hold_pass.c - what one holder has begun is nothing to another: a holder that has stalled loses
 * the role, and turns again while a newer one is at work.
 */
#include "core/gauges.h"
#include "rig.h"

#define MS(n) ((uint64_t)(n)*CLOCK_MSEC)

static int quiet_ready(struct conn *conn, uint32_t events)
{
	(void)conn;
	(void)events;
	return 0;
}

static const struct service quiet_service = {
        .name = "quiet", .fds_per_connection = 1, .ready = quiet_ready};

static struct hold *hold_of(struct rig *rig)
{
	return &rig->port->hold;
}

/* Worker 0 is the holder and stalls; all others turn. */
static void depose_worker_0(struct rig *rig)
{
	unsigned first = 99;
	(void)port_pulse(rig->port, &first);
	for (unsigned i = 1; i < rig->port->n_workers; i++)
		rig_turn(rig, i);
	cr_assert_eq(port_pulse(rig->port, &first), 1);
	cr_assert_eq(first, 0);
	cr_assert_eq(hold_of(rig)->holder, HOLD_NOBODY);
}

/* Three workers with a place each, all taken, the first by number 0; worker 0 holds `ret_client`. */
static void fill_and_hold(struct rig *rig, int ret_served[3], int *ret_client)
{
	for (unsigned i = 0; i < 3; i++)
		ret_served[i] = rig_serve(rig, i);
	*ret_client = rig_connect(rig);
	RIG_UNTIL(rig, 0, hold_of(rig)->count == 1);
	cr_assert_eq(hold_of(rig)->holder, 0);
}

static void open_tables(struct rig *rig, enum config_fd_table table)
{
	rig_init(rig, 3, 3);
	rig->budget.table_slots = 1;
	rig->config.fd_table = table;
	rig->config.queue_timeout = MS(600000);
	rig_open(rig, &quiet_service);
}

/* 0 offers its client to 1, who takes it, and stalls. 1 becomes the holder and offers the next client to
 * 2. Then 0 turns again. */
static void pass_behind_the_back(enum config_fd_table table)
{
	struct rig rig;
	int served[3], first, next;
	open_tables(&rig, table);
	fill_and_hold(&rig, served, &first);
	conn_close(rig_newest(&rig, 1), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED);
	depose_worker_0(&rig);
	cr_assert_eq(rig_worker(&rig, 1)->conns.open, 1, "1 has taken it");

	rig.now += MS(100);
	next = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->count == 1);
	cr_assert_eq(hold_of(&rig)->holder, 1);
	conn_close(rig_newest(&rig, 2), CLOSE_CLIENT);
	rig_turn(&rig, 1);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED);

	rig_turn(&rig, 0);
	cr_expect_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED, "0 took it back");
	cr_expect_eq(rig_worker(&rig, 0)->held.watch.fd, -1, "0 holds it");
	cr_expect_not(rig_worker(&rig, 2)->stalled, "a healthy worker counts as stalled");
	rig_assert_books(&rig);
	rig_turn(&rig, 2);
	cr_expect_eq(hold_of(&rig)->count, 0);
	cr_expect_eq(rig_worker(&rig, 2)->conns.open, 1);
	(void)rig_run(&rig, MS(200), 100);
	cr_expect_eq(port_connections(rig.port), 3);
	for (unsigned i = 0; i < 3; i++)
		(void)close(served[i]);
	(void)close(first);
	(void)close(next);
	rig_close(&rig);
}

Test(pass, a_dismissed_holder_takes_nothing_back_that_a_newer_one_has_offered)
{
	pass_behind_the_back(CONFIG_FD_TABLE_PRIVATE);
}

Test(pass, nor_does_it_when_the_port_drains)
{
	struct rig rig;
	int served[3], first, next;
	open_tables(&rig, CONFIG_FD_TABLE_PRIVATE);
	fill_and_hold(&rig, served, &first);
	conn_close(rig_newest(&rig, 1), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	depose_worker_0(&rig);
	next = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->count == 1);
	conn_close(rig_newest(&rig, 2), CLOSE_CLIENT);
	rig_turn(&rig, 1);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED);
	port_set_draining(rig.port, true);
	rig_turn(&rig, 0);
	cr_expect_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED, "0 took it back");
	rig_turn(&rig, 2);
	rig_turn(&rig, 1);
	cr_expect_eq(hold_of(&rig)->count, 0);
	cr_expect_eq(rig_worker(&rig, 2)->conns.open, 1);
	for (unsigned i = 0; i < 3; i++)
		(void)close(served[i]);
	(void)close(first);
	(void)close(next);
	rig_close(&rig);
}

/* 0 asks 2, who does not turn, for the slot of what is idle longest, and stalls. 1 becomes the holder,
 * and waits for the answer as 0 would have. */
Test(evict, a_new_holder_judges_by_what_the_old_one_has_asked)
{
	struct rig rig;
	int served[3], first, next;
	unsigned stalled = 99;
	rig_init(&rig, 3, 3);
	rig.config.queue_timeout = MS(600000);
	rig.config.evict_idle = MS(50);
	rig_open(&rig, &quiet_service);
	served[2] = rig_serve(&rig, 2);
	rig.now += MS(10);
	served[0] = rig_serve(&rig, 0);
	served[1] = rig_serve(&rig, 1);
	first = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 1);
	rig.now += MS(45);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->evicting, 2);

	(void)port_pulse(rig.port, &stalled);
	rig_turn(&rig, 1);
	(void)port_pulse(rig.port, &stalled);
	cr_assert_eq(hold_of(&rig)->holder, HOLD_NOBODY);
	next = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->count == 2);
	rig_turn(&rig, 0);
	cr_assert_not(rig_worker(&rig, 0)->stalled);
	rig_turn(&rig, 1);
	cr_expect_not(rig_worker(&rig, 0)->stalled, "it was not asked");
	cr_expect_eq(hold_of(&rig)->evicting, 2, "asked for longer than HOLD_PASS_NS");
	/* What was asked of it is done once, and the client that 1 holds gets the slot. */
	rig_turn(&rig, 2);
	cr_expect_eq(rig_counts(&rig).closed[CLOSE_EVICTED], 1);
	cr_expect_eq(hold_of(&rig)->evicting, HOLD_NOBODY);
	rig_turn(&rig, 1);
	cr_expect_eq(hold_of(&rig)->count, 1);
	for (unsigned i = 0; i < 3; i++)
		(void)close(served[i]);
	(void)close(first);
	(void)close(next);
	rig_close(&rig);
}

/* Asked, passed over, and late: somebody else was asked since. */
Test(evict, who_was_passed_over_evicts_nobody)
{
	struct rig rig;
	int served[3], client;
	rig_init(&rig, 3, 3);
	rig.config.queue_timeout = MS(600000);
	rig.config.evict_idle = MS(50);
	rig_open(&rig, &quiet_service);
	served[2] = rig_serve(&rig, 2);
	rig.now += MS(10);
	served[1] = rig_serve(&rig, 1);
	rig.now += MS(1);
	served[0] = rig_serve(&rig, 0);
	client = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 1);
	rig.now += MS(55);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->evicting, 2);
	rig.now += HOLD_PASS_NS;
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->evicting, 1, "2 was passed over");
	rig_turn(&rig, 2);
	cr_expect_eq(rig_counts(&rig).closed[CLOSE_EVICTED], 0, "1 is asked now");
	rig_turn(&rig, 1);
	rig_turn(&rig, 0);
	cr_expect_eq(rig_counts(&rig).closed[CLOSE_EVICTED], 1);
	cr_expect_eq(hold_of(&rig)->count, 0);
	for (unsigned i = 0; i < 3; i++)
		(void)close(served[i]);
	(void)close(client);
	rig_close(&rig);
}
