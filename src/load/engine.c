/*
 * engine.c - see engine.h.
 *
 * Invariants: connection k of process i of n is due at start + (i + k * n) / rate, whatever
 * the server does (an open loop); it never starts early, and when it starts late, its times
 * count from when it was due. A batch of events is over before a connection starts, so that
 * no event meets a descriptor's next owner.
 */
#include "load/engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "load/client.h"

#define BATCH 256
/* Connections started between two looks at the events: few enough that answers are seen
 * when they come. */
#define STARTS_AT_ONCE 32
/* Connects under way, of all processes together: a server whose backlog queue is full is
 * sent this many SYNs again, not one for each of a million clients. */
#define WINDOW_ALL 512U
/* After an error of this machine, before the next attempt. */
#define PAUSE (10 * CLOCK_MSEC)
/* Behind the schedule by more than that counts as late. */
#define LATE_AFTER (10 * CLOCK_MSEC)
/* Starts that were due before an order's end are still made so long after it. */
#define OVERTIME   (100 * CLOCK_MSEC)
#define READ_BYTES 65536U

/* CPU that this process has used, and time that it has waited for one, in ns. */
static void read_cpu(const struct engine *e, uint64_t *ret_cpu, uint64_t *ret_waiting)
{
	struct rusage usage;
	char line[128] = "";

	(void)getrusage(RUSAGE_SELF, &usage);
	*ret_cpu =
	        (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * CLOCK_SEC +
	        (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * CLOCK_USEC;
	*ret_waiting = 0;
	if (pread(e->schedstat_fd, line, sizeof(line) - 1, 0) <= 0)
		return;
	/* "on-cpu waiting slices": without CONFIG_SCHED_INFO zeros. */
	char *rest = strchr(line, ' ');
	if (rest)
		*ret_waiting = strtoull(rest, NULL, 10);
}

static uint64_t due_of(const struct engine *e, uint64_t k)
{
	uint64_t rate = figure_get(&e->order->rate), start = figure_get(&e->order->start);
	if (rate == 0)
		return start;
	__extension__ unsigned __int128 ns =
	        (unsigned __int128)(e->share.index + k * e->share.processes) * CLOCK_SEC;
	return start + (uint64_t)(ns / rate);
}

/* How many an order may start, whenever they are due. */
static uint64_t most_starts(const struct engine *e)
{
	if (e->options->command == COMMAND_HOLD && e->share.connections < e->share.count)
		return e->share.connections;
	return e->share.count;
}

/* Are all that this order starts started? */
static bool is_schedule_over(const struct engine *e, uint64_t now)
{
	uint64_t until = figure_get(&e->order->until);

	if (e->word != ORDER_RUN || e->scheduled >= most_starts(e))
		return true;
	/* What was due before the end may still start, unless portload is far behind. */
	if (figure_get(&e->order->rate) != 0)
		return due_of(e, e->scheduled) >= until ||
		       now >= clock_add(until, OVERTIME);
	return now >= until;
}

/* May another one start now? Notes what stops it. */
static bool has_room(struct engine *e, uint64_t now)
{
	uint64_t open = figure_get(&e->shared->figures.open);

	if (open < e->share.connections && e->pending < e->window)
		return true;
	e->blocked_at = now;
	e->blocked_by = open < e->share.connections ? LATE_WINDOW : LATE_OPEN;
	return false;
}

static void count_lag(struct engine *e, uint64_t due, uint64_t now)
{
	struct figures *f = &e->shared->figures;
	uint64_t lag = now - due;

	if (lag > f->lag_max)
		f->lag_max = lag;
	if (lag > LATE_AFTER)
		f->late[e->blocked_at >= due ? e->blocked_by : LATE_SELF]++;
}

/* Starts what is due. Returns when to come back at the latest, in ns of clock_now. */
static uint64_t start_due(struct engine *e)
{
	uint64_t now = clock_now();

	for (unsigned n = 0; !is_schedule_over(e, now); n++) {
		uint64_t due = due_of(e, e->scheduled);
		bool has_rate = figure_get(&e->order->rate) != 0;

		if (n == STARTS_AT_ONCE)
			return now;
		if (due > now)
			return due;
		if (e->pause_until > now)
			return e->pause_until;
		if (!has_room(e, now))
			return CLOCK_INFINITY;
		if (has_rate)
			count_lag(e, due, now);
		e->scheduled++;
		if (client_start(e, has_rate ? due : now) < 0)
			e->pause_until = now + PAUSE;
		now = clock_now();
		e->shared->figures.last_start = now;
	}
	return CLOCK_INFINITY;
}

static uint64_t expires(const struct engine *e, int fd)
{
	return clock_add(
	        e->began + e->clients[fd].began_ms * CLOCK_MSEC, e->options->timeout);
}

/* Returns when the next one's time is up. */
static uint64_t expire_due(struct engine *e)
{
	uint64_t now = clock_now();

	while (e->first >= 0) {
		if (expires(e, e->first) > now)
			return expires(e, e->first);
		client_expire(e, e->first);
	}
	return CLOCK_INFINITY;
}

/* Those that were due before the end and never began are late for good. */
static void count_missed(struct engine *e, uint64_t now)
{
	struct figures *f = &e->shared->figures;
	uint64_t rate = figure_get(&e->order->rate), start = figure_get(&e->order->start);
	uint64_t until = figure_get(&e->order->until), end = now - LATE_AFTER;

	if (e->word != ORDER_RUN || rate == 0)
		return;
	if (end > until)
		end = until;
	uint64_t due = due_of(e, e->scheduled);
	if (e->scheduled >= most_starts(e) || due >= end)
		return;
	/* All workers' starts due before the end, and of those this worker's: every
	 * processes-th from its index on. */
	__extension__ unsigned __int128 all =
	        ((unsigned __int128)(end - start) * rate + CLOCK_SEC - 1) / CLOCK_SEC;
	uint64_t mine = (uint64_t)((all - e->share.index + e->share.processes - 1) /
	                           e->share.processes);
	if (mine > most_starts(e))
		mine = most_starts(e);
	if (now - due > f->lag_max)
		f->lag_max = now - due;
	f->late[e->blocked_at >= due ? e->blocked_by : LATE_SELF] += mine - e->scheduled;
}

/* What starting the connections has cost, once, when the last has started: waiting for answers, or
 * for what stands to settle, is no work. */
static void measure(struct engine *e)
{
	struct figures *f = &e->shared->figures;
	uint64_t cpu, waiting;

	if (e->measured)
		return;
	e->measured = true;
	read_cpu(e, &cpu, &waiting);
	uint64_t now = clock_now();
	count_missed(e, now);
	f->wall = now - e->order_taken;
	f->cpu = cpu - e->order_cpu;
	f->waiting = waiting - e->order_waiting;
}

static void say_done(struct engine *e)
{
	uint64_t one = 1;

	e->done = true;
	atomic_store_explicit(&e->shared->done, e->serial, memory_order_release);
	(void)!write(e->news_fd, &one, sizeof(one));
}

static void settle_all(struct engine *e)
{
	for (int fd = 0; fd < e->fds; fd++)
		client_settle(e, fd);
}

/* What is without an outcome stays so. */
static void give_up(struct engine *e)
{
	for (int fd = 0; fd < e->fds; fd++) {
		const struct client *c = &e->clients[fd];

		if (c->state == CLIENT_SAMPLED)
			client_unanswered(e, fd);
		if (c->state == CLIENT_NONE ||
		        (c->state == CLIENT_HELD && c->flags & CLIENT_DECIDED))
			continue;
		if (!(c->flags & CLIENT_DECIDED))
			figure_add(&e->shared->figures.undecided, 1);
		client_drop(e, fd);
	}
	e->waiting = 0;
}

/* Picks its part of the sample among those that stand, at random. */
static void begin_sample(struct engine *e)
{
	size_t n = 0, wanted = e->share.sample;
	uint64_t from = figure_get(&e->order->start), to = figure_get(&e->order->until);

	if (e->share.index < from || e->share.index >= to)
		return;
	e->sample = calloc((size_t)e->fds, sizeof(*e->sample));
	if (!e->sample)
		return;
	for (int fd = 0; fd < e->fds; fd++)
		if (e->clients[fd].state == CLIENT_HELD)
			e->sample[n++] = fd;
	if (wanted > n)
		wanted = n;
	/* The first steps of a Fisher-Yates shuffle. */
	for (size_t i = 0; i < wanted; i++) {
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): a process has one thread. */
		size_t k = i + (size_t)random() % (n - i);
		int swapped = e->sample[i];
		e->sample[i] = e->sample[k];
		e->sample[k] = swapped;
	}
	e->sample_count = wanted;
}

/* One after the other: the latency of a server with many connections, not of a burst. Returns when
 * the one that was asked has had time enough. */
static uint64_t go_on_sampling(struct engine *e)
{
	uint64_t until = clock_add(e->sample_asked, e->options->timeout);

	if (e->sample_fd >= 0 && clock_now() >= until)
		client_expire(e, e->sample_fd);
	while (e->sample_fd < 0 && e->sample_count > 0) {
		int fd = e->sample[--e->sample_count];

		if (e->clients[fd].state != CLIENT_HELD)
			continue; /* gone meanwhile */
		e->sample_fd = fd;
		client_ask(e, fd);
		until = clock_add(e->sample_asked, e->options->timeout);
	}
	if (e->sample_fd >= 0)
		return until;
	own_free_p(&e->sample);
	say_done(e);
	return CLOCK_INFINITY;
}

/* Has the order at work been carried out? Returns when to look again. */
static uint64_t look_for_end(struct engine *e)
{
	uint64_t now = clock_now();
	uint64_t settled = clock_add(e->last_connect, e->options->settle);
	bool must_settle = e->options->command == COMMAND_HOLD && !e->options->speaks;

	if (e->done)
		return CLOCK_INFINITY;
	if (e->word == ORDER_SAMPLE)
		return go_on_sampling(e);
	if (e->word == ORDER_CUT) {
		measure(e);
		if (must_settle && now >= settled)
			settle_all(e);
		give_up(e);
	} else if (e->word == ORDER_RUN) {
		if (!is_schedule_over(e, now))
			return clock_add(figure_get(&e->order->until), OVERTIME);
		measure(e);
		if (e->first >= 0)
			return CLOCK_INFINITY;
		if (must_settle && now < settled)
			return settled;
		if (must_settle)
			settle_all(e);
	}
	say_done(e);
	return CLOCK_INFINITY;
}

static void take_order(struct engine *e)
{
	uint32_t serial = atomic_load_explicit(&e->order->serial, memory_order_acquire);

	if (serial == e->serial)
		return;
	e->serial = serial;
	e->word = atomic_load_explicit(&e->order->word, memory_order_relaxed);
	e->done = false;
	if (e->word == ORDER_RUN) {
		e->scheduled = 0;
		e->measured = false;
		e->last_connect = figure_get(&e->order->start);
		e->order_taken = clock_now();
		read_cpu(e, &e->order_cpu, &e->order_waiting);
	} else if (e->word == ORDER_SAMPLE) {
		begin_sample(e);
	}
}

static int set_up(struct engine *e)
{
	uint64_t each = WINDOW_ALL / e->share.processes;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = e->order_fd};

	e->began = clock_now();
	e->window = each ? each : 1;
	e->first = e->last = e->sample_fd = -1;
	e->clients = calloc((size_t)e->fds, sizeof(*e->clients));
	e->source_used = calloc(e->share.sources, sizeof(*e->source_used));
	e->buffer = malloc(READ_BYTES);
	if (!e->clients || !e->source_used || !e->buffer)
		return -ENOMEM;
	/* The schedule's grain: the default of 50 us would be late for every connection. */
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	srandom((unsigned)(e->began / CLOCK_USEC) ^ (unsigned)getpid());
	/* Kept open: at the end there may be no descriptor left. -1 reads as nothing. */
	e->schedstat_fd = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
	e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->epoll_fd < 0 ||
	        epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->order_fd, &event) < 0)
		return -errno;
	return 0;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int wait_for(struct engine *e, struct epoll_event *batch, uint64_t until)
{
	uint64_t now = clock_now(), ns = until > now ? until - now : 0;

	struct timespec timeout = {
	        .tv_sec = (time_t)(ns / CLOCK_SEC), .tv_nsec = (long)(ns % CLOCK_SEC)};
	int n = epoll_pwait2(e->epoll_fd, batch, BATCH,
	        until == CLOCK_INFINITY ? NULL : &timeout, NULL);
	return n < 0 ? 0 : n;
}

int engine_run(struct engine *e)
{
	struct epoll_event batch[BATCH];
	uint64_t next = 0;

	if (set_up(e) < 0)
		return EXIT_NOTHING;
	for (;;) {
		int n = wait_for(e, batch, next);

		for (int i = 0; i < n; i++)
			if (batch[i].data.fd != e->order_fd)
				client_ready(e, batch[i].data.fd, batch[i].events);
		take_order(e);
		if (e->word == ORDER_QUIT)
			return EXIT_DONE;
		next = start_due(e);
		next = earliest(next, expire_due(e));
		next = earliest(next, look_for_end(e));
	}
}
