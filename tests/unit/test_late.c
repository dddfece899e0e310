/*
 * test_late.c - timeouts of a worker that was late, on a clock of the test's own: whatever its clock
 * says, nobody is closed for silence who has not been silent.
 */
#include "core/gauges.h"
#include "rig.h"

#define MS(n) ((uint64_t)(n)*CLOCK_MSEC)

static unsigned served;

/* Reads one byte, and counts. */
static int reader_ready(struct conn *conn, uint32_t events)
{
	char byte;
	(void)events;
	if (recv(conn->watch.fd, &byte, 1, MSG_DONTWAIT) == 0)
		return SERVICE_CLOSE(CLOSE_CLIENT);
	served++;
	conn_touch(conn, true);
	return 0;
}

static const struct service reader = {
        .name = "reader",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .ready = reader_ready,
};

RIG_FN uint64_t closed(struct rig *rig, enum close_reason reason)
{
	return rig_counts(rig).closed[reason];
}

/* A client that has spoken to worker 0 once. */
static int open_one(struct rig *rig)
{
	served = 0;
	rig_open(rig, &reader);
	int client = rig_serve(rig, 0);
	cr_assert_eq(send(client, "x", 1, MSG_NOSIGNAL), 1);
	RIG_UNTIL(rig, 0, served == 1);
	return client;
}

/* The connection that was opened first. */
static struct conn *eldest(struct rig *rig)
{
	struct list *first = list_first(&rig_worker(rig, 0)->conns.living);
	cr_assert_not_null(first);
	return container_of(first, struct conn, life);
}

static void await_readable(struct rig *rig)
{
	struct pollfd p = {.fd = eldest(rig)->watch.fd, .events = POLLIN};
	cr_assert_eq(poll(&p, 1, 5000), 1);
}

/* The eldest one says what its worker has not heard yet. */
static void say(struct rig *rig, int client)
{
	cr_assert_eq(send(client, "y", 1, MSG_NOSIGNAL), 1);
	await_readable(rig);
}

/* A turn in which the worker sees the time, and no event: what epoll_wait(2) gives after a stop. */
static void turn_late(struct rig *rig, uint64_t ns)
{
	rig->now += ns;
	rig_work(rig, 0, 0);
}

Test(late, who_has_spoken_is_not_idle)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(300);
	int client = open_one(&rig);
	say(&rig, client);
	turn_late(&rig, MS(5000));
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 1);
	cr_assert_eq(conn_next_deadline(rig_worker(&rig, 0)), rig.now + MS(300));
	rig_turn(&rig, 0);
	cr_assert_eq(served, 2);
	turn_late(&rig, MS(300));
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	(void)close(client);
	rig_close(&rig);
}

Test(late, who_has_spoken_has_sent_its_first_byte)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.first_byte = MS(300);
	served = 0;
	rig_open(&rig, &reader);
	int client = rig_serve(&rig, 0), silent = rig_serve(&rig, 0);
	say(&rig, client);
	turn_late(&rig, MS(5000));
	cr_assert_eq(closed(&rig, CLOSE_FIRST_BYTE), 1, "the silent one, and it alone");
	cr_assert_eq(rig_await(silent), 'e');
	rig_turn(&rig, 0);
	cr_assert_eq(served, 1);
	turn_late(&rig, MS(5000));
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 1);
	(void)close(client);
	(void)close(silent);
	rig_close(&rig);
}

Test(late, whose_end_has_come_is_closed_for_that)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(300);
	int client = open_one(&rig);
	cr_assert_eq(shutdown(client, SHUT_WR), 0);
	await_readable(&rig);
	turn_late(&rig, MS(5000));
	rig_turn(&rig, 0);
	cr_assert_eq(closed(&rig, CLOSE_CLIENT), 1);
	(void)close(client);
	rig_close(&rig);
}

