/*
 * test_hold_edges.c - full, where few would look: the only priority slot, a client who leaves while
 * nobody holds the role for him, and what the holder's looks say of the queue.
 */
#include "hold_rig.h"

#include "core/accept_call.h"
#include "fdfill.h"
#include "net/prefix.h"

RIG_FN struct prefix_set *set_of(const char *text)
{
	struct prefix_set *set = NULL;
	cr_assert_eq(prefix_set_parse(text, &set, NULL, NULL), 0);
	return set;
}

/* One ordinary slot, taken, and one priority slot, free; nobody may wait. */
Test(hold_edges, a_priority_client_gets_the_only_priority_slot)
{
	struct rig rig;
	rig_init(&rig, 1, 1);
	rig.config.queue_timeout = 0;
	rig.config.source_priority = set_of("127.0.0.7");
	rig.budget.priority_slots = 1;
	rig_open(&rig, &quiet_service);
	int served = rig_serve(&rig, 0);
	int other = rig_connect_from(&rig, 8);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_FULL) == 1);
	cr_assert_eq(rig_await(other), 'r');
	int first = rig_connect_from(&rig, 7);
	RIG_UNTIL(&rig, 0, rig_counts(&rig).counter[COUNTER_ACCEPTED] == 3);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2, "shed beside a free slot");
	cr_assert_eq(rig.port->admit.priority_used, 1);
	/* The next one of them finds it taken. */
	int second = rig_connect_from(&rig, 7);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_FULL) == 2);
	cr_assert_eq(rig_await(second), 'r');
	close_clients((const int[]){served, other, first, second}, 4);
	rig_close(&rig);
	rig.config.source_priority = prefix_set_free(rig.config.source_priority);
}

/* 0 was dismissed with a client in its hands, 1 holds another; no slot comes free for an hour. */
Test(hold_edges, a_dead_client_of_a_dismissed_holder_is_closed_at_once)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 2, 2);
	rig.config.queue_timeout = 3600 * CLOCK_SEC;
	rig_open(&rig, &quiet_service);
	int held = fill_and_hold(&rig, served);
	depose_worker_0(&rig);
	int later = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->holder == 1);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->count, 2, "each has one");
	sock_reset(held);
	RIG_UNTIL(&rig, 0, rig_worker(&rig, 0)->held.dead || hold_of(&rig)->count == 1);
	cr_assert_eq(hold_of(&rig)->count, 1, "the dead one keeps its descriptor");
	cr_assert_eq(rig_worker(&rig, 0)->held.watch.fd, -1);
	cr_assert_eq(shed_for(&rig, SHED_ABORTED), 1);
	cr_assert_eq(rig_look(later), '-');
	close_clients(served, 2);
	(void)close(later);
	rig_close(&rig);
}

/* Each table has one place. 0 is dismissed with a client in its hands; then 1's place comes free, and
 * so 1 takes no role: the client is for 0 to pass on. */
Test(hold_edges, a_dismissed_holder_takes_the_role_back_where_nobody_has_it)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 2, 2);
	rig.budget.table_slots = 1;
	rig.config.fd_table = CONFIG_FD_TABLE_PRIVATE;
	rig.config.queue_timeout = 3600 * CLOCK_SEC;
	rig_open(&rig, &quiet_service);
	served[0] = rig_serve(&rig, 0);
	served[1] = rig_serve(&rig, 1);
	int client = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 1);
	unsigned first = 99;
	cr_assert_eq(port_pulse(rig.port, &first), 0);
	rig_turn(&rig, 1);
	conn_close(rig_newest(&rig, 1), CLOSE_CLIENT);
	cr_assert_eq(port_pulse(rig.port, &first), 1);
	cr_assert_eq(hold_of(&rig)->holder, HOLD_NOBODY);
	rig_turn(&rig, 1);
	cr_assert_eq(hold_of(&rig)->holder, HOLD_NOBODY);
	(void)rig_run(&rig, MS(1), 20);
	cr_assert_eq(hold_of(&rig)->count, 0, "a slot is free and the client is held");
	cr_assert_eq(rig_worker(&rig, 1)->conns.open, 1);
	cr_assert_eq(rig_look(client), '-');
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

