/*
 * test_accept.c - accept4's errors, each forced (-Wl,--wrap=accept4): counted in its row,
 * judged by its class, and never a reason to spin.
 */
#include "rig.h"

#include <limits.h>

#include "core/accept_call.h"
#include "core/admission.h"
#include "core/gauges.h"
#include "core/interest.h"
#include "core/shed.h"
#include "fdfill.h"

int __real_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);

/* The next `times` calls fail with err; where it takes, one client each goes off the queue with it. */
static struct {
	int err;
	unsigned times, calls;
	bool takes;
} fake;

#define ALWAYS UINT_MAX

int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	fake.calls++;
	if (fake.times == 0)
		return __real_accept4(fd, sa, len, flags);
	if (fake.times != ALWAYS)
		fake.times--;
	int taken = fake.takes ? __real_accept4(fd, NULL, NULL, flags) : -1;
	(void)own_close(taken);
	errno = fake.err;
	return -1;
}

static void fail_with(int err, unsigned times)
{
	fake.err = err;
	fake.times = times;
	fake.calls = 0;
}

static int mute_ready(struct conn *conn, uint32_t events)
{
	(void)conn;
	(void)events;
	return 0;
}

/* It waits for nothing, so that what clients send makes no turns. */
static const struct service mute_service = {
        .name = "mute", .fds_per_connection = 1, .ready = mute_ready};

static int accept_one(struct rig *rig, int *ret_fd)
{
	struct worker *w = rig_worker(rig, 0);
	w->now = rig->now;
	struct addr peer;
	return worker_accept_one(w, false, ret_fd, &peer);
}

enum {
	OTHER = ENOTSOCK /* stands for every errno without a row */
};

/* The rows of the table, and what their class makes of accept. */
#define OUTCOME_SHORT      WORKER_ACCEPT_SHORT
#define OUTCOME_CONNECTION WORKER_ACCEPT_SKIP
#define OUTCOME_UNKNOWN    WORKER_ACCEPT_PAUSE

static const struct row {
	int err;
	enum accept_error row;
	int outcome;
} rows[] = {
#define X(name, class) {name, ACCEPT_ERROR_##name, OUTCOME_##class},
#include "core/accept_errors.def"
#undef X
        {ENETDOWN, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {ENOPROTOOPT, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {EHOSTDOWN, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {ENONET, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {EHOSTUNREACH, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {EOPNOTSUPP, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {ENETUNREACH, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {ETIMEDOUT, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_SKIP},
        {EINVAL, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_PAUSE},
        {EBADF, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_PAUSE},
        {EACCES, ACCEPT_ERROR_OTHER, WORKER_ACCEPT_PAUSE},
};

static void assert_row(const struct row *row)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	fail_with(row->err, 1);
	int fd = -7;
	cr_assert_eq(accept_one(&rig, &fd), row->outcome, "%s", strerror(row->err));
	cr_assert_eq(fd, -7);
	struct counts counts = rig_counts(&rig);
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		cr_assert_eq(counts.accept_error[i], i == row->row, "%s in row %u",
		        strerror(row->err), i);
	cr_assert_eq(counts.counter[COUNTER_ACCEPT_CALLS], 1);
	cr_assert_eq(counts.counter[COUNTER_ACCEPTED], 0);
	/* Only what nobody foresaw is told to the operator. */
	struct event event;
	uint64_t dropped;
	int told = port_next_event(rig.port, &event, &dropped);
	cr_assert_eq(told, row->outcome == WORKER_ACCEPT_PAUSE, "%s", strerror(row->err));
	if (told == 1) {
		cr_assert_eq(event.kind, EVENT_ACCEPT_ERROR);
		cr_assert_eq(event.err, row->err);
		eventfd_t value;
		cr_assert_eq(eventfd_read(rig.main_fd, &value), 0, "main was not woken");
	}
	rig_close(&rig);
}

Test(accept, every_errno_is_counted_in_its_row_and_has_its_outcome)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_row(&rows[i]);
}

Test(accept, an_empty_queue_is_no_error)
{
	struct rig rig;
	int fd = -1;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_NOTHING);
	struct counts counts = rig_counts(&rig);
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++)
		cr_assert_eq(counts.accept_error[i], 0);
	rig_close(&rig);
}

Test(accept, one_bad_connection_does_not_keep_the_next_from_being_served)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	int client = rig_connect(&rig);
	fail_with(ECONNABORTED, 3);
	RIG_UNTIL(&rig, 0, rig_worker(&rig, 0)->conns.open == 1);
	cr_assert_eq(rig_counts(&rig).accept_error[ACCEPT_ERROR_ECONNABORTED], 3);
	cr_assert_eq(rig.port->admit.used, 1);
	(void)close(client);
	rig_close(&rig);
}

Test(accept, sixteen_in_a_row_are_a_pause_of_10_ms)
{
	struct rig rig;
	int fd = -1;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	fail_with(EPERM, ALWAYS);
	for (int i = 1; i < 16; i++)
		cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_SKIP, "call %d", i);
	cr_assert(worker_is_able(w));
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_PAUSE);
	cr_assert(!worker_is_able(w));
	cr_assert_eq(w->listen, WORKER_LISTEN_OFF);
	cr_assert_eq(worker_next_deadline(w), rig.now + 10 * CLOCK_MSEC);
	rig.now += 10 * CLOCK_MSEC - 1;
	rig_turn(&rig, 0);
	cr_assert_eq(w->listen, WORKER_LISTEN_OFF);
	rig.now += 1;
	rig_turn(&rig, 0);
	cr_assert_eq(w->listen, WORKER_LISTEN_SHARED);
	cr_assert(worker_is_able(w));

	/* An empty queue, or a success, begins the count again. */
	for (int i = 1; i < 16; i++)
		cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_SKIP);
	fail_with(0, 0);
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_NOTHING);
	fail_with(EPERM, ALWAYS);
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_SKIP);
	rig_close(&rig);
}

