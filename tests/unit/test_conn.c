/*
 * test_conn.c - the life of a connection: its states, its reasons, its lingering, and
 * the memory that it leaves to the next one.
 */
#include "core/accept_call.h"
#include "core/admission.h"
#include "rig.h"

#include <signal.h>
#include <sys/mman.h>

/* A service that does what the test says. */
static struct {
	int on_open, on_ready; /* what the functions return */
	unsigned opened, ready, closing;
	struct conn *pair[2]; /* each closes the other when it is ready */
} script;

static int scripted_open(struct conn *conn)
{
	(void)conn;
	script.opened++;
	return script.on_open;
}

static int scripted_ready(struct conn *conn, uint32_t events)
{
	(void)events;
	script.ready++;
	cr_assert_eq(conn->state, CONN_OPEN, "an event of a closed connection");
	struct conn *other = script.pair[script.pair[0] == conn];
	if (other)
		conn_close(other, CLOSE_ERROR);
	return script.on_ready;
}

static void scripted_closing(struct conn *conn)
{
	cr_assert_geq(conn->watch.fd, 0, "the descriptor is still there");
	script.closing++;
}

static const struct service scripted = {
        .name = "scripted",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .open = scripted_open,
        .ready = scripted_ready,
        .closing = scripted_closing,
};

RIG_FN uint64_t closed(struct rig *rig, enum close_reason reason)
{
	return rig_counts(rig).closed[reason];
}

Test(conn, costs_at_most_128_bytes)
{
	cr_assert_leq(sizeof(struct conn), 128);
}

Test(conn, open_holds_a_slot_and_closed_does_not)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_serve(&rig, 0);
	struct conn *conn = rig_newest(&rig, 0);
	cr_assert_eq(conn->state, CONN_OPEN);
	cr_assert_eq(script.opened, 1);
	cr_assert_eq(rig.port->admit.used, 1);
	cr_assert_eq(rig.port->peak, 1);

	conn_close(conn, CLOSE_ERROR);
	cr_assert_eq(conn->state, CONN_CLOSED);
	cr_assert_eq(conn->watch.fd, -1);
	cr_assert_eq(script.closing, 1);
	cr_assert_eq(rig.port->admit.used, 0);
	cr_assert_eq(w->conns.open, 0);
	cr_assert_eq(closed(&rig, CLOSE_ERROR), 1);
	cr_assert_eq(rig_await(client), 'e');
	rig_assert_books(&rig);
	conn_free_closed(w);
	cr_assert_eq(conn->state, CONN_FREE);
	(void)close(client);
	rig_close(&rig);
}

Test(conn, nothing_closes_twice, .signal = SIGABRT)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	(void)rig_serve(&rig, 0);
	struct conn *conn = rig_newest(&rig, 0);
	conn_close(conn, CLOSE_ERROR);
	conn_close(conn, CLOSE_ERROR);
}

Test(conn, a_free_one_is_not_closed, .signal = SIGABRT)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	(void)rig_serve(&rig, 0);
	struct conn *conn = rig_newest(&rig, 0);
	conn_close(conn, CLOSE_ERROR);
	conn_free_closed(rig_worker(&rig, 0));
	conn_close(conn, CLOSE_ERROR);
}

Test(conn, a_lingering_one_is_not_closed_again, .signal = SIGABRT)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	(void)rig_serve(&rig, 0);
	struct conn *conn = rig_newest(&rig, 0);
	conn_close(conn, CLOSE_SERVICE);
	conn_close(conn, CLOSE_SERVICE);
}