/* Who is waited for to read is idle until it does. */
Test(late, who_has_read_is_not_idle)
{
	struct rig rig;
	static char bytes[65536];
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(300);
	int client = open_one(&rig);
	struct worker *w = rig_worker(&rig, 0);
	struct conn *conn = eldest(&rig);
	for (bool reads = true;; reads = false) {
		while (send(conn->watch.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
		cr_assert_eq(loop_change(&w->loop, &conn->watch, EPOLLOUT), 0);
		struct pollfd p = {.fd = conn->watch.fd, .events = POLLOUT};
		while (reads && poll(&p, 1, 10) == 0)
			cr_assert_gt(recv(client, bytes, sizeof(bytes), 0), 0);
		turn_late(&rig, MS(5000));
		cr_assert_eq(w->conns.open, reads);
		if (!reads)
			break;
	}
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	(void)close(client);
	rig_close(&rig);
}

/* Fills what lies between its worker and a client that does not read, and waits for room. */
static void send_all_that_fits(struct rig *rig, int client)
{
	static char bytes[65536];
	struct conn *conn = eldest(rig);
	int little = 8192;
	cr_assert_eq(
	        setsockopt(client, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)), 0);
	ssize_t n;
	/* What has not reached the client yet makes room once more. */
	struct pollfd p = {.fd = conn->watch.fd, .events = POLLOUT};
	while (poll(&p, 1, 300) > 0) {
		while ((n = send(conn->watch.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
			conn_count_out(conn, (uint64_t)n);
	}
	cr_assert_eq(loop_change(&rig_worker(rig, 0)->loop, &conn->watch, EPOLLOUT), 0);
}

/* The client reads until its kernel takes more; that is far from what makes an event. */
static void read_a_little(struct rig *rig, int client)
{
	char bytes[1024];
	struct conn *conn = eldest(rig);
	struct sock_progress before, after;
	cr_assert_eq(sock_get_progress(conn->watch.fd, &before), 0);
	do {
		cr_assert_gt(recv(client, bytes, sizeof(bytes), 0), 0);
		cr_assert_eq(sock_get_progress(conn->watch.fd, &after), 0);
	} while (after.acked == before.acked);
	cr_assert(after.is_pending);
	struct pollfd p = {.fd = conn->watch.fd, .events = POLLOUT};
	cr_assert_eq(poll(&p, 1, 0), 0, "there is an event for it");
}

Test(late, who_reads_slowly_is_not_idle)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(300);
	int client = open_one(&rig);
	send_all_that_fits(&rig, client);
	for (int i = 0; i < 3; i++) {
		read_a_little(&rig, client);
		turn_late(&rig, MS(300));
		cr_assert_eq(rig_worker(&rig, 0)->conns.open, 1, "look %d", i);
		cr_assert_eq(conn_next_deadline(rig_worker(&rig, 0)), rig.now + MS(300));
	}
	/* What has made room in its kernel fills that, whenever that is; then it reads no longer. */
	for (int i = 0; i < 50 && closed(&rig, CLOSE_IDLE) == 0; i++) {
		(void)poll(NULL, 0, 100);
		turn_late(&rig, MS(300));
	}
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	(void)close(client);
	rig_close(&rig);
}

Test(late, who_reads_slowly_is_not_evicted)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	int client = open_one(&rig);
	struct worker *w = rig_worker(&rig, 0);
	send_all_that_fits(&rig, client);
	for (int i = 0; i < 3; i++) {
		read_a_little(&rig, client);
		turn_late(&rig, MS(300));
		cr_assert_not(conn_evict(w, MS(300)), "look %d", i);
	}
	bool evicted = false;
	for (int i = 0; i < 50 && !evicted; i++) {
		(void)poll(NULL, 0, 100);
		turn_late(&rig, MS(300));
		evicted = conn_evict(w, MS(300));
	}
	cr_assert(evicted, "it reads no longer");
	(void)close(client);
	rig_close(&rig);
}

/* Nothing is left to be taken: what was taken when it last moved is no move since then. */
Test(late, who_has_taken_everything_long_since_is_idle)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(100);
	int client = open_one(&rig);
	struct conn *conn = eldest(&rig);
	cr_assert_eq(send(conn->watch.fd, "y", 1, MSG_NOSIGNAL), 1);
	conn_count_out(conn, 1);
	cr_assert_eq(rig_await(client), 'd');
	struct sock_progress progress;
	do {
		(void)poll(NULL, 0, 10);
		cr_assert_eq(sock_get_progress(conn->watch.fd, &progress), 0);
	} while (progress.is_pending || progress.quiet_ms < 100);
	cr_assert_eq(progress.acked, 1);
	turn_late(&rig, MS(100));
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	(void)close(client);
	rig_close(&rig);
}

/* Nobody reads it, so it counts once. */
Test(late, an_urgent_byte_is_a_first_byte)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.first_byte = MS(300);
	rig.config.idle = MS(400);
	rig_open(&rig, &reader);
	int client = rig_serve(&rig, 0);
	struct pollfd p = {.fd = eldest(&rig)->watch.fd, .events = POLLPRI};
	cr_assert_eq(send(client, "u", 1, MSG_OOB), 1);
	cr_assert_eq(poll(&p, 1, 5000), 1);
	turn_late(&rig, MS(300));
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 1);
	turn_late(&rig, MS(400));
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	(void)close(client);
	rig_close(&rig);
}

/* As after a stop: the events are there, and the wait has brought none. */
static void turn_interrupted(struct rig *rig, unsigned id, uint64_t ns)
{
	rig->now += ns;
	rig_work(rig, id, -EINTR);
}