static bool told_of(struct rig *rig, int err)
{
	struct event event;
	uint64_t dropped;
	if (port_next_event(rig->port, &event, &dropped) == 0)
		return false;
	return event.kind == EVENT_ACCEPT_ERROR && event.err == err;
}

/* Sixteen calls, and the pause after the last is over. */
static void fail_in_a_row(struct rig *rig)
{
	int fd = -1;
	for (int i = 1; i < 16; i++)
		cr_assert_eq(accept_one(rig, &fd), WORKER_ACCEPT_SKIP, "call %d", i);
	cr_assert_eq(accept_one(rig, &fd), WORKER_ACCEPT_PAUSE);
}

Test(accept,
        errors_in_a_row_that_take_nobody_off_the_queue_are_told_once_until_one_is_served)
{
	struct rig rig;
	int fd = -1;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig);
	for (int i = 0; i < 2; i++) {
		fail_with(EPERM, ALWAYS);
		fail_in_a_row(&rig);
		cr_assert_eq(atomic_load(&w->failed_at), rig.now);
		cr_assert(told_of(&rig, EPERM));
		rig.now = w->paused_until;
		fail_in_a_row(&rig);
		cr_assert_eq(atomic_load(&w->failed_at), rig.now, "it goes on");
		cr_assert_not(told_of(&rig, EPERM), "and is told already");
		fail_with(0, 0);
		int r = accept_one(&rig, &fd);
		cr_assert_eq(r, i == 0 ? 0 : WORKER_ACCEPT_NOTHING);
		cr_assert_eq(atomic_load(&w->failed_at), 0);
		if (r == 0) {
			cr_assert_eq(admit_take(&rig.port->admit, 0), 0);
			worker_admit(
			        w, fd, 0, &(struct ticket){.peer.family = AF_UNSPEC});
		}
	}
	(void)close(client);
	rig_close(&rig);
}

