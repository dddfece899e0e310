/*
 * test_linger.c - a client that was answered surely gets the answer: how long its
 * connection lingers, how many do, and what ends that.
 */
#include "rig.h"

#include "core/accept_call.h"
#include "core/linger.h"
#include "core/shed.h"

#define MS(n) ((uint64_t)(n)*CLOCK_MSEC)

static const struct service silent_service = {
        .name = "silent", .fds_per_connection = 1, .events = EPOLLIN};

static const struct service no_events_service = {
        .name = "no events", .fds_per_connection = 1};

static void open_rig(struct rig *rig, const struct service *service)
{
	rig_init(rig, 1, 16);
	rig->config.answer = CONFIG_ANSWER_MESSAGE;
	memcpy(rig->config.message.bytes, "busy\n", 5);
	rig->config.message.len = 5;
	rig_open(rig, service);
}

/* Accepts the client in the queue and sheds it with the message. */
static void shed_next(struct rig *rig)
{
	struct worker *w = rig_worker(rig, 0);
	int fd = -1;
	struct addr peer;
	w->now = rig->now;
	cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
	shed(w, fd, SHED_FULL, &peer);
}

static uint32_t lingering(struct rig *rig)
{
	return rig_worker(rig, 0)->conns.lingering;
}

static struct conn *first_lingering(struct rig *rig)
{
	struct list *first = list_first(&rig_worker(rig, 0)->conns.linger);
	cr_assert_not_null(first);
	return container_of(first, struct conn, timer);
}

static void assert_message_and_end(int client)
{
	char buf[16];
	size_t len = 0;
	for (;;) {
		struct pollfd p = {.fd = client, .events = POLLIN};
		cr_assert_eq(poll(&p, 1, 5000), 1, "no answer");
		ssize_t n = recv(client, buf + len, sizeof(buf) - len, 0);
		cr_assert_geq(n, 0, "the answer was overtaken: %m");
		if (n == 0)
			break;
		len += (size_t)n;
	}
	cr_assert_eq(len, 5);
	cr_assert_arr_eq(buf, "busy\n", 5);
}

Test(linger, the_services_close_gives_the_slot_back_before_the_client_has_left)
{
	struct rig rig;
	open_rig(&rig, &silent_service);
	int client = rig_serve(&rig, 0);
	struct conn *conn = rig_newest(&rig, 0);
	conn_close(conn, CLOSE_SERVICE);
	cr_assert_eq(conn->state, CONN_LINGER);
	cr_assert_eq(rig.port->admit.used, 0);
	cr_assert_eq(rig_counts(&rig).closed[CLOSE_SERVICE], 1);
	cr_assert_eq(rig_await(client), 'e', "our FIN");
	rig_turn(&rig, 0);
	cr_assert_eq(lingering(&rig), 1);
	(void)close(client);
	RIG_UNTIL(&rig, 0, lingering(&rig) == 0);
	cr_assert_eq(conn->state, CONN_FREE);
	rig_close(&rig);
}

Test(linger, works_for_a_service_that_waits_for_no_events)
{
	struct rig rig;
	open_rig(&rig, &no_events_service);
	int client = rig_serve(&rig, 0);
	conn_close(rig_newest(&rig, 0), CLOSE_SERVICE);
	cr_assert_eq(rig_await(client), 'e');
	(void)close(client);
	RIG_UNTIL(&rig, 0, lingering(&rig) == 0);
	rig_close(&rig);
}

Test(linger, a_client_that_has_sent_data_gets_the_message_too)
{
	struct rig rig;
	static char block[10000];
	open_rig(&rig, &silent_service);
	int client = rig_connect(&rig);
	cr_assert_eq(send(client, block, sizeof(block), 0), sizeof(block));
	shed_next(&rig);
	/* More comes after the message has left. */
	cr_assert_eq(send(client, block, sizeof(block), 0), sizeof(block));
	RIG_UNTIL(&rig, 0,
	        lingering(&rig) == 0 ||
	                first_lingering(&rig)->discarded == 2 * sizeof(block));
	assert_message_and_end(client);
	(void)close(client);
	RIG_UNTIL(&rig, 0, lingering(&rig) == 0);
	rig_close(&rig);
}

