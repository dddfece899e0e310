/*
 * test_hold.c - full: who holds the head of the queue, who gets the next slot, and when a
 * client is shed. One process, workers turned by hand.
 */
#include "core/gauges.h"
#include "core/waiter.h"
#include "fdfill.h"
#include "hold_rig.h"

Test(hold, the_held_client_gets_the_slot_that_comes_free)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 1, 2);
	rig_open(&rig, &quiet_service);
	int client = fill_and_hold(&rig, served);
	struct worker *w = rig_worker(&rig, 0);
	rig_assert_books(&rig);
	cr_assert_eq(state_read(&rig.port->state, rig.now, NULL), STATE_FULL);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(w->conns.open, 2);
	cr_assert_eq(rig_look(client), '-', "it is served, not shed");
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

Test(hold, the_held_client_is_shed_when_its_time_is_up_and_not_before)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = MS(5000);
	rig_open(&rig, &quiet_service);
	int client = fill_and_hold(&rig, served);
	struct worker *w = rig_worker(&rig, 0);
	uint64_t expiry = w->held.since + MS(5000) - w->held.age;
	cr_assert_eq(hold_next_deadline(w), expiry);
	cr_assert_leq(rig_run(&rig, expiry - rig.now - 1, 100), 20);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 0);
	(void)rig_run(&rig, 1, 100);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 1);
	cr_assert_eq(rig_await(client), 'r');
	cr_assert_eq(hold_of(&rig)->count, 0);
	(void)close(client);
	close_clients(served, 2);
	rig_close(&rig);
}

Test(hold, without_a_time_to_wait_all_are_shed_at_once)
{
	struct rig rig;
	int served[2], client[3];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = 0;
	rig_open(&rig, &quiet_service);
	for (int i = 0; i < 2; i++)
		served[i] = rig_serve(&rig, 0);
	for (int i = 0; i < 3; i++)
		client[i] = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_FULL) == 3);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(rig_await(client[i]), 'r');
	close_clients(client, 3);
	close_clients(served, 2);
	rig_close(&rig);
}

/* Worker 1 has a slot for a connection that it is about to accept, as in a batch whose last accept
 * finds nothing; worker 0 sees no slot left, and a client who may not wait. */
static int come_while_a_slot_is_in_passing(struct rig *rig, int *ret_served)
{
	rig_init(rig, 2, 2);
	rig->config.queue_timeout = 0;
	rig_open(rig, &quiet_service);
	*ret_served = rig_serve(rig, 0);
	cr_assert_eq(admit_take(&rig->port->admit, 1), 0);
	int client = rig_connect(rig);
	for (int i = 0; i < 3; i++)
		rig_turn(rig, 0);
	cr_assert_eq(hold_of(rig)->holder, 0);
	cr_assert_eq(shed_for(rig, SHED_FULL), 0, "shed while a slot is in passing");
	cr_assert_neq(state_read(&rig->port->state, rig->now, NULL), STATE_FULL);
	return client;
}

Test(hold, a_slot_in_passing_that_comes_back_is_the_next_clients)
{
	struct rig rig;
	int served, client = come_while_a_slot_is_in_passing(&rig, &served);
	worker_give_slot(rig_worker(&rig, 1), false);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(port_connections(rig.port), 2);
	cr_assert_eq(rig_look(client), '-', "it is served, not shed");
	cr_assert_eq(shed_for(&rig, SHED_FULL), 0);
	(void)close(client);
	(void)close(served);
	rig_close(&rig);
}

Test(hold, a_slot_in_passing_is_not_waited_for_long)
{
	struct rig rig;
	int served, client = come_while_a_slot_is_in_passing(&rig, &served);
	(void)rig_run(&rig, MS(6), 20);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 1);
	cr_assert_eq(rig_await(client), 'r');
	/* Whose worker stands still takes its time once, not from every client. */
	int next = rig_connect(&rig);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 2);
	cr_assert_eq(state_read(&rig.port->state, rig.now, NULL), STATE_FULL);
	worker_give_slot(rig_worker(&rig, 1), false);
	(void)close(next);
	(void)close(client);
	(void)close(served);
	rig_close(&rig);
}

