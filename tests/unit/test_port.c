/*
 * test_port.c - the port with its threads: it starts, serves, changes its configuration, drains and
 * ends; and what it leaves behind where it cannot (the linker wraps what the kernel may refuse).
 */
#include "rig.h"

#include <linux/close_range.h>
#include <semaphore.h>
#include <sys/epoll.h>

#include "core/gauges.h"
#include "serve/echo.h"

/* Each wrapped call fails at its next `in`th call with err; 0: it does not. */
static struct fault {
	int err;
	unsigned in;
} thread_fault, epoll_fault, listen_fault, table_fault;

/* freed counts how often what `watched` points to was freed. */
static const void *watched;
static unsigned freed;

static _Thread_local bool refused; /* unshare(2) was, to this thread */

static int strikes(struct fault *fault)
{
	if (fault->in == 0 || --fault->in > 0)
		return 0;
	return fault->err;
}

int __real_pthread_create(
        pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg);
int __wrap_pthread_create(
        pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg);
int __wrap_pthread_create(
        pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	int err = strikes(&thread_fault);
	return err ? err : __real_pthread_create(thread, attr, start, arg);
}

int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_create1(int flags)
{
	int err = strikes(&epoll_fault);
	if (!err)
		return __real_epoll_create1(flags);
	errno = err;
	return -1;
}

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
	int err = strikes(&listen_fault);
	if (!err)
		return __real_listen(fd, backlog);
	errno = err;
	return -1;
}

int __real_unshare(int flags);
int __wrap_unshare(int flags);
int __wrap_unshare(int flags)
{
	int err = strikes(&table_fault);
	if (!err)
		return __real_unshare(flags);
	refused = true;
	errno = err;
	return -1;
}

/* Does the same, and is tried next. */
int __real_close_range(unsigned first, unsigned last, int flags);
int __wrap_close_range(unsigned first, unsigned last, int flags);
int __wrap_close_range(unsigned first, unsigned last, int flags)
{
	if (!refused || !((unsigned)flags & CLOSE_RANGE_UNSHARE))
		return __real_close_range(first, last, flags);
	refused = false;
	errno = EPERM;
	return -1;
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p)
{
	freed += p != NULL && p == watched;
	__real_free(p);
}

/* As rig_open, but with threads, and nobody is accepted yet. */
RIG_FN int start(struct rig *rig, const struct service *service)
{
	struct addr any = {.family = AF_INET, .bytes = {127, 0, 0, 1}}, bound;
	bool fallback;
	int listen_fd = -1;
	rig->main_fd = eventfd(0, EFD_CLOEXEC);
	cr_assert_geq(rig->main_fd, 0);
	cr_assert_eq(listener_open(&any, 0, &listen_fd, &bound, &fallback), 0);
	rig->tcp_port = bound.port;
	cr_assert_eq(port_create(&rig->port, &rig->config, &rig->budget, service,
	                     listen_fd, rig->main_fd),
	        0);
	return port_start(rig->port);
}

RIG_FN void finish(struct rig *rig)
{
	cr_assert_eq(port_finish(rig->port), 0);
	rig_assert_books(rig);
	cr_assert_eq(rig->port->admit.used, 0);
	rig->port = port_destroy(rig->port);
	rig->main_fd = own_close(rig->main_fd);
}

/* A client of threads; -1 if it is refused. */
RIG_FN int come(const struct rig *rig)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	        .sin_port = htons(rig->tcp_port),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(fd, 0);
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	cr_assert_eq(errno, ECONNREFUSED);
	return own_close(fd);
}

RIG_FN bool is_served(int client)
{
	return send(client, "x", 1, MSG_NOSIGNAL) == 1 && rig_await(client) == 'd';
}

