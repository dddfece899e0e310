/*
 * hold_rig.h - a rig that is full and holds a client. Its service waits for nothing, so that what
 * clients send makes no turns.
 */
#ifndef TESTS_UNIT_HOLD_RIG_H
#define TESTS_UNIT_HOLD_RIG_H

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

static inline struct hold *hold_of(struct rig *rig)
{
	return &rig->port->hold;
}

RIG_FN uint64_t shed_for(struct rig *rig, enum shed_reason reason)
{
	return rig_counts(rig).shed[reason];
}

/* Worker 0 has all slots taken and holds a client, who is returned. */
RIG_FN int fill_and_hold(struct rig *rig, int *ret_served)
{
	for (uint64_t i = 0; i < rig->budget.max_connections; i++)
		ret_served[i] = rig_serve(rig, 0);
	int client = rig_connect(rig);
	RIG_UNTIL(rig, 0, hold_of(rig)->count == 1);
	cr_assert_eq(hold_of(rig)->holder, 0);
	return client;
}

RIG_FN void close_clients(const int *client, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)close(client[i]);
}

/* Worker 0 is the holder, stalls, and is dismissed; 1 becomes the holder. */
RIG_FN void depose_worker_0(struct rig *rig)
{
	unsigned first = 99;
	cr_assert_eq(port_pulse(rig->port, &first), 0);
	rig_turn(rig, 1);
	cr_assert_eq(port_pulse(rig->port, &first), 1);
	cr_assert_eq(first, 0);
	cr_assert_eq(hold_of(rig)->holder, HOLD_NOBODY);
}

/* How many of the clients' network are in the books. */
RIG_FN uint32_t booked(const struct rig *rig)
{
	struct addr peer = {.family = AF_INET, .bytes = {127, 0, 0, 1}};
	struct prefix net = prefix_mask(&peer, 32, 64);
	struct source_view view;
	(void)source_find(rig->port->sources, &net, rig->now, &view);
	return view.open;
}

/* Each of two workers has a table with one place; 0 holds a client, and 1's place has come
 * free. The books count the clients' network. */
RIG_FN int hold_for_worker_1(struct rig *rig, enum config_fd_table table, int *ret_served)
{
	rig_init(rig, 2, 2);
	rig->budget.table_slots = 1;
	rig->config.fd_table = table;
	rig->config.queue_timeout = MS(600000);
	rig->config.source_max_connections = 9;
	rig_open(rig, &quiet_service);
	ret_served[0] = rig_serve(rig, 0);
	ret_served[1] = rig_serve(rig, 1);
	int client = rig_connect(rig);
	RIG_UNTIL(rig, 0, hold_of(rig)->count == 1);
	cr_assert_eq(hold_of(rig)->holder, 0);
	conn_close(rig_newest(rig, 1), CLOSE_CLIENT);
	return client;
}

#endif