/* 0 gives the role up with the turn that finds the queue empty, and takes it again in the next one. */
Test(hold, a_slot_in_passing_is_waited_for_again_by_the_next_holder)
{
	struct rig rig;
	int client[3];
	client[1] = come_while_a_slot_is_in_passing(&rig, &client[0]);
	worker_give_slot(rig_worker(&rig, 1), false);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(port_connections(rig.port), 2);
	for (unsigned i = 0; i < 2; i++)
		while (rig_worker(&rig, i)->conns.open > 0)
			conn_close(rig_newest(&rig, i), CLOSE_CLIENT);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->holder == HOLD_NOBODY);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(admit_take(&rig.port->admit, 1), 0);
	client[2] = rig_connect(&rig);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->holder, 0);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 0, "shed while a slot is in passing");
	for (int i = 0; i < 2; i++)
		worker_give_slot(rig_worker(&rig, 1), false);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(rig_look(client[2]), '-', "it is served, not shed");
	close_clients(client, 3);
	rig_close(&rig);
}

Test(hold, with_infinity_nobody_is_held_and_nobody_is_shed)
{
	struct rig rig;
	int served[2], client[3];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = CLOCK_INFINITY;
	rig.config.backlog = 2;
	rig_open(&rig, &quiet_service);
	for (int i = 0; i < 2; i++)
		served[i] = rig_serve(&rig, 0);
	for (int i = 0; i < 3; i++)
		client[i] = rig_connect(&rig);
	cr_assert_leq(rig_run(&rig, 3600 * CLOCK_SEC, 100), 10, "it spins");
	cr_assert_eq(rig_depth(&rig), 3);
	cr_assert_eq(hold_of(&rig)->count, 0);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	(void)rig_run(&rig, CLOCK_SEC, 100);
	cr_assert_eq(rig_depth(&rig), 2, "the slot went to the next one");
	for (int i = 0; i < 3; i++)
		cr_assert_eq(rig_look(client[i]), '-');
	close_clients(client, 3);
	close_clients(served, 2);
	rig_close(&rig);
}

Test(hold, three_quarters_of_the_queue_shed_the_eldest_at_once)
{
	struct rig rig;
	int served[1], client[12];
	rig_init(&rig, 1, 1);
	rig.config.backlog = 8;
	rig.config.queue_timeout = MS(600000);
	rig_open(&rig, &quiet_service);
	client[0] = fill_and_hold(&rig, served);
	for (int i = 1; i <= 5; i++)
		client[i] = rig_connect(&rig);
	(void)rig_run(&rig, MS(1), 100);
	cr_assert_eq(shed_for(&rig, SHED_BACKLOG), 0, "5 of 8");
	client[6] = rig_connect(&rig);
	(void)rig_run(&rig, MS(1), 100);
	cr_assert_eq(shed_for(&rig, SHED_BACKLOG), 1, "6 of 8: one goes");
	cr_assert_eq(rig_await(client[0]), 'r', "the eldest");
	for (int i = 1; i <= 6; i++)
		cr_assert_eq(rig_look(client[i]), '-');
	close_clients(client, 7);
	close_clients(served, 1);
	rig_close(&rig);
}

/* The moment between listen(fd, 0) and the note of it, at the closing, and after, at the opening. */
Test(hold, behind_a_gate_that_moves_no_queue_is_long)
{
	struct rig rig;
	int served[1], client[2];
	rig_init(&rig, 1, 1);
	rig.config.queue_timeout = MS(600000);
	rig_open(&rig, &quiet_service);
	client[0] = fill_and_hold(&rig, served);
	client[1] = rig_connect(&rig);
	cr_assert_eq(listen(rig.port->listen_fd, 0), 0);
	(void)rig_run(&rig, MS(100), 100);
	cr_assert_eq(shed_for(&rig, SHED_BACKLOG), 0);
	cr_assert_eq(rig_look(client[0]), '-');
	cr_assert_eq(rig_look(client[1]), '-');
	close_clients(client, 2);
	close_clients(served, 1);
	rig_close(&rig);
}

