/*
 * test_evict.c - full, with [shed] evict_idle: whose slot the held client gets, when, and from which
 * worker. Connections are idle on the rig's clock.
 */
#include "core/gauges.h"
#include "hold_rig.h"

#define IDLE (3 * CLOCK_SEC)

/* Workers with a slot each, taken by connections that are open since rig->now, a second apart: worker
 * 0's first. Worker 0 holds a client when this returns, at a time when nobody is idle for long enough. */
RIG_FN int hold_among(
        struct rig *rig, unsigned workers, uint64_t timeout, int *ret_served)
{
	rig_init(rig, workers, workers);
	rig->config.evict_idle = IDLE;
	rig->config.queue_timeout = timeout;
	rig_open(rig, &quiet_service);
	for (unsigned i = 0; i < workers; i++) {
		rig->now += CLOCK_SEC;
		ret_served[i] = rig_serve(rig, i);
	}
	int client = rig_connect(rig);
	RIG_UNTIL(rig, 0, hold_of(rig)->count == 1);
	cr_assert_eq(hold_of(rig)->holder, 0);
	return client;
}

RIG_FN uint64_t evicted(struct rig *rig)
{
	return rig_counts(rig).closed[CLOSE_EVICTED];
}

Test(evict, the_holders_own_goes_when_it_has_been_idle_for_long_enough_and_not_before)
{
	struct rig rig;
	int served[1];
	int client = hold_among(&rig, 1, 3600 * CLOCK_SEC, served);
	struct worker *w = rig_worker(&rig, 0);
	uint64_t due = rig_newest(&rig, 0)->active + IDLE;
	cr_assert_eq(hold_next_deadline(w), due);
	(void)rig_run(&rig, due - rig.now - 1, 20);
	w->held.again = true;
	rig_turn(&rig, 0);
	cr_assert_eq(evicted(&rig), 0);
	cr_assert_eq(rig_look(served[0]), '-');
	rig.now += 1;
	rig_turn(&rig, 0);
	cr_assert_eq(evicted(&rig), 1);
	cr_assert_eq(rig_await(served[0]), 'e');
	cr_assert_eq(hold_of(&rig)->count, 0, "its slot is the held client's");
	cr_assert_eq(w->conns.open, 1);
	close_clients(served, 1);
	(void)close(client);
	rig_close(&rig);
}

/* Worker 1's is idle for longer than worker 0's. */
RIG_FN int hold_with_an_idle_peer(struct rig *rig, int *ret_served)
{
	int client = hold_among(rig, 2, 3600 * CLOCK_SEC, ret_served);
	conn_touch(rig_newest(rig, 0), true);
	rig->now += IDLE - CLOCK_SEC / 2;
	rig_turn(rig, 1);
	rig_turn(rig, 0);
	cr_assert_eq(evicted(rig), 0, "nobody is due");
	conn_touch(container_of(list_first(&rig_worker(rig, 0)->conns.talking[0]),
	                   struct conn, timer),
	        true);
	rig->now += CLOCK_SEC / 2;
	rig_worker(rig, 0)->held.again = true;
	rig_turn(rig, 0);
	cr_assert_eq(hold_of(rig)->evicting, 1, "worker 1 is asked");
	return client;
}