/* Waits for what threads make true; fails the test after 5 s. */
#define SOON(condition) \
	do { \
		uint64_t soon_end_ = clock_now() + RIG_DEADLINE; \
		while (!(condition)) { \
			cr_assert_lt( \
			        clock_now(), soon_end_, "never came true: " #condition); \
			(void)poll(NULL, 0, 1); \
		} \
	} while (0)

/* Not a reset: that could end a connect. */
static void init_threads(struct rig *rig, enum config_fd_table table)
{
	rig_init(rig, 2, 8);
	rig->config.answer = CONFIG_ANSWER_CLOSE;
	rig->config.fd_table = table;
	rig->budget.tables = table == CONFIG_FD_TABLE_PRIVATE ? 2 : 1;
}

RIG_FN void live(enum config_fd_table table)
{
	struct rig rig;
	int client[4];
	init_threads(&rig, table);
	cr_assert_eq(start(&rig, &echo_service), 0);
	cr_assert_eq(come(&rig), -1, "accepted before it is open");
	cr_assert_eq(port_open(rig.port), 0);
	for (unsigned i = 0; i < 4; i++) {
		client[i] = come(&rig);
		cr_assert(is_served(client[i]));
	}
	cr_assert_eq(port_connections(rig.port), 4);

	/* Draining, and back. */
	port_set_draining(rig.port, true);
	int late = come(&rig);
	cr_assert_eq(rig_await(late), 'e');
	(void)own_close(late);
	cr_assert_eq(state_read(&rig.port->state, clock_now(), NULL), STATE_DRAINING);
	port_set_draining(rig.port, false);
	late = come(&rig);
	cr_assert(is_served(late));
	(void)own_close(late);

	port_stop(rig.port, false);
	cr_assert_eq(come(&rig), -1, "accepted after it has stopped");
	cr_assert_not(port_is_drained(rig.port), "4 are open");
	cr_assert(is_served(client[0]), "who is open stays so");
	for (unsigned i = 0; i < 4; i++)
		(void)own_close(client[i]);
	SOON(port_is_drained(rig.port));
	eventfd_t told;
	cr_assert_eq(eventfd_read(rig.main_fd, &told), 0, "main hears of it");
	cr_assert_eq(rig_counts(&rig).shed[SHED_DRAINING], 1);
	finish(&rig);
}

Test(port, starts_serves_drains_and_ends)
{
	live(CONFIG_FD_TABLE_SHARED);
	live(CONFIG_FD_TABLE_PRIVATE);
}

RIG_FN void fail_to_start(enum config_fd_table table, struct fault *fault, int err)
{
	for (unsigned at = 1; at <= 2; at++) {
		struct rig rig;
		init_threads(&rig, table);
		*fault = (struct fault){.err = err, .in = at};
		cr_assert_eq(start(&rig, &echo_service), -err, "call %u", at);
		cr_assert_eq(fault->in, 0, "it was never called");
		cr_assert_eq(rig.port->n_started, 0, "none is left running");
		for (unsigned i = 0; i < 2; i++)
			cr_assert_eq(rig_worker(&rig, i)->loop.epoll_fd, -1);
		rig.port = port_destroy(rig.port);
		rig.main_fd = own_close(rig.main_fd);
	}
}

Test(port, a_start_that_fails_leaves_no_thread)
{
	fail_to_start(CONFIG_FD_TABLE_SHARED, &thread_fault, EAGAIN);
	fail_to_start(CONFIG_FD_TABLE_SHARED, &epoll_fault, EMFILE);
	fail_to_start(CONFIG_FD_TABLE_PRIVATE, &epoll_fault, ENFILE);
	fail_to_start(CONFIG_FD_TABLE_PRIVATE, &table_fault, ENOMEM);
}

Test(port, what_cannot_listen_is_not_open)
{
	struct rig rig;
	init_threads(&rig, CONFIG_FD_TABLE_SHARED);
	cr_assert_eq(start(&rig, &echo_service), 0);
	listen_fault = (struct fault){.err = EADDRINUSE, .in = 1};
	cr_assert_eq(port_open(rig.port), -EADDRINUSE);
	cr_assert_eq(port_phase(rig.port), PORT_CLOSED);
	cr_assert_eq(come(&rig), -1);
	finish(&rig);
}

/* The service of a worker that stands still until the test lets it go. */
static sem_t entered, leave;

static int stuck_ready(struct conn *conn, uint32_t events)
{
	char byte;
	(void)events;
	cr_assert_eq(recv(conn->watch.fd, &byte, 1, 0), 1);
	(void)sem_post(&entered);
	(void)sem_wait(&leave);
	return 0;
}

static const struct service stuck_service = {.name = "stuck",
        .fds_per_connection = 1,
        .events = EPOLLIN | EPOLLET,
        .ready = stuck_ready};

static int touching_ready(struct conn *conn, uint32_t events)
{
	conn_touch(conn, true);
	return stuck_ready(conn, events);
}

static const struct service touching_service = {.name = "touching",
        .fds_per_connection = 1,
        .events = EPOLLIN | EPOLLET,
        .ready = touching_ready};

/* Since when somebody is idle, as of each worker's last turn but one; the pulse is the last. */
static uint64_t pulse_and_find_idlest(const struct rig *rig)
{
	unsigned first;
	uint64_t idlest = CLOCK_INFINITY;
	(void)port_pulse(rig->port, &first);
	for (unsigned i = 0; i < rig->port->n_workers; i++) {
		uint64_t since = atomic_load(&rig->port->workers[i].idlest);
		idlest = since < idlest ? since : idlest;
	}
	return idlest;
}

Test(port, who_moves_in_a_long_turn_is_idle_from_its_end)
{
	static struct rig rig;
	init_threads(&rig, CONFIG_FD_TABLE_SHARED);
	rig.config.evict_idle = 3600 * CLOCK_SEC;
	cr_assert_eq(sem_init(&entered, 0, 0), 0);
	cr_assert_eq(sem_init(&leave, 0, 0), 0);
	cr_assert_eq(start(&rig, &touching_service), 0);
	cr_assert_eq(port_open(rig.port), 0);
	int client = come(&rig);
	cr_assert_eq(send(client, "x", 1, 0), 1);
	(void)sem_wait(&entered);
	(void)poll(NULL, 0, 20);
	uint64_t end = clock_now();
	(void)sem_post(&leave);
	SOON(pulse_and_find_idlest(&rig) >= end);
	cr_assert_lt(pulse_and_find_idlest(&rig), CLOCK_INFINITY);
	port_stop(rig.port, false);
	finish(&rig);
	(void)own_close(client);
}

/* Nothing of what it uses is freed under it. */
Test(port, a_thread_that_stands_still_is_left_behind)
{
	static struct rig rig;
	init_threads(&rig, CONFIG_FD_TABLE_SHARED);
	cr_assert_eq(sem_init(&entered, 0, 0), 0);
	cr_assert_eq(sem_init(&leave, 0, 0), 0);
	cr_assert_eq(start(&rig, &stuck_service), 0);
	cr_assert_eq(port_open(rig.port), 0);
	int client = come(&rig);
	cr_assert_eq(send(client, "x", 1, 0), 1);
	(void)sem_wait(&entered);
	port_stop(rig.port, false);
	cr_assert_not(port_is_drained(rig.port));
	static struct port *port;
	port = rig.port;
	cr_assert_eq(port_finish(port), 1);
	cr_assert_null(port_destroy(port));
	(void)sem_post(&leave);
	SOON(atomic_load(&port->workers[0].ended) &&
	        atomic_load(&port->workers[1].ended));
	cr_assert_eq(rig_await(client), 'e', "it has closed what it had");
	(void)own_close(client);
}

Test(port, an_old_configuration_goes_when_every_worker_has_seen_the_newest)
{
	struct rig rig;
	unsigned stalled;
	rig_init(&rig, 2, 8);
	rig_open(&rig, &echo_service);
	watched = atomic_load(&rig.port->config);
	rig.config.idle = 7 * CLOCK_SEC;
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
	const struct config *newest = atomic_load(&rig.port->config);
	(void)port_pulse(rig.port, &stalled);
	cr_assert_eq(freed, 0, "both still use it");
	rig_turn(&rig, 0);
	(void)port_pulse(rig.port, &stalled);
	cr_assert_eq(freed, 0, "worker 1 still uses it");
	cr_assert_neq(rig_worker(&rig, 1)->config, newest);
	rig_turn(&rig, 1);
	(void)port_pulse(rig.port, &stalled);
	cr_assert_eq(freed, 1, "nobody uses it");
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(rig_worker(&rig, i)->config->idle, 7 * CLOCK_SEC);
	/* Several at once, and the one in force stays. */
	watched = newest;
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
	for (unsigned i = 0; i < 2; i++)
		rig_turn(&rig, i);
	(void)port_pulse(rig.port, &stalled);
	cr_assert_eq(freed, 2);
	watched = atomic_load(&rig.port->config);
	(void)port_pulse(rig.port, &stalled);
	cr_assert_eq(freed, 2, "it is in use");
	rig_close(&rig);
	watched = NULL;
}

Test(port, a_reload_that_cannot_listen_changes_nothing)
{
	struct rig rig;
	struct listener_queue queue;
	rig_init(&rig, 1, 8);
	rig_open(&rig, &echo_service);
	const struct config *before = atomic_load(&rig.port->config);
	struct budget budget = rig.budget;
	budget.max_connections = 3;
	rig.config.backlog = 5;
	listen_fault = (struct fault){.err = ENOBUFS, .in = 1};
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &budget), -ENOBUFS);
	cr_assert_eq(atomic_load(&rig.port->config), before);
	cr_assert_eq(rig.port->budget.max_connections, 8);
	cr_assert_eq(rig.port->admit.max, 8);
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &budget), 0);
	cr_assert_eq(rig.port->admit.max, 3);
	cr_assert_eq(listener_read_queue(rig.port->listen_fd, &queue), 0);
	cr_assert_eq(queue.effective, 5);
	rig_close(&rig);
}