Test(accept, errors_that_take_their_client_off_the_queue_are_no_failure_of_the_port)
{
	struct rig rig;
	int client[20];
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(client); i++)
		client[i] = rig_connect(&rig);
	fail_with(EPERM, ALWAYS);
	fake.takes = true;
	fail_in_a_row(&rig);
	cr_assert_eq(rig_depth(&rig), ARRAY_SIZE(client) - 16);
	cr_assert_eq(atomic_load(&w->failed_at), 0);
	cr_assert_not(told_of(&rig, EPERM));
	fake.takes = false;
	fail_with(0, 0);
	rig.now = w->paused_until;
	RIG_UNTIL(&rig, 0, w->conns.open == 4);
	for (unsigned i = 0; i < ARRAY_SIZE(client); i++)
		(void)close(client[i]);
	rig_close(&rig);
}

Test(accept, an_unknown_errno_is_a_pause_of_100_ms_and_service_goes_on)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig);
	fail_with(EBADF, 1);
	rig_turn(&rig, 0);
	cr_assert_eq(w->listen, WORKER_LISTEN_OFF);
	cr_assert_eq(w->paused_until, rig.now + 100 * CLOCK_MSEC);
	cr_assert_eq(atomic_load(&w->failed_at), rig.now, "the port may be down");
	cr_assert_eq(rig.port->admit.used, 0, "the slot was given back");
	cr_assert_leq(rig_run(&rig, 99 * CLOCK_MSEC, 100), 2);
	cr_assert_eq(w->conns.open, 0);
	(void)rig_run(&rig, CLOCK_MSEC, 100);
	cr_assert_eq(w->conns.open, 1);
	cr_assert_eq(atomic_load(&w->failed_at), 0);
	(void)close(client);
	rig_close(&rig);
}

/* A second with a client waiting and accept4 failing all the time. */
static unsigned turns_while_failing(int err, unsigned workers)
{
	struct rig rig;
	rig_init(&rig, workers, 4);
	rig.config.queue_timeout = CLOCK_INFINITY - 1;
	rig_open(&rig, &mute_service);
	int client = rig_connect(&rig);
	fail_with(err, ALWAYS);
	unsigned turns = rig_run(&rig, CLOCK_SEC, 5000);
	fail_with(0, 0);
	/* And then it is over: the client is served. */
	(void)rig_run(&rig, 2 * CLOCK_SEC, 5000);
	cr_assert_eq(port_connections(rig.port), 1,
	        "%s with %u workers: not served again", strerror(err), workers);
	(void)close(client);
	rig_close(&rig);
	return turns;
}

static const int persistent[] = {
        EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPERM, ENETDOWN, EBADF};

Test(accept, a_failure_that_lasts_turns_the_loop_at_most_20_times_a_second)
{
	for (size_t i = 0; i < ARRAY_SIZE(persistent); i++) {
		for (unsigned workers = 1; workers <= 3; workers++) {
			unsigned turns = turns_while_failing(persistent[i], workers);
			cr_expect_leq(turns, 20 * workers,
			        "%s: %u workers turned %u times in 1 s",
			        strerror(persistent[i]), workers, turns);
		}
	}
}

Test(accept, each_pause_in_a_row_is_twice_as_long_up_to_1_s)
{
	static const unsigned pauses[] = {100, 200, 400, 800, 1000, 1000};
	struct rig rig;
	int fd = -1;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	fail_with(EBADF, ALWAYS);
	for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
		cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_PAUSE);
		cr_assert_eq(w->paused_until, rig.now + pauses[i] * CLOCK_MSEC);
		rig.now = w->paused_until;
	}
	fail_with(EBADF, 0);
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_NOTHING);
	fail_with(EBADF, 1);
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_PAUSE);
	cr_assert_eq(w->paused_until, rig.now + 100 * CLOCK_MSEC, "a new row");
	rig_close(&rig);
}

Test(accept, the_retries_of_a_shortage_are_paced_from_10_ms_to_1_s)
{
	static const unsigned pauses[] = {
	        10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000};
	struct rig rig;
	struct fdfill fill;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	fdfill_all(&fill);
	w->now = rig.now;
	worker_set_short(w);
	for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
		uint64_t due = rig.now + pauses[i] * CLOCK_MSEC;
		cr_assert_eq(w->retry_at, due, "pause %zu is %lu ms", i,
		        (unsigned long)((w->retry_at - rig.now) / CLOCK_MSEC));
		cr_assert_leq(worker_next_deadline(w), due);
		w->now = due - 1;
		cr_assert_not(worker_check_short(w, false));
		w->now = rig.now = due;
		cr_assert_not(worker_check_short(w, false));
	}
	/* After a close it does not wait for that. */
	fdfill_free(&fill, 2);
	cr_assert_not(worker_check_short(w, false));
	cr_assert(worker_check_short(w, true));
	cr_assert_not(admit_is_short(&rig.port->admit, 0));
	fdfill_end(&fill);
	rig_close(&rig);
}