Test(evict, the_one_that_is_idle_longest_of_all_workers_goes)
{
	struct rig rig;
	int served[2];
	int client = hold_with_an_idle_peer(&rig, served);
	cr_assert_eq(hold_next_deadline(rig_worker(&rig, 0)), rig.now + HOLD_PASS_NS);
	rig_turn(&rig, 1);
	cr_assert_eq(hold_of(&rig)->evicting, HOLD_NOBODY);
	cr_assert_eq(evicted(&rig), 1);
	cr_assert_eq(rig_await(served[1]), 'e');
	cr_assert_eq(rig_look(served[0]), '-');
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(port_connections(rig.port), 2);
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

/* The holder need not wait to hear that. */
Test(evict, one_that_has_moved_meanwhile_stays_and_the_holder_is_told_at_once)
{
	struct rig rig;
	int served[2];
	int client = hold_with_an_idle_peer(&rig, served);
	struct worker *peer = rig_worker(&rig, 1);
	peer->now = rig.now;
	conn_touch(rig_newest(&rig, 1), true);
	rig_turn(&rig, 1);
	cr_assert_eq(evicted(&rig), 0);
	cr_assert_eq(hold_of(&rig)->evicting, HOLD_NOBODY);
	cr_assert_eq(atomic_load(&peer->idlest), rig.now);
	cr_assert_eq(rig_run(&rig, 0, 10), 1, "the holder was not told");
	cr_assert_eq(hold_of(&rig)->count, 1);
	cr_assert_eq(hold_next_deadline(rig_worker(&rig, 0)),
	        conn_idlest(rig_worker(&rig, 0)) + IDLE);
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

Test(evict, a_peer_that_does_not_answer_is_passed_over)
{
	struct rig rig;
	int served[2];
	int client = hold_with_an_idle_peer(&rig, served);
	struct worker *w = rig_worker(&rig, 0);
	rig.now += HOLD_PASS_NS - 1;
	w->held.again = true;
	rig_turn(&rig, 0);
	cr_assert_eq(hold_of(&rig)->evicting, 1);
	cr_assert_not(rig_worker(&rig, 1)->stalled);
	rig.now += 1;
	rig_turn(&rig, 0);
	cr_assert(rig_worker(&rig, 1)->stalled);
	cr_assert_eq(hold_of(&rig)->evicting, HOLD_NOBODY);
	/* Its own is next, though worker 1's is idle for longer. */
	cr_assert_eq(hold_next_deadline(w), conn_idlest(w) + IDLE);
	rig.now = conn_idlest(w) + IDLE;
	rig_turn(&rig, 0);
	cr_assert_eq(rig_await(served[0]), 'e');
	cr_assert_eq(hold_of(&rig)->count, 0);
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

/* Its time is up at once: it gets one try. */
Test(evict, who_may_not_wait_gets_one_slot_that_is_idle_or_is_shed)
{
	struct rig rig;
	int served[2], client[2];
	rig_init(&rig, 1, 2);
	rig.config.evict_idle = IDLE;
	rig.config.queue_timeout = 0;
	rig_open(&rig, &quiet_service);
	served[0] = rig_serve(&rig, 0);
	rig.now += IDLE;
	served[1] = rig_serve(&rig, 0);
	client[0] = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, evicted(&rig) == 1);
	cr_assert_eq(rig_await(served[0]), 'e', "the one that was idle");
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2);
	client[1] = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_FULL) == 1);
	cr_assert_eq(rig_await(client[1]), 'r', "nobody else is idle");
	cr_assert_eq(evicted(&rig), 1);
	close_clients(client, 2);
	close_clients(served, 2);
	rig_close(&rig);
}

/* More are open than there are slots: one less would make no room. */
Test(evict, nobody_goes_for_nobody)
{
	struct rig rig;
	int served[3];
	rig_init(&rig, 1, 3);
	rig.config.evict_idle = IDLE;
	rig.config.queue_timeout = CLOCK_SEC;
	rig_open(&rig, &quiet_service);
	for (int i = 0; i < 3; i++)
		served[i] = rig_serve(&rig, 0);
	rig.budget.max_connections = 2;
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
	rig_turn(&rig, 0);
	rig.now += 2 * IDLE;
	int client = rig_connect(&rig);
	(void)rig_run(&rig, 2 * CLOCK_SEC, 100);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 1);
	cr_assert_eq(evicted(&rig), 0);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 3);
	(void)close(client);
	/* At as many as there are slots one is enough. */
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	client = rig_connect(&rig);
	(void)rig_run(&rig, CLOCK_MSEC, 100);
	cr_assert_eq(evicted(&rig), 1);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2);
	close_clients(served, 3);
	(void)close(client);
	rig_close(&rig);
}