static uint32_t queue_length(const struct rig *rig)
{
	struct listener_queue queue;
	cr_assert_eq(listener_read_queue(rig->port->listen_fd, &queue), 0);
	return queue.effective;
}

Test(port, the_gate_is_what_the_kernel_has)
{
	struct rig rig;
	rig_init(&rig, 1, 8);
	rig_open(&rig, &echo_service);
	cr_assert_eq(port_set_gate(rig.port, false), 0, "it is open");
	cr_assert_eq(queue_length(&rig), 64);
	listen_fault = (struct fault){.err = EADDRINUSE, .in = 1};
	cr_assert_eq(port_set_gate(rig.port, true), -EADDRINUSE);
	cr_assert_not(rig.port->gate_closed);
	cr_assert_eq(port_set_gate(rig.port, true), 1);
	cr_assert_eq(port_set_gate(rig.port, true), 0);
	cr_assert_eq(queue_length(&rig), 0);
	/* A reload brings its backlog with the opening. */
	rig.config.backlog = 9;
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
	cr_assert_eq(queue_length(&rig), 0);
	(void)poll(NULL, 0, 2);
	struct stats stats;
	port_collect(rig.port, 0, &stats);
	uint64_t gated = stats.gated_ns;
	cr_assert_geq(gated, CLOCK_MSEC);
	cr_assert_eq(port_set_gate(rig.port, false), 1);
	cr_assert_eq(queue_length(&rig), 9);
	port_collect(rig.port, 0, &stats);
	cr_assert_eq(stats.gates, 1);
	cr_assert_geq(stats.gated_ns, gated);
	cr_assert_leq(stats.gated_ns, clock_now() - rig.port->started);
	rig_close(&rig);
}