Test(linger, ends_after_exactly_500_ms)
{
	struct rig rig;
	open_rig(&rig, &silent_service);
	int client = rig_connect(&rig);
	shed_next(&rig);
	cr_assert_eq(conn_next_deadline(rig_worker(&rig, 0)), rig.now + MS(500));
	rig.now += MS(500) - 1;
	rig_turn(&rig, 0);
	cr_assert_eq(lingering(&rig), 1);
	rig.now += 1;
	rig_turn(&rig, 0);
	cr_assert_eq(lingering(&rig), 0);
	assert_message_and_end(client);
	(void)close(client);
	rig_close(&rig);
}

Test(linger, ends_after_64_kib)
{
	struct rig rig;
	static char block[1024];
	open_rig(&rig, &silent_service);
	int client = rig_connect(&rig);
	shed_next(&rig);
	for (unsigned i = 0; i < 63; i++) {
		cr_assert_eq(send(client, block, sizeof(block), 0), sizeof(block));
		RIG_UNTIL(&rig, 0, first_lingering(&rig)->discarded == 1024 * (i + 1));
	}
	cr_assert_eq(send(client, block, sizeof(block), 0), sizeof(block));
	RIG_UNTIL(&rig, 0, lingering(&rig) == 0);
	(void)close(client);
	rig_close(&rig);
}

Test(linger, ends_with_the_clients_reset)
{
	struct rig rig;
	open_rig(&rig, &silent_service);
	int client = rig_connect(&rig);
	shed_next(&rig);
	sock_reset(client);
	RIG_UNTIL(&rig, 0, lingering(&rig) == 0);
	/* And one that is gone already does not begin to. */
	client = rig_connect(&rig);
	sock_reset(client);
	shed_next(&rig);
	RIG_UNTIL(&rig, 0, lingering(&rig) == 0);
	rig_close(&rig);
}

Test(linger, only_so_many_do_and_the_eldest_goes_first)
{
	struct rig rig;
	int client[4];
	open_rig(&rig, &silent_service);
	cr_assert_eq(rig.budget.linger, 2);
	for (unsigned i = 0; i < 4; i++) {
		client[i] = rig_connect(&rig);
		rig.now += MS(10);
		shed_next(&rig);
		cr_assert_eq(lingering(&rig), i < 2 ? i + 1 : 2);
	}
	cr_assert_eq(first_lingering(&rig)->active, rig.now - MS(10), "the third one");
	for (int i = 0; i < 4; i++) {
		assert_message_and_end(client[i]);
		(void)close(client[i]);
	}
	rig_close(&rig);
}

Test(linger, reclaim_takes_only_one_that_has_everything_unless_forced)
{
	struct rig rig;
	static char block[65536];
	open_rig(&rig, &silent_service);
	struct worker *w = rig_worker(&rig, 0);
	cr_assert_not(conn_linger_reclaim(w, false), "there is none");
	cr_assert_not(conn_linger_reclaim(w, true), "there is none");

	/* A client that does not read, with more to come than its window takes. */
	int client = rig_connect(&rig), fd = -1;
	struct addr peer;
	w->now = rig.now;
	cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
	while (send(fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	counters_add_shed(&w->counters, SHED_FULL);
	conn_linger_shed(w, fd);
	cr_assert_eq(lingering(&rig), 1);
	cr_assert_not(conn_linger_reclaim(w, false), "it has not got everything");
	cr_assert(conn_linger_reclaim(w, true));
	cr_assert_eq(lingering(&rig), 0);
	(void)close(client);

	client = rig_connect(&rig);
	shed_next(&rig);
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (!conn_linger_reclaim(w, false))
		cr_assert_lt(clock_now(), end);
	assert_message_and_end(client);
	(void)close(client);
	rig_close(&rig);
}

Test(linger, closing_all_ends_it)
{
	struct rig rig;
	open_rig(&rig, &silent_service);
	int client = rig_connect(&rig);
	shed_next(&rig);
	conn_close_all(rig_worker(&rig, 0), CLOSE_DRAINED);
	cr_assert_eq(lingering(&rig), 0);
	assert_message_and_end(client);
	(void)close(client);
	rig_close(&rig);
}

Test(shed, each_answer_is_what_the_client_gets)
{
	static const struct {
		enum config_answer answer;
		char seen;
	} answers[] = {{CONFIG_ANSWER_RESET, 'r'}, {CONFIG_ANSWER_CLOSE, 'e'},
	        {CONFIG_ANSWER_MESSAGE, 'd'}};
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		struct rig rig;
		open_rig(&rig, &silent_service);
		rig.config.answer = answers[i].answer;
		cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
		rig_turn(&rig, 0);
		int client = rig_connect(&rig);
		shed_next(&rig);
		cr_assert_eq(rig_await(client), answers[i].seen);
		cr_assert_eq(rig_counts(&rig).shed[SHED_FULL], 1);
		cr_assert(rig_worker(&rig, 0)->gave, "a descriptor came free");
		(void)close(client);
		rig_close(&rig);
	}
}

/* Where no limit asks who comes, nobody knows until somebody is shed. */
Test(shed, whose_address_nobody_has_asked_for_is_recorded_all_the_same)
{
	struct rig rig;
	struct record_row row;
	struct source_view view;
	open_rig(&rig, &silent_service);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig), fd = -1;
	struct addr peer;
	w->now = rig.now;
	cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
	cr_assert_eq(peer.family, AF_UNSPEC);
	shed(w, fd, SHED_MEMORY, &peer);
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	cr_assert_eq(getsockname(client, (struct sockaddr *)&sa, &len), 0);
	cr_assert_eq(record_read(&w->record, &row, 1), 1);
	cr_assert_eq(row.peer.family, AF_INET);
	cr_assert_eq(row.peer.port, ntohs(sa.sin_port));
	cr_assert_eq(row.reason, SHED_MEMORY);
	struct prefix net = prefix_mask(&row.peer, 32, 64);
	cr_assert_eq(source_find(rig.port->sources, &net, rig.now, &view), 0);
	cr_assert_eq(view.shed[SHED_MEMORY], 1);
	(void)close(client);
	rig_close(&rig);
}