Test(accept, what_another_lends_is_not_taken)
{
	struct rig rig;
	int fd = -1;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	int client = rig_connect(&rig);
	fail_with(0, 0);
	fdtable_lock();
	fdtable_lend();
	cr_assert_eq(accept_one(&rig, &fd), WORKER_ACCEPT_SHORT);
	cr_assert_eq(fake.calls, 0);
	cr_assert(admit_is_short(&rig.port->admit, 0), "it looks again, later");
	fdtable_unlock();
	cr_assert_eq(accept_one(&rig, &fd), 0);
	cr_assert_eq(rig_counts(&rig).counter[COUNTER_ACCEPT_CALLS], 1);
	shed(rig_worker(&rig, 0), fd, SHED_DENIED, &(struct addr){.family = AF_UNSPEC});
	(void)close(client);
	rig_close(&rig);
}

Test(accept, a_shortage_in_a_private_table_is_one_workers)
{
	struct rig rig;
	rig_init(&rig, 2, 8);
	rig.config.fd_table = CONFIG_FD_TABLE_PRIVATE;
	rig_open(&rig, &mute_service);
	int client = rig_connect(&rig);
	/* The worker that is woken has none; the other is asked to look at the queue. */
	fail_with(EMFILE, 1);
	struct worker *w = rig_worker(&rig, 0);
	w->now = rig.now;
	worker_accept(w);
	cr_assert_eq(w->listen, WORKER_LISTEN_OFF);
	cr_assert(rig_worker(&rig, 1)->look);
	cr_assert_eq(rig.port->hold.holder, HOLD_NOBODY);
	rig_turn(&rig, 1);
	cr_assert_eq(rig_worker(&rig, 1)->conns.open, 1, "the client was left behind");
	(void)close(client);
	rig_close(&rig);
}

static int next_event(struct rig *rig, struct event *ret)
{
	uint64_t dropped;
	return port_next_event(rig->port, ret, &dropped);
}

Test(spell, one_of_no_descriptors_begins_with_the_error_and_ends_with_it)
{
	struct rig rig;
	struct event event;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &mute_service);
	int client = rig_connect(&rig);
	fail_with(EMFILE, 1);
	RIG_UNTIL(&rig, 0, rig_worker(&rig, 0)->conns.open == 1);
	cr_assert_eq(next_event(&rig, &event), 1);
	cr_assert_eq(event.kind, EVENT_FULL);
	cr_assert_eq(event.spell.cause, STATE_CAUSE_FDS);
	/* The next look of the main thread at the latest. */
	unsigned first;
	cr_assert_eq(port_pulse(rig.port, &first), 0);
	rig_turn(&rig, 0);
	rig_turn(&rig, 0);
	cr_assert_eq(next_event(&rig, &event), 1);
	cr_assert_eq(event.kind, EVENT_NOT_FULL);
	cr_assert_eq(event.spell.shed, 0);
	cr_assert_eq(next_event(&rig, &event), 0);
	cr_assert_eq(state_read(&rig.port->state, rig.now, NULL), STATE_OPEN);
	(void)close(client);
	rig_close(&rig);
}