/* As somebody would who has a copy; ss -K, which needs root, is in tests/e2e. */
static void lose_listener(struct rig *rig)
{
	cr_assert_eq(shutdown(rig->port->listen_fd, SHUT_RDWR), 0);
}

static void assert_told_and_serving(struct rig *rig, uint32_t length, const char *what)
{
	cr_assert_eq(port_check_listener(rig->port), PORT_LISTENS_AGAIN, "%s", what);
	cr_assert_eq(port_check_listener(rig->port), 0, "%s: told twice", what);
	cr_assert_eq(queue_length(rig), length, "%s", what);
	int client = rig_serve(rig, 0);
	cr_assert_eq(send(client, "x", 1, MSG_NOSIGNAL), 1, "%s", what);
	RIG_UNTIL(rig, 0, rig_look(client) == 'd');
	(void)own_close(client);
	RIG_UNTIL(rig, 0, rig_worker(rig, 0)->conns.open == 0);
}

Test(port, whoever_calls_listen_finds_a_listener_that_was_destroyed)
{
	struct rig rig;
	rig_init(&rig, 1, 8);
	rig_open(&rig, &echo_service);
	cr_assert_eq(port_check_listener(rig.port), 0, "it was opened, not lost");
	/* Somebody let it listen again, without a care for its port, which the kernel had chosen. */
	lose_listener(&rig);
	cr_assert_eq(listen(rig.port->listen_fd, 3), 0);
	cr_assert_eq(listener_is_at(rig.port->listen_fd, &rig.port->address.addr), 0);
	assert_told_and_serving(&rig, 64, "it listened elsewhere");
	lose_listener(&rig);
	cr_assert_eq(port_set_gate(rig.port, true), 1);
	assert_told_and_serving(&rig, 0, "the gate closes");
	lose_listener(&rig);
	cr_assert_eq(port_set_gate(rig.port, false), 1);
	assert_told_and_serving(&rig, 64, "the gate opens");
	lose_listener(&rig);
	cr_assert_eq(port_reconfigure(rig.port, &rig.config, &rig.budget), 0);
	assert_told_and_serving(&rig, 64, "a reload");
	rig_close(&rig);
}