Test(hold, a_client_that_resets_while_held_is_aborted)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 1, 2);
	rig_open(&rig, &quiet_service);
	sock_reset(fill_and_hold(&rig, served));
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_ABORTED) == 1);
	cr_assert_eq(hold_of(&rig)->count, 0);
	/* One that has only sent its FIN is alive. */
	int client = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 1);
	cr_assert_eq(send(client, "x", 1, 0), 1);
	cr_assert_eq(shutdown(client, SHUT_WR), 0);
	(void)rig_run(&rig, MS(10), 100);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	(void)rig_run(&rig, MS(10), 100);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2);
	cr_assert_eq(shed_for(&rig, SHED_ABORTED), 1);
	(void)close(client);
	close_clients(served, 2);
	rig_close(&rig);
}

Test(hold, full_and_quiet_it_turns_at_most_20_times_a_second)
{
	struct rig rig;
	int served[2], client[20];
	rig_init(&rig, 2, 2);
	rig.config.queue_timeout = MS(600000);
	rig_open(&rig, &quiet_service);
	client[0] = fill_and_hold(&rig, served);
	for (int i = 1; i < 20; i++)
		client[i] = rig_connect(&rig);
	(void)rig_run(&rig, MS(1), 1000);
	unsigned turns = rig_run(&rig, 10 * CLOCK_SEC, 5000);
	cr_assert_leq(turns, 200, "%u turns in 10 s", turns);
	close_clients(client, 20);
	close_clients(served, 2);
	rig_close(&rig);
}

Test(hold, the_holder_resigns_when_there_are_slots_for_all_and_nobody_waits)
{
	struct rig rig;
	int served[3];
	rig_init(&rig, 2, 3);
	rig_open(&rig, &quiet_service);
	int client = fill_and_hold(&rig, served);
	for (int i = 0; i < 3; i++)
		conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	(void)rig_run(&rig, MS(1), 100);
	cr_assert_eq(hold_of(&rig)->holder, HOLD_NOBODY);
	cr_assert_eq(port_connections(rig.port), 1);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(rig_worker(&rig, i)->listen, WORKER_LISTEN_SHARED);
	close_clients(served, 3);
	(void)close(client);
	rig_close(&rig);
}

/* While 0 holds a client, 1 has not left the listener's set: nobody has come since. */
Test(hold, no_peer_takes_the_slot_of_the_held_client_for_a_later_one)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 2, 2);
	rig_open(&rig, &quiet_service);
	int held = fill_and_hold(&rig, served);
	int later = rig_connect(&rig);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	/* The slot is free, the holder has not turned yet, and 1 is woken first. */
	rig_turn(&rig, 1);
	cr_expect_eq(
	        rig_worker(&rig, 1)->conns.open, 0, "a later client was served first");
	rig_turn(&rig, 0);
	(void)rig_run(&rig, MS(1), 100);
	cr_expect_eq(rig_depth(&rig) + hold_of(&rig)->count, 1, "one of two waits");
	struct conn *newest = rig_newest(&rig, 0);
	struct tuple tuple;
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	cr_assert_eq(tuple_from_socket(newest->watch.fd, &tuple), 0);
	cr_assert_eq(getsockname(held, (struct sockaddr *)&sa, &len), 0);
	cr_expect_eq(tuple.src.port, ntohs(sa.sin_port), "the held client is served");
	close_clients(served, 2);
	(void)close(held);
	(void)close(later);
	rig_close(&rig);
}

Test(hold, a_dismissed_holder_that_comes_back_does_not_spin)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 2, 2);
	rig.config.queue_timeout = MS(600000);
	rig_open(&rig, &quiet_service);
	/* Full, and the holder waits for newcomers. */
	int gone = fill_and_hold(&rig, served);
	sock_reset(gone);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_ABORTED) == 1);
	cr_assert_eq(rig_worker(&rig, 0)->listen, WORKER_LISTEN_SOLE);

	depose_worker_0(&rig);
	int held = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->count == 1);
	cr_assert_eq(hold_of(&rig)->holder, 1);
	int waiting = rig_connect(&rig);
	unsigned turns = rig_run(&rig, CLOCK_SEC, 1000);
	cr_expect_leq(turns, 40, "%u turns in 1 s", turns);
	close_clients(served, 2);
	(void)close(held);
	(void)close(waiting);
	rig_close(&rig);
}