/* More than a batch of others have something to say, too. */
Test(late, a_slot_that_came_free_meanwhile_is_the_held_clients)
{
	enum {
		TALKERS = LOOP_BATCH + 6
	};
	struct rig rig;
	int talker[TALKERS];
	rig_init(&rig, 1, TALKERS + 1);
	rig.config.queue_timeout = MS(300);
	rig_open(&rig, &reader);
	int first = rig_serve(&rig, 0);
	for (int i = 0; i < TALKERS; i++)
		talker[i] = rig_serve(&rig, 0);
	int waiting = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, rig.port->hold.count == 1);
	struct list *youngest = rig_worker(&rig, 0)->conns.living.prev;
	for (int i = 0; i < TALKERS; i++)
		cr_assert_eq(send(talker[i], "x", 1, MSG_NOSIGNAL), 1);
	struct pollfd p = {.fd = container_of(youngest, struct conn, life)->watch.fd,
	        .events = POLLIN};
	cr_assert_eq(poll(&p, 1, 5000), 1);
	(void)close(first);
	await_readable(&rig);
	turn_interrupted(&rig, 0, MS(5000));
	cr_assert_eq(rig_counts(&rig).shed[SHED_FULL], 0);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, TALKERS + 1);
	for (int i = 0; i < TALKERS; i++)
		(void)close(talker[i]);
	(void)close(waiting);
	rig_close(&rig);
}

/* A slot with each of two workers; 0 holds a client, and the client of 1 has gone while both were stopped. */
static int hold_while_stopped(struct rig *rig, int *ret_stays)
{
	rig_init(rig, 2, 2);
	rig->config.queue_timeout = MS(300);
	rig_open(rig, &reader);
	*ret_stays = rig_serve(rig, 0);
	int goes = rig_serve(rig, 1), waiting = rig_connect(rig);
	RIG_UNTIL(rig, 0, rig->port->hold.count == 1);
	struct pollfd p = {.fd = rig_newest(rig, 1)->watch.fd, .events = POLLIN};
	(void)close(goes);
	cr_assert_eq(poll(&p, 1, 5000), 1);
	turn_interrupted(rig, 0, MS(5000));
	cr_assert_eq(rig_counts(rig).shed[SHED_FULL], 0, "worker 1 has not turned yet");
	return waiting;
}

Test(late, a_slot_that_a_peer_has_still_to_free_is_the_held_clients)
{
	struct rig rig;
	int stays, waiting = hold_while_stopped(&rig, &stays);
	(void)rig_run(&rig, MS(100), 1000);
	cr_assert_eq(rig_counts(&rig).shed[SHED_FULL], 0);
	cr_assert_eq(port_connections(rig.port), 2);
	(void)close(stays);
	(void)close(waiting);
	rig_close(&rig);
}

Test(late, a_peer_that_does_not_turn_is_not_waited_for_long)
{
	struct rig rig;
	int stays, waiting = hold_while_stopped(&rig, &stays);
	/* Late again and again: it ends all the same. */
	for (uint64_t ns = 0; ns < HOLD_LATE_NS; ns += MS(10)) {
		cr_assert_eq(rig_counts(&rig).shed[SHED_FULL], 0);
		turn_interrupted(&rig, 0, MS(10));
	}
	cr_assert_eq(rig_counts(&rig).shed[SHED_FULL], 1);
	cr_assert_eq(rig_await(waiting), 'r');
	(void)close(stays);
	(void)close(waiting);
	rig_close(&rig);
}

Test(late, what_was_said_in_time_is_answered_before_the_end_of_a_life)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.lifetime = MS(300);
	int client = open_one(&rig);
	say(&rig, client);
	turn_late(&rig, MS(5000));
	cr_assert_eq(served, 2);
	cr_assert_eq(closed(&rig, CLOSE_LIFETIME), 1);
	(void)close(client);
	rig_close(&rig);
}

/* Stopped in the middle of a turn: what it does then it does at the end. */
Test(late, a_long_turn_counts_from_its_end)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.idle = MS(300);
	rig.config.lifetime = MS(2000);
	int client = open_one(&rig);
	struct worker *w = rig_worker(&rig, 0);
	struct conn *elder = eldest(&rig);
	rig.now += MS(100);
	uint64_t born = rig.now - MS(100);
	int other = rig_serve(&rig, 0);
	struct conn *younger = rig_newest(&rig, 0);
	conn_end_long_turn(w, rig.now + MS(5000));
	cr_assert_eq(younger->opened, rig.now + MS(5000));
	cr_assert_eq(younger->active, rig.now + MS(5000));
	cr_assert_eq(elder->opened, born, "it was not in that turn");
	cr_assert_eq(elder->active, born);
	conn_touch(elder, true);
	cr_assert_eq(elder->active, rig.now);
	conn_end_long_turn(w, rig.now + MS(6000));
	cr_assert_eq(elder->active, rig.now + MS(6000));
	cr_assert_eq(elder->opened, born);
	cr_assert_eq(younger->active, rig.now + MS(5000), "nor was it in that one");
	(void)close(client);
	(void)close(other);
	rig_close(&rig);
}