Test(conn, the_memory_of_one_closed_in_this_batch_is_not_used_again_in_it)
{
	struct rig rig;
	rig_init(&rig, 1, 1000);
	rig_open(&rig, &scripted);
	struct worker *w = rig_worker(&rig, 0);
	int a = rig_serve(&rig, 0);
	struct conn *first = rig_newest(&rig, 0);
	conn_close(first, CLOSE_ERROR);
	/* In the same batch: as many as a chunk has, and none is the one just closed. */
	int client[300];
	for (int i = 0; i < 300; i++) {
		client[i] = rig_connect(&rig);
		cr_assert_eq(admit_take(&rig.port->admit, 0), 0);
		int fd = -1;
		struct addr peer;
		cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
		worker_admit(w, fd, 0, &(struct ticket){.peer = peer});
		cr_assert_neq(rig_newest(&rig, 0), first);
	}
	cr_assert_eq(first->state, CONN_CLOSED);
	conn_close_all(w, CLOSE_ERROR);
	conn_free_closed(w);
	/* Freed memory is used again: the chunks do not grow. */
	size_t chunks = 0, after = 0;
	for (struct list *l = w->conns.chunks.next; l != &w->conns.chunks; l = l->next)
		chunks++;
	cr_assert_eq(chunks, 2);
	for (int i = 0; i < 1000; i++) {
		int end[2];
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end), 0);
		cr_assert_eq(admit_take(&rig.port->admit, 0), 0);
		cr_assert_eq(conn_open(w, end[0],
		                     &(struct ticket){.source.entry = SOURCE_NONE}),
		        0);
		conn_close(rig_newest(&rig, 0), CLOSE_ERROR);
		conn_free_closed(w);
		(void)close(end[1]);
	}
	for (struct list *l = w->conns.chunks.next; l != &w->conns.chunks; l = l->next)
		after++;
	cr_assert_eq(after, 2);
	for (int i = 0; i < 300; i++)
		(void)close(client[i]);
	(void)close(a);
	counters_add(&w->counters, COUNTER_ACCEPTED, 1000);
	rig_close(&rig);
}

Test(conn, two_that_close_each_other_in_one_batch)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	struct worker *w = rig_worker(&rig, 0);
	int a = rig_serve(&rig, 0);
	struct conn *conn_a = rig_newest(&rig, 0);
	int b = rig_serve(&rig, 0);
	struct conn *conn_b = rig_newest(&rig, 0);
	cr_assert_eq(send(a, "x", 1, 0), 1);
	cr_assert_eq(send(b, "x", 1, 0), 1);
	int n = 0;
	uint64_t end = clock_now() + RIG_DEADLINE;
	while ((n = loop_wait(&w->loop, 10)) != 2)
		cr_assert_lt(clock_now(), end);
	/* Whichever comes first closes the other, whose event is stale then. */
	script.pair[0] = conn_a;
	script.pair[1] = conn_b;
	loop_dispatch(&w->loop, n);
	cr_assert_eq(w->conns.open, 1);
	cr_assert_eq(closed(&rig, CLOSE_ERROR), 1);
	cr_assert_eq(script.closing, 1);
	cr_assert(conn_a->state == CONN_CLOSED || conn_b->state == CONN_CLOSED);
	cr_assert_neq(conn_a->state, conn_b->state);
	(void)close(a);
	(void)close(b);
	rig_close(&rig);
}

Test(conn, a_service_may_close_at_once)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	script.on_open = SERVICE_CLOSE(CLOSE_RESET);
	int client = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, closed(&rig, CLOSE_RESET) == 1);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 0);
	(void)close(client);
	rig_close(&rig);
}

/* It begins by itself no more than echo does. */
static const struct service waiting = {
        .name = "waiting",
        .fds_per_connection = 1,
        .events = EPOLLIN,
        .ready = scripted_ready,
        .closing = scripted_closing,
};

RIG_FN void reset_client(int client)
{
	struct linger now = {.l_onoff = 1};
	cr_assert_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	cr_assert_eq(close(client), 0);
}

/* A port that has served one, so that the next one is no new peak. */
RIG_FN void open_warm(struct rig *rig)
{
	rig_init(rig, 1, 4);
	rig_open(rig, &waiting);
	int client = rig_serve(rig, 0);
	conn_close(rig_newest(rig, 0), CLOSE_ERROR);
	conn_free_closed(rig_worker(rig, 0));
	(void)close(client);
	rig->now++;
	rig_turn(rig, 0);
}

Test(conn, one_that_was_dead_when_accepted_is_aborted_by_its_first_event)
{
	struct rig rig;
	struct addr loopback = {.family = AF_INET, .bytes = {127, 0, 0, 1}};
	struct record_row row;
	open_warm(&rig);
	struct worker *w = rig_worker(&rig, 0);
	reset_client(rig_connect(&rig));
	rig.now++;
	RIG_UNTIL(&rig, 0, w->conns.open == 1);
	cr_assert(rig_newest(&rig, 0)->untried, "nobody asked");
	rig.now++;
	RIG_UNTIL(&rig, 0, rig_counts(&rig).shed[SHED_ABORTED] == 1);
	cr_assert_eq(script.ready, 0, "its service began");
	cr_assert_eq(w->conns.open, 0);
	cr_assert_eq(rig.port->admit.used, 0);
	struct counts counts = rig_counts(&rig);
	cr_assert_eq(counts_total_closed(&counts), 1, "the one that was served before");
	cr_assert_eq(record_read(&w->record, &row, 1), 1);
	row.peer.port = 0;
	cr_assert(addr_equal(&row.peer, &loopback), "it is remembered who it was");
	rig_close(&rig);
}