Test(hold, a_dismissed_holder_settles_the_client_that_it_still_holds)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 2, 2);
	rig_open(&rig, &quiet_service);
	int held = fill_and_hold(&rig, served);
	depose_worker_0(&rig);
	int later = rig_connect(&rig);
	RIG_UNTIL(&rig, 1, hold_of(&rig)->holder == 1);
	cr_assert_eq(hold_of(&rig)->count, 2, "each has one");
	rig_assert_books(&rig);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->count, 1);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2);
	(void)rig_run(&rig, MS(10), 100);
	close_clients(served, 2);
	(void)close(held);
	(void)close(later);
	rig_close(&rig);
}

/* Descriptors are short while slots are free. */
static int hold_for_want_of_a_descriptor(struct rig *rig, struct fdfill *fill)
{
	int client = rig_connect(rig);
	fdfill_all(fill);
	RIG_UNTIL(rig, 0, hold_of(rig)->count == 1);
	cr_assert(admit_is_short(&rig->port->admit, 0));
	cr_assert_eq(rig_worker(rig, 0)->kept.fd, -1, "the client has its place");
	return client;
}

Test(hold, at_emfile_the_client_is_answered_in_time_through_the_kept_descriptor)
{
	struct rig rig;
	struct fdfill fill;
	rig_init(&rig, 1, 100);
	rig_open(&rig, &quiet_service);
	int client = hold_for_want_of_a_descriptor(&rig, &fill);
	(void)rig_run(&rig, 2 * CLOCK_SEC, 1000);
	cr_assert_eq(shed_for(&rig, SHED_FDS), 1);
	cr_assert_eq(rig_await(client), 'r');
	cr_assert_geq(rig_worker(&rig, 0)->kept.fd, 0, "and it is back");
	(void)close(client);
	fdfill_end(&fill);
	rig_close(&rig);
}

Test(hold, one_descriptor_that_comes_free_is_enough_for_the_held_client)
{
	struct rig rig;
	struct fdfill fill;
	rig_init(&rig, 1, 100);
	rig_open(&rig, &quiet_service);
	int served = rig_serve(&rig, 0);
	int client = hold_for_want_of_a_descriptor(&rig, &fill);
	struct worker *w = rig_worker(&rig, 0);
	cr_assert_eq(w->conns.open, 1);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	(void)rig_run(&rig, MS(50), 1000);
	cr_expect_eq(w->conns.open, 1,
	        "50 ms after a descriptor came free the held client is not served");
	(void)rig_run(&rig, 2 * CLOCK_SEC, 1000);
	cr_expect_eq(shed_for(&rig, SHED_FDS), 0, "it was shed with a descriptor free");
	fdfill_end(&fill);
	(void)close(served);
	(void)close(client);
	rig_close(&rig);
}

Test(pass, the_held_client_goes_to_the_table_that_has_a_place)
{
	struct rig rig;
	int served[2];
	int client = hold_for_worker_1(&rig, CONFIG_FD_TABLE_PRIVATE, served);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED);
	cr_assert_eq(hold_of(&rig)->count, 1, "on its way it still counts as held");
	rig_assert_books(&rig);
	rig_turn(&rig, 1);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_NONE);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(rig_worker(&rig, 1)->conns.open, 1);
	cr_assert_eq(rig_look(client), '-');
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

Test(pass, a_receiver_that_does_not_turn_loses_the_client_to_the_holder)
{
	struct rig rig;
	int served[2];
	int client = hold_for_worker_1(&rig, CONFIG_FD_TABLE_PRIVATE, served);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_next_deadline(rig_worker(&rig, 0)), rig.now + HOLD_PASS_NS);
	rig.now += HOLD_PASS_NS - 1;
	rig_turn(&rig, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED);
	rig.now += 1;
	rig_turn(&rig, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_NONE);
	cr_assert(rig_worker(&rig, 1)->stalled);
	cr_assert_eq(hold_of(&rig)->count, 1);
	cr_assert_eq(rig.port->admit.used, 1);
	rig_assert_books(&rig);
	/* It comes back: its slot is the held client's, without waiting for a pulse. */
	rig_turn(&rig, 1);
	(void)rig_run(&rig, MS(5), 100);
	cr_expect_eq(hold_of(&rig)->count, 0, "a slot is free and the client is held");
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}