/* Those who wait for a slot or a descriptor do not make the state `shedding`; all others do. */
Test(shed, only_what_there_is_too_little_of_makes_the_state)
{
	for (unsigned reason = 0; reason < SHED_COUNT; reason++) {
		struct rig rig;
		open_rig(&rig, &silent_service);
		struct worker *w = rig_worker(&rig, 0);
		const struct addr peer = {.family = AF_INET, .bytes = {127, 0, 0, 1}};
		bool is_short = reason == SHED_RATE || reason == SHED_PRESSURE ||
		                reason == SHED_MEMORY || reason == SHED_BACKLOG;
		w->now = rig.now;
		shed_note(w, (enum shed_reason)reason, &peer);
		cr_expect_eq(state_read(&rig.port->state, rig.now, NULL),
		        is_short ? STATE_SHEDDING : STATE_OPEN, "%s",
		        counters_shed_name((enum shed_reason)reason));
		counters_add(&w->counters, COUNTER_ACCEPTED, 1);
		rig_close(&rig);
	}
}

Test(shed, the_aborted_get_no_answer_and_are_no_doing_of_portds)
{
	struct rig rig;
	open_rig(&rig, &silent_service);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig), fd = -1;
	struct addr peer;
	sock_reset(client);
	w->now = rig.now;
	cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
	shed(w, fd, SHED_ABORTED, &peer);
	cr_assert_eq(rig_counts(&rig).shed[SHED_ABORTED], 1);
	cr_assert_eq(state_read(&rig.port->state, rig.now, NULL), STATE_OPEN);
	cr_assert_eq(lingering(&rig), 0);
	rig_close(&rig);
}

/* close(2) answers what is unread with a reset, and that overtakes the answer. */
Test(linger, what_comes_at_the_last_moment_does_not_cost_the_client_its_answer)
{
	struct rig rig;
	open_rig(&rig, &silent_service);
	int client = rig_connect(&rig);
	shed_next(&rig);
	cr_assert_eq(send(client, "x", 1, 0), 1);
	struct pollfd unread = {.fd = first_lingering(&rig)->watch.fd, .events = POLLIN};
	cr_assert_eq(poll(&unread, 1, 5000), 1);
	cr_assert(conn_linger_reclaim(rig_worker(&rig, 0), true));
	int err = -1;
	socklen_t len = sizeof(err);
	cr_assert_eq(getsockopt(client, SOL_SOCKET, SO_ERROR, &err, &len), 0);
	cr_assert_eq(err, 0, "a reset has come: %s", strerror(err));
	assert_message_and_end(client);
	(void)close(client);
	rig_close(&rig);
}
