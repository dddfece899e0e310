/*
 * rig.h - a port whose workers have no thread: the test turns them by hand, on a clock of
 * its own, with real clients on loopback. rig_close checks that the books balance.
 */
#ifndef TESTS_UNIT_RIG_H
#define TESTS_UNIT_RIG_H

#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/worker.h"
#include "net/sock.h"

/* Not inlined: assertions need stack, most of all with sanitizers. */
#define RIG_FN static __attribute__((noinline, unused))

#define RIG_DEADLINE (5 * CLOCK_SEC)

struct rig {
	struct port *port;
	struct config config;
	struct budget budget;
	int main_fd;
	uint16_t tcp_port;
	uint64_t now; /* every worker's next turn happens at this time */
};

/* Turns worker `id` of rig until `condition` holds; fails the test after 5 s. */
#define RIG_UNTIL(rig, id, condition) \
	do { \
		uint64_t rig_end_ = clock_now() + RIG_DEADLINE; \
		while (!(condition)) { \
			cr_assert_lt( \
			        clock_now(), rig_end_, "never came true: " #condition); \
			(void)poll(NULL, 0, 1); \
			rig_turn(rig, id); \
		} \
	} while (0)

/* A configuration and a budget to change before rig_open. */
RIG_FN void rig_init(struct rig *rig, unsigned workers, uint64_t slots)
{
	*rig = (struct rig){
	        .config = {.backlog = 64,
	                .workers = workers,
	                .queue_timeout = CLOCK_SEC,
	                .evict_idle = CLOCK_INFINITY,
	                .start_at = 100,
	                .low_watermark = 95,
	                .prefix4 = 32,
	                .prefix6 = 64},
	        .budget = {.workers = workers,
	                .tables = 1,
	                .fds_per_connection = 1,
	                .fds = 1000,
	                .table_limit = 1000,
	                .max_connections = slots,
	                .fds_slots = slots,
	                .most = 1000,
	                .table_slots = slots,
	                .linger = 2,
	                .buffers = 16},
	        .main_fd = -1,
	};
}

RIG_FN struct worker *rig_worker(struct rig *rig, unsigned id)
{
	return &rig->port->workers[id];
}

/* A worker's turn after it has waited for n events. */
RIG_FN void rig_work(struct rig *rig, unsigned id, int n)
{
	struct worker *w = rig_worker(rig, id);
	w->now = rig->now;
	worker_turn(w, n);
}

RIG_FN void rig_turn(struct rig *rig, unsigned id)
{
	rig_work(rig, id, loop_wait(&rig_worker(rig, id)->loop, 0));
}

/* Runs all workers for ns of the rig's clock, each turn when it has an event or its
 * deadline has come. Returns the number of turns; gives up after most of them. */
RIG_FN unsigned rig_run(struct rig *rig, uint64_t ns, unsigned most)
{
	uint64_t end = rig->now + ns;
	unsigned turns = 0;
	while (turns < most) {
		uint64_t next = end;
		unsigned before = turns;
		for (unsigned i = 0; i < rig->port->n_workers; i++) {
			struct worker *w = rig_worker(rig, i);
			int n = loop_wait(&w->loop, 0);
			if (n > 0 || worker_next_deadline(w) <= rig->now) {
				rig_work(rig, i, n);
				turns++;
			} else if (worker_next_deadline(w) < next) {
				next = worker_next_deadline(w);
			}
		}
		if (turns > before)
			continue;
		if (rig->now == end)
			break;
		rig->now = next;
	}
	return turns;
}

/* The port is open, and every worker has seen that. */
RIG_FN void rig_open(struct rig *rig, const struct service *service)
{
	struct addr any = {.family = AF_INET, .bytes = {127, 0, 0, 1}}, bound;
	bool fallback;
	int listen_fd = -1;
	rig->now = clock_now();
	rig->main_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_geq(rig->main_fd, 0);
	cr_assert_eq(listener_open(&any, 0, &listen_fd, &bound, &fallback), 0);
	rig->tcp_port = bound.port;
	cr_assert_eq(port_create(&rig->port, &rig->config, &rig->budget, service,
	                     listen_fd, rig->main_fd),
	        0);
	for (unsigned i = 0; i < rig->port->n_workers; i++) {
		struct worker *w = rig_worker(rig, i);
		cr_assert_eq(kept_refill(&w->kept), 0);
		cr_assert_eq(loop_init(&w->loop), 0);
		cr_assert_eq(loop_add(&w->loop, &w->wake, EPOLLIN | EPOLLET), 0);
	}
	cr_assert_eq(port_open(rig->port), 0);
	for (unsigned i = 0; i < rig->port->n_workers; i++)
		rig_turn(rig, i);
}

RIG_FN struct counts rig_counts(struct rig *rig)
{
	struct stats stats;
	port_collect(rig->port, 0, &stats);
	return stats.total;
}

RIG_FN void rig_assert_books(struct rig *rig)
{
	struct stats s;
	port_collect(rig->port, 0, &s);
	cr_assert_eq(s.total.counter[COUNTER_ACCEPTED],
	        s.held + s.connections + counts_total_shed(&s.total) +
	                counts_total_closed(&s.total),
	        "the books do not balance: accepted %lu, held %lu, open %lu, shed %lu, "
	        "closed %lu",
	        (unsigned long)s.total.counter[COUNTER_ACCEPTED], (unsigned long)s.held,
	        (unsigned long)s.connections, (unsigned long)counts_total_shed(&s.total),
	        (unsigned long)counts_total_closed(&s.total));
}

RIG_FN void rig_close(struct rig *rig)
{
	rig_assert_books(rig);
	for (unsigned i = 0; i < rig->port->n_workers; i++) {
		struct worker *w = rig_worker(rig, i);
		hold_quit(w);
		conn_close_all(w, CLOSE_DRAINED);
		conn_free_closed(w);
	}
	rig_assert_books(rig);
	cr_assert_eq(rig->port->admit.used, 0, "%u slots are lost",
	        (unsigned)rig->port->admit.used);
	for (unsigned i = 0; i < rig->port->n_workers; i++) {
		loop_destroy(&rig_worker(rig, i)->loop);
		kept_close(&rig_worker(rig, i)->kept);
	}
	rig->port = port_destroy(rig->port);
	rig->main_fd = own_close(rig->main_fd);
}

RIG_FN uint32_t rig_depth(const struct rig *rig)
{
	struct listener_queue queue;
	cr_assert_eq(listener_read_queue(rig->port->listen_fd, &queue), 0);
	return queue.depth;
}

/* A client from 127.0.0.`last`, who is in the backlog queue when this returns. */
RIG_FN int rig_connect_from(const struct rig *rig, uint8_t last)
{
	uint32_t before = rig_depth(rig);
	struct sockaddr_in sa = {.sin_family = AF_INET,
	        .sin_port = htons(rig->tcp_port),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in own = {.sin_family = AF_INET,
	        .sin_addr.s_addr = htonl((INADDR_LOOPBACK & ~0xffU) | last)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(fd, 0);
	if (own.sin_addr.s_addr != sa.sin_addr.s_addr)
		cr_assert_eq(bind(fd, (const struct sockaddr *)&own, sizeof(own)), 0);
	cr_assert_eq(connect(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
	uint64_t end = clock_now() + RIG_DEADLINE;
	while (rig_depth(rig) <= before)
		cr_assert_lt(clock_now(), end, "the client never reached the queue");
	return fd;
}

RIG_FN int rig_connect(const struct rig *rig)
{
	return rig_connect_from(rig, 1);
}

/* What the client finds: 'd' data (thrown away), 'e' the end, 'r' a reset, '-' nothing
 * yet. */
RIG_FN char rig_look(int client)
{
	char buf[4096];
	ssize_t n = recv(client, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		return 'd';
	if (n == 0)
		return 'e';
	return errno == EAGAIN ? '-' : 'r';
}

/* Waits for the client to find something, and says what. */
RIG_FN char rig_await(int client)
{
	struct pollfd p = {.fd = client, .events = POLLIN};
	cr_assert_eq(poll(&p, 1, 5000), 1, "the client got no answer");
	return rig_look(client);
}

/* The open connection that came last to worker `id`, silent ones only. */
RIG_FN struct conn *rig_newest(struct rig *rig, unsigned id)
{
	struct list *silent = &rig_worker(rig, id)->conns.silent[0];
	cr_assert_not(list_is_empty(silent), "nobody is open and silent");
	return container_of(silent->prev, struct conn, timer);
}

/* A client that worker `id` serves when this returns. */
RIG_FN int rig_serve(struct rig *rig, unsigned id)
{
	struct worker *w = rig_worker(rig, id);
	uint32_t before = w->conns.open;
	int fd = rig_connect(rig);
	RIG_UNTIL(rig, id, w->conns.open > before);
	return fd;
}

#endif