Test(spell, one_of_no_slots_begins_with_the_last_and_ends_at_the_watermark)
{
	struct rig rig;
	struct event event;
	int client[4];
	rig_init(&rig, 1, 4);
	rig.config.low_watermark = 50;
	rig_open(&rig, &mute_service);
	struct worker *w = rig_worker(&rig, 0);
	for (int i = 0; i < 4; i++) {
		cr_assert_not(state_is_spell(&rig.port->state));
		client[i] = rig_serve(&rig, 0);
	}
	cr_assert(state_is_spell(&rig.port->state));
	cr_assert_eq(next_event(&rig, &event), 1);
	cr_assert_eq(event.spell.cause, STATE_CAUSE_SLOTS);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	cr_assert(state_is_spell(&rig.port->state), "3 of 4 is above half");
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	rig_turn(&rig, 0);
	cr_assert_not(state_is_spell(&rig.port->state));
	cr_assert_eq(next_event(&rig, &event), 1);
	cr_assert_eq(event.kind, EVENT_NOT_FULL);
	cr_assert_eq(w->conns.open, 2);
	for (int i = 0; i < 4; i++)
		(void)close(client[i]);
	rig_close(&rig);
}

/* Only worker 0 fails; 1 has turned too late to be asked before 0 took the role. */
static void check_hand_over(int err, uint64_t queue_timeout)
{
	struct rig rig;
	rig_init(&rig, 2, 4);
	rig.config.queue_timeout = queue_timeout;
	rig_open(&rig, &mute_service);
	atomic_store(&rig_worker(&rig, 1)->stalled, true);
	int client = rig_connect(&rig);
	fail_with(err, ALWAYS);
	RIG_UNTIL(&rig, 0, rig.port->hold.holder == 0);
	atomic_store(&rig_worker(&rig, 1)->stalled, false);
	for (int i = 0; i < 40 && port_connections(rig.port) == 0; i++) {
		rig.now += 50 * CLOCK_MSEC;
		fail_with(err, ALWAYS);
		rig_turn(&rig, 0);
		fail_with(0, 0);
		rig_turn(&rig, 1);
	}
	cr_expect_eq(port_connections(rig.port), 1, "%s: worker 1 could have served it",
	        strerror(err));
	(void)close(client);
	rig_close(&rig);
}

/* Nobody looked for longer than the client has waited: of that, only its wait is known. */
Test(accept, a_pause_is_as_long_as_the_client_has_waited_in_it)
{
	struct rig rig;
	rig_init(&rig, 1, 8);
	rig_open(&rig, &mute_service);
	int early = rig_serve(&rig, 0);
	int client = rig_connect(&rig);
	uint64_t began = clock_now();
	while (clock_now() < began + 40 * CLOCK_MSEC)
		(void)poll(NULL, 0, 10);
	rig.now += 3600 * CLOCK_SEC;
	rig_turn(&rig, 0);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2);
	uint64_t pause = atomic_load(&rig.port->burst.pause);
	/* The kernel's clock ticks each 10 ms at the most. */
	cr_assert_geq(pause, 20 * CLOCK_MSEC);
	cr_assert_leq(pause, clock_now() - began + 20 * CLOCK_MSEC);
	(void)close(early);
	(void)close(client);
	rig_close(&rig);
}

Test(accept, a_holder_that_cannot_accept_hands_the_role_over)
{
	check_hand_over(EMFILE, 600 * CLOCK_SEC);
	check_hand_over(EMFILE, CLOCK_INFINITY);
	check_hand_over(ENOBUFS, 600 * CLOCK_SEC);
}

/* A slot is free and a client waits; the holder would not look for 100 ms. */
Test(accept, a_holder_that_pauses_hands_the_role_over)
{
	struct rig rig;
	rig_init(&rig, 2, 2);
	rig.config.queue_timeout = CLOCK_INFINITY;
	rig_open(&rig, &mute_service);
	int served[] = {rig_serve(&rig, 0), rig_serve(&rig, 1)};
	int client = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, rig.port->hold.holder == 0);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	fail_with(EBADF, 1);
	rig_turn(&rig, 0);
	cr_assert_not(worker_is_able(rig_worker(&rig, 0)));
	rig_turn(&rig, 0);
	cr_assert_eq(rig.port->hold.holder, 1);
	rig_turn(&rig, 1);
	cr_assert_eq(rig_worker(&rig, 1)->conns.open, 2);
	(void)close(served[0]);
	(void)close(served[1]);
	(void)close(client);
	rig_close(&rig);
}