Test(port, is_drained_when_everybody_has_left_and_nobody_is_open)
{
	struct rig rig;
	rig_init(&rig, 2, 8);
	rig_open(&rig, &echo_service);
	int client = rig_serve(&rig, 0);
	struct conn *conn = rig_newest(&rig, 0);
	int other = rig_serve(&rig, 1);
	port_stop(rig.port, false);
	cr_assert_not(port_is_drained(rig.port), "both may still accept");
	rig_turn(&rig, 0);
	conn_close(conn, CLOSE_SERVICE);
	cr_assert_not(port_is_drained(rig.port), "worker 1 may still accept");
	rig_turn(&rig, 1);
	cr_assert_not(port_is_drained(rig.port), "one is open and one lingers");
	(void)own_close(other);
	RIG_UNTIL(&rig, 1, rig_worker(&rig, 1)->conns.open == 0);
	cr_assert_not(port_is_drained(rig.port), "one lingers");
	(void)own_close(client);
	RIG_UNTIL(&rig, 0, port_is_drained(rig.port));
	rig_close(&rig);
}

Test(port, nobody_waits_for_a_worker_that_has_stalled)
{
	struct rig rig;
	unsigned first = 99;
	rig_init(&rig, 2, 8);
	rig_open(&rig, &echo_service);
	cr_assert_eq(port_pulse(rig.port, &first), 0);
	cr_assert_eq(port_unanswered(rig.port), 2);
	rig_turn(&rig, 0);
	cr_assert_eq(port_unanswered(rig.port), 1);
	cr_assert_eq(port_pulse(rig.port, &first), 1);
	cr_assert_eq(first, 1);
	cr_assert_eq(atomic_load(&rig.port->alive), 1);
	port_stop(rig.port, false);
	rig_turn(&rig, 0);
	cr_assert(port_is_drained(rig.port));
	rig_close(&rig);
}