Test(conn, one_that_resets_once_it_is_open_was_served)
{
	struct rig rig;
	open_warm(&rig);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig);
	rig.now++;
	RIG_UNTIL(&rig, 0, w->conns.open == 1);
	cr_assert(rig_newest(&rig, 0)->untried);
	rig.now++;
	rig_turn(&rig, 0);
	script.on_ready = SERVICE_CLOSE(CLOSE_RESET);
	reset_client(client);
	rig.now++;
	RIG_UNTIL(&rig, 0, w->conns.open == 0);
	cr_assert_eq(script.ready, 1);
	cr_assert_eq(closed(&rig, CLOSE_RESET), 1);
	cr_assert_eq(rig_counts(&rig).shed[SHED_ABORTED], 0);
	rig_close(&rig);
}

Test(conn, a_full_batch_of_events_says_nothing_of_who_is_not_in_it)
{
	struct rig rig;
	open_warm(&rig);
	struct worker *w = rig_worker(&rig, 0);
	uint64_t shown = w->shown;
	memset(w->loop.batch, 0, sizeof(w->loop.batch));
	struct watch stale = {.fd = -1};
	for (size_t i = 0; i < LOOP_BATCH; i++)
		w->loop.batch[i].data.ptr = &stale;
	rig.now++;
	rig_work(&rig, 0, LOOP_BATCH);
	cr_assert_eq(w->shown, shown);
	rig_work(&rig, 0, LOOP_BATCH - 1);
	cr_assert_eq(w->shown, rig.now);
	rig_close(&rig);
}

Test(conn, who_would_make_a_peak_is_asked_first)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &waiting);
	reset_client(rig_connect(&rig));
	RIG_UNTIL(&rig, 0, rig_counts(&rig).shed[SHED_ABORTED] == 1);
	cr_assert_eq(rig.port->peak, 0);
	rig_close(&rig);
}

Test(conn, who_would_have_the_last_slot_is_asked_first)
{
	struct rig rig;
	struct event event;
	uint64_t dropped;
	rig_init(&rig, 1, 1);
	rig.config.low_watermark = 0;
	rig_open(&rig, &waiting);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_serve(&rig, 0);
	conn_close(rig_newest(&rig, 0), CLOSE_ERROR);
	rig.now++;
	RIG_UNTIL(&rig, 0,
	        !state_is_spell(&rig.port->state) && w->listen == WORKER_LISTEN_SHARED);
	while (port_next_event(rig.port, &event, &dropped) == 1)
		;
	reset_client(rig_connect(&rig));
	rig.now++;
	RIG_UNTIL(&rig, 0, rig_counts(&rig).shed[SHED_ABORTED] == 1);
	cr_assert_eq(port_next_event(rig.port, &event, &dropped), 0, "a spell of nobody");
	(void)close(client);
	rig_close(&rig);
}

Test(conn, without_a_place_in_the_epoll_set_everything_stays_the_callers)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &scripted);
	struct worker *w = rig_worker(&rig, 0);
	cr_assert_eq(admit_take(&rig.port->admit, 0), 0);
	/* epoll takes no plain files. */
	int fd = memfd_create("refused", 0);
	cr_assert_eq(
	        conn_open(w, fd, &(struct ticket){.source.entry = SOURCE_NONE}), -ENOMEM);
	cr_assert_eq(own_close(fd), -1);
	cr_assert_eq(w->conns.open, 0);
	cr_assert_eq(script.opened, 0);
	cr_assert_eq(rig.port->admit.used, 1);
	admit_give(&rig.port->admit, 0);
	conn_free_closed(w);
	rig_close(&rig);
}

