/*
 * test_share.c - workers that share a listener hold about as many connections each, though
 * one of them is always quicker; whatever they held before.
 */
#include "core/gauges.h"
#include "rig.h"

#define CLIENTS_MAX 200

static int calm_ready(struct conn *conn, uint32_t events)
{
	(void)conn;
	(void)events;
	return 0;
}

static const struct service calm_service = {
        .name = "calm", .fds_per_connection = 1, .ready = calm_ready};

struct crowd {
	struct rig rig;
	int client[CLIENTS_MAX];
	unsigned n;
};

static void crowd_open(struct crowd *c, unsigned workers, uint64_t slots)
{
	c->n = 0;
	rig_init(&c->rig, workers, slots);
	rig_open(&c->rig, &calm_service);
}

static uint32_t open_of(struct crowd *c, unsigned id)
{
	return rig_worker(&c->rig, id)->conns.open;
}

/* n more clients, one after the other. Worker 0 is the quickest, then 1, …; nobody waits
 * for longer than a second of the rig's clock. */
static void crowd_come(struct crowd *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint32_t before = port_connections(c->rig.port);
		c->client[c->n++] = rig_connect(&c->rig);
		uint64_t end = c->rig.now + CLOCK_SEC;
		while (port_connections(c->rig.port) == before && c->rig.now < end)
			(void)rig_run(&c->rig, CLOCK_MSEC, 100);
		cr_assert_gt(port_connections(c->rig.port), before, "client %u waits", i);
	}
}

/* Closes all but `left` of worker id's. */
static void crowd_shrink(struct crowd *c, unsigned id, uint32_t left)
{
	while (open_of(c, id) > left)
		conn_close(rig_newest(&c->rig, id), CLOSE_CLIENT);
	(void)rig_run(&c->rig, CLOCK_MSEC, 100);
}

static void assert_even(struct crowd *c)
{
	uint32_t least = UINT32_MAX, most = 0;
	for (unsigned i = 0; i < c->rig.port->n_workers; i++) {
		least = open_of(c, i) < least ? open_of(c, i) : least;
		most = open_of(c, i) > most ? open_of(c, i) : most;
	}
	/* Small numbers have a little more room than the 1.1 of large ones. */
	cr_expect_leq(most, least + least / 10 + 3, "the fullest has %u, the emptiest %u",
	        most, least);
}

static void crowd_close(struct crowd *c)
{
	while (c->n > 0)
		(void)close(c->client[--c->n]);
	rig_close(&c->rig);
}

Test(share, is_even_from_the_beginning)
{
	static struct crowd c;
	for (unsigned workers = 2; workers <= 4; workers++) {
		crowd_open(&c, workers, CLIENTS_MAX);
		crowd_come(&c, 40 * workers);
		assert_even(&c);
		crowd_close(&c);
	}
}

Test(share, is_even_again_after_a_peak)
{
	static struct crowd c;
	crowd_open(&c, 2, CLIENTS_MAX);
	crowd_come(&c, 120);
	for (unsigned i = 0; i < 2; i++)
		crowd_shrink(&c, i, 20);
	crowd_come(&c, 40);
	assert_even(&c);
	crowd_close(&c);
}

Test(share, is_even_again_after_a_peer_has_lost_all_of_its_own)
{
	static struct crowd c;
	crowd_open(&c, 2, CLIENTS_MAX);
	crowd_come(&c, 100);
	crowd_shrink(&c, 1, 0);
	crowd_come(&c, 50);
	assert_even(&c);
	crowd_close(&c);
}

Test(share, is_even_again_after_a_peer_could_not_accept)
{
	static struct crowd c;
	crowd_open(&c, 2, CLIENTS_MAX);
	rig_worker(&c.rig, 1)->stalled = true;
	crowd_come(&c, 40);
	rig_worker(&c.rig, 1)->stalled = false;
	crowd_shrink(&c, 0, 30);
	crowd_shrink(&c, 1, 0);
	crowd_come(&c, 60);
	assert_even(&c);
	crowd_close(&c);
}

Test(share, is_even_again_after_being_full)
{
	static struct crowd c;
	crowd_open(&c, 2, 60);
	crowd_come(&c, 60);
	c.client[c.n++] = rig_connect(&c.rig);
	(void)rig_run(&c.rig, 2 * CLOCK_SEC, 1000);
	cr_assert_eq(rig_counts(&c.rig).shed[SHED_FULL], 1);
	crowd_shrink(&c, 0, 20);
	crowd_shrink(&c, 1, 0);
	crowd_come(&c, 36);
	assert_even(&c);
	crowd_close(&c);
}

/* Worker 1 stands still, and nobody has noticed: worker 0 has its share, and one above it. */
static void crowd_come_to_one(struct crowd *c)
{
	crowd_open(c, 2, CLIENTS_MAX);
	struct worker *w = rig_worker(&c->rig, 0);
	while (open_of(c, 0) < WORKER_SHARE_MIN)
		c->client[c->n++] = rig_serve(&c->rig, 0);
	cr_assert(w->blocked & WORKER_BLOCK_SHARE, "it would be woken all the time");
	c->client[c->n++] = rig_connect(&c->rig);
	rig_turn(&c->rig, 0);
	cr_assert_eq(open_of(c, 0), WORKER_SHARE_MIN, "a peer has less");
	c->rig.now += 10 * CLOCK_MSEC;
	for (int i = 0; i < 3; i++)
		rig_turn(&c->rig, 0);
}

Test(share, who_is_out_comes_back_where_nobody_else_takes_the_work)
{
	static struct crowd c;
	crowd_come_to_one(&c);
	cr_assert_eq(open_of(&c, 0), WORKER_SHARE_MIN + 1, "the client is left behind");
	crowd_close(&c);
}

Test(share, more_than_the_share_is_taken_once)
{
	static struct crowd c;
	crowd_come_to_one(&c);
	while (open_of(&c, 1) < WORKER_SHARE_MIN)
		c.client[c.n++] = rig_serve(&c.rig, 1);
	rig_turn(&c.rig, 0);
	/* Both accept again; 0 may have two more than 1, which is one more than it has. */
	rig_worker(&c.rig, 0)->batch = 8;
	for (int i = 0; i < 4; i++)
		c.client[c.n++] = rig_connect(&c.rig);
	rig_turn(&c.rig, 0);
	cr_assert_eq(open_of(&c, 0), WORKER_SHARE_MIN + 2);
	crowd_close(&c);
}

/* As a busy queue is asked for more at a time, but not if asking has been in vain. */
Test(share, a_batch_grows_the_later_the_more_often_the_queue_was_empty)
{
	static struct crowd c;
	crowd_open(&c, 1, CLIENTS_MAX);
	struct worker *w = rig_worker(&c.rig, 0);
	w->now = c.rig.now;
	worker_accept(w);
	worker_accept(w);
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(w->batch, 1, "after %d turns", i);
		c.client[c.n++] = rig_serve(&c.rig, 0);
	}
	cr_assert_eq(w->batch, 2);
	crowd_close(&c);
}