/* While it is full the holder alone looks: portctl limits asks for how long nobody did. */
Test(hold_edges, each_step_of_the_holder_is_a_look_at_the_queue)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = 3600 * CLOCK_SEC;
	rig_open(&rig, &quiet_service);
	int held = fill_and_hold(&rig, served);
	rig.now += CLOCK_SEC;
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	cr_assert_eq(atomic_load(&rig.port->burst.looked), rig.now);
	cr_assert_eq(atomic_load(&rig.port->burst.pause), 0, "one was held all the time");
	close_clients(served, 2);
	(void)close(held);
	rig_close(&rig);
}

/* No slot comes free for 0's client, and 1 has the role. */
Test(hold_edges, a_dismissed_holders_client_waits_exactly_its_time)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 2, 2);
	rig_open(&rig, &quiet_service);
	int held = fill_and_hold(&rig, served);
	depose_worker_0(&rig);
	int later = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->holder == 1);
	rig_turn(&rig, 0);
	uint64_t expiry = rig_worker(&rig, 0)->held.wake_at;
	cr_assert_leq(expiry, rig.now + CLOCK_SEC);
	rig.now = expiry - 1;
	rig_turn(&rig, 0);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 0);
	rig.now = expiry;
	rig_turn(&rig, 0);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 1);
	cr_assert_eq(rig_await(held), 'r');
	close_clients(served, 2);
	(void)close(held);
	(void)close(later);
	rig_close(&rig);
}

/* What main keeps back comes before new connections, and only main can take it. */
Test(hold_edges, main_is_told_where_what_it_wants_back_is_missing)
{
	struct rig rig;
	struct fdfill fill;
	eventfd_t told;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &quiet_service);
	struct worker *w = rig_worker(&rig, 0);
	fdfill_all(&fill);
	w->now = rig.now;
	worker_set_short(w);
	(void)eventfd_read(rig.main_fd, &told);
	cr_assert_not(worker_check_short(w, true));
	cr_assert_lt(eventfd_read(rig.main_fd, &told), 0, "main cannot help");
	fdfill_free(&fill, 2);
	fdtable_want(2);
	cr_assert_not(worker_check_short(w, true));
	cr_assert_eq(eventfd_read(rig.main_fd, &told), 0, "main would not look");
	fdtable_want(0);
	cr_assert(worker_check_short(w, true));
	fdfill_end(&fill);
	rig_close(&rig);
}

/* It is one that went, and none that was turned away. */
Test(hold_edges, a_held_client_who_is_dead_when_portd_drains_was_not_shed_for_that)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = 3600 * CLOCK_SEC;
	rig_open(&rig, &quiet_service);
	int held = fill_and_hold(&rig, served);
	struct pollfd gone = {.fd = rig_worker(&rig, 0)->held.watch.fd};
	sock_reset(held);
	cr_assert_eq(poll(&gone, 1, 5000), 1);
	port_set_draining(rig.port, true);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 0);
	cr_assert_eq(shed_for(&rig, SHED_ABORTED), 1);
	cr_assert_eq(shed_for(&rig, SHED_DRAINING), 0);
	close_clients(served, 2);
	rig_close(&rig);
}

/* The client has the number of the kept descriptor: it waits for one, not for a slot. */
Test(hold_edges, a_priority_client_without_a_descriptor_is_served_when_one_is_free)
{
	struct rig rig;
	struct fdfill fill;
	rig_init(&rig, 1, 1);
	rig.config.queue_timeout = 3600 * CLOCK_SEC;
	rig.config.source_priority = set_of("127.0.0.7");
	rig.budget.priority_slots = 1;
	rig_open(&rig, &quiet_service);
	int served = rig_serve(&rig, 0);
	int first = rig_connect_from(&rig, 7);
	fdfill_all(&fill);
	struct worker *w = rig_worker(&rig, 0);
	w->now = rig.now;
	worker_set_short(w);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 1);
	cr_assert_lt(w->kept.fd, 0);
	cr_assert_eq(rig.port->admit.priority_used, 0);
	cr_assert_eq(rig_look(first), '-');
	fdfill_free(&fill, 3);
	rig.now = worker_next_deadline(w);
	RIG_UNTIL(&rig, 0, w->conns.open == 2);
	cr_assert_eq(rig.port->admit.priority_used, 1);
	fdfill_end(&fill);
	close_clients((const int[]){served, first}, 2);
	rig_close(&rig);
	rig.config.source_priority = prefix_set_free(rig.config.source_priority);
}