static const struct {
	int err;
	enum close_reason reason;
} reasons[] = {
        {ECONNRESET, CLOSE_RESET},
        {EPIPE, CLOSE_RESET},
        {ETIMEDOUT, CLOSE_TIMEOUT},
        {ECONNABORTED, CLOSE_KILLED},
        {EHOSTUNREACH, CLOSE_TIMEOUT},
        {ENETUNREACH, CLOSE_TIMEOUT},
        {EINVAL, CLOSE_ERROR},
        {ENOMEM, CLOSE_ERROR},
        /* getpeername(2) of a client that has reset in the meantime */
        {ENOTCONN, CLOSE_RESET},
};

/* A connection that worker 0 accepts and opens with this ticket, and its client. */
RIG_FN int open_with(struct rig *rig, struct ticket *ticket)
{
	struct worker *w = rig_worker(rig, 0);
	int client = rig_connect(rig), fd = -1;
	w->now = rig->now;
	cr_assert_eq(worker_accept_one(w, false, &fd, &ticket->peer), 0);
	ticket->source.entry = SOURCE_NONE;
	cr_assert_eq(conn_open(w, fd, ticket), 0);
	return client;
}

/* Those in priority slots have lists, and timeouts, of their own. */
Test(conn, one_in_a_priority_slot_is_under_the_same_timeouts)
{
	struct rig rig;
	rig_init(&rig, 1, 2);
	rig.budget.priority_slots = 2;
	rig.config.first_byte = CLOCK_SEC;
	rig.config.idle = 2 * CLOCK_SEC;
	rig_open(&rig, &scripted);
	struct worker *w = rig_worker(&rig, 0);
	struct ticket ticket = {
	        .priority = true, .priority_slot = true, .would_shed = SHED_COUNT};
	int client[2];
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(admit_take_priority(&rig.port->admit), 0);
		client[i] = open_with(&rig, &ticket);
	}
	struct list *silent = &w->conns.silent[true];
	conn_touch(container_of(list_first(silent), struct conn, timer), true);
	cr_assert_not(list_is_empty(&w->conns.talking[true]));
	cr_assert_eq(conn_next_deadline(w), rig.now + CLOCK_SEC);
	(void)rig_run(&rig, CLOCK_SEC, 10);
	cr_assert_eq(closed(&rig, CLOSE_FIRST_BYTE), 1);
	cr_assert_eq(conn_next_deadline(w), rig.now + CLOCK_SEC);
	(void)rig_run(&rig, CLOCK_SEC, 10);
	cr_assert_eq(closed(&rig, CLOSE_IDLE), 1);
	cr_assert_eq(rig.port->admit.priority_used, 0);
	cr_assert_eq(rig.port->admit.used, 0);
	for (unsigned i = 0; i < 2; i++)
		(void)close(client[i]);
	rig_close(&rig);
}

/* Two are open where only one was asked for since a reload: who has a priority slot is none of
 * those that a limit would shed. */
Test(conn, a_dry_run_finds_nothing_against_one_in_a_priority_slot)
{
	struct rig rig;
	rig_init(&rig, 1, 2);
	rig.config.dry_run = true;
	rig.budget.fds_slots = 4;
	rig.budget.priority_slots = 1;
	rig_open(&rig, &scripted);
	int client[4];
	client[0] = rig_serve(&rig, 0);
	client[1] = rig_serve(&rig, 0);
	rig.budget.max_connections = 1;
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
	rig_turn(&rig, 0);
	struct ticket ticket = {
	        .priority = true, .priority_slot = true, .would_shed = SHED_COUNT};
	cr_assert_eq(admit_take_priority(&rig.port->admit), 0);
	client[2] = open_with(&rig, &ticket);
	cr_assert_eq(rig_counts(&rig).would_shed[SHED_FULL], 0);
	cr_assert_eq(rig_worker(&rig, 0)->conns.would_shed, 0);
	/* Without one, and none to be had, it would have been shed. */
	ticket.priority_slot = false;
	cr_assert_eq(admit_take(&rig.port->admit, 0), 0);
	client[3] = open_with(&rig, &ticket);
	cr_assert_eq(rig_counts(&rig).would_shed[SHED_FULL], 1);
	cr_assert_eq(rig_worker(&rig, 0)->conns.would_shed, 1);
	for (unsigned i = 0; i < 4; i++)
		(void)close(client[i]);
	rig_close(&rig);
}

Test(conn, each_errno_has_its_reason)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		cr_expect_eq(conn_reason_of(reasons[i].err), reasons[i].reason, "%s",
		        strerror(reasons[i].err));
}
