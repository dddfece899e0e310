/*
 * test_facts_epoll.c - how epoll wakes, and whom it does not.
 */
#include "facts.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int make_epoll(void)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

static void add(int epoll, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};
	cr_assert_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
}

/* The events that come within ms, or 0. */
static uint32_t wait_for(int epoll, int ms)
{
	struct epoll_event event = {0};
	return epoll_wait(epoll, &event, 1, ms) == 1 ? event.events : 0;
}

Test(epoll, a_never_read_eventfd_reports_each_write_with_epollet)
{
	static const char fact[] =
	        "EPOLLET on an eventfd that is never read reports each write, once";
	int epoll = make_epoll(), fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	add(epoll, fd, EPOLLIN | EPOLLET);
	FACT(wait_for(epoll, 0) == 0, fact);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(eventfd_write(fd, 1), 0);
		FACT(wait_for(epoll, 2000) == EPOLLIN, fact);
		FACT(wait_for(epoll, 0) == 0, fact);
	}
	/* Two writes before a look are one event. */
	cr_assert_eq(eventfd_write(fd, 1), 0);
	cr_assert_eq(eventfd_write(fd, 1), 0);
	FACT(wait_for(epoll, 2000) == EPOLLIN, fact);
	FACT(wait_for(epoll, 0) == 0, fact);
	(void)close(fd);
	(void)close(epoll);
}

Test(epoll, a_watch_for_nothing_still_reports_a_reset)
{
	static const char fact[] =
	        "a watch with events = 0 reports EPOLLHUP and EPOLLERR of a reset, and "
	        "nothing of data or a FIN";
	struct fact_listener l = fact_listen(4);
	struct linger now = {.l_onoff = 1};
	char byte;
	int client = fact_connect(&l), fd = fact_accept(&l), epoll = make_epoll();
	add(epoll, fd, 0);
	cr_assert_eq(send(client, "x", 1, 0), 1);
	cr_assert_eq(shutdown(client, SHUT_WR), 0);
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	cr_assert_eq(poll(&p, 1, 2000), 1);
	FACT(wait_for(epoll, 0) == 0, fact);
	FACT(recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1, fact);
	cr_assert_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(client);
	uint32_t events = wait_for(epoll, 2000);
	FACT((events & EPOLLHUP) && (events & EPOLLERR), fact);
	(void)close(fd);
	(void)close(epoll);
	(void)close(l.fd);
}

Test(epoll, level_triggered_at_emfile_is_ready_again_and_again)
{
	static const char level[] = "level-triggered epoll and EMFILE spin";
	static const char edge[] = "edge-triggered epoll and EMFILE stall: silent also "
	                           "after descriptors are free";
	struct fact_listener l = fact_listen(4);
	struct fact_full full;
	int with_level = make_epoll(), with_edge = make_epoll();
	add(with_level, l.fd, EPOLLIN);
	add(with_edge, l.fd, EPOLLIN | EPOLLET);
	int client = fact_connect(&l);
	fact_fill(&full);
	FACT(wait_for(with_edge, 2000) == EPOLLIN, edge);
	for (int i = 0; i < 10; i++) {
		FACT(wait_for(with_level, 0) == EPOLLIN, level);
		FACT(fact_accept(&l) < 0 && errno == EMFILE, level);
	}
	fact_free(&full);
	FACT(wait_for(with_edge, 0) == 0, edge);
	int other = fact_connect(&l);
	FACT(wait_for(with_edge, 2000) == EPOLLIN,
	        "edge-triggered epoll reports each newcomer of a queue that is not "
	        "empty");
	(void)close(client);
	(void)close(other);
	(void)close(with_level);
	(void)close(with_edge);
	(void)close(l.fd);
}

Test(epoll, adding_a_listener_again_looks_at_its_queue)
{
	static const char fact[] = "EPOLL_CTL_ADD of a listener with a queue is an event";
	static const uint32_t ways[] = {
	        EPOLLIN, EPOLLIN | EPOLLEXCLUSIVE, EPOLLIN | EPOLLET};
	struct fact_listener l = fact_listen(4);
	int client = fact_connect(&l), epoll = make_epoll();
	for (int i = 0; i < 3; i++) {
		add(epoll, l.fd, ways[i]);
		FACT(wait_for(epoll, 0) == EPOLLIN, fact);
		cr_assert_eq(epoll_ctl(epoll, EPOLL_CTL_DEL, l.fd, NULL), 0);
	}
	(void)close(client);
	(void)close(epoll);
	(void)close(l.fd);
}

Test(epoll, exclusive_takes_no_mod)
{
	struct fact_listener l = fact_listen(4);
	int epoll = make_epoll();
	struct epoll_event event = {.events = EPOLLIN, .data.fd = l.fd};
	add(epoll, l.fd, EPOLLIN | EPOLLEXCLUSIVE);
	FACT(epoll_ctl(epoll, EPOLL_CTL_MOD, l.fd, &event) < 0 && errno == EINVAL,
	        "EPOLLEXCLUSIVE is for EPOLL_CTL_ADD only");
	(void)close(epoll);
	(void)close(l.fd);
}

/* A thread that blocks in epoll_wait, as a worker does, and does not accept. */
struct waiter {
	pthread_t thread;
	int epoll;
	_Atomic int tid;
	_Atomic bool woken;
};

static void *wait_once(void *arg)
{
	struct waiter *w = arg;
	w->tid = gettid();
	struct epoll_event event;
	/* The end of the test is an event too: the second descriptor in the set. */
	if (epoll_wait(w->epoll, &event, 1, -1) == 1)
		w->woken = true;
	return NULL;
}

/* True if the thread sleeps, which it does nowhere but in epoll_wait. */
static bool is_asleep(pid_t tid)
{
	char path[64], stat[256] = {0}, *name_end;
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, stat, sizeof(stat) - 1);
	(void)close(fd);
	name_end = n > 0 ? strrchr(stat, ')') : NULL;
	return name_end && name_end[1] == ' ' && name_end[2] == 'S';
}

static void start_waiter(struct waiter *w, const struct fact_listener *l, int end_fd)
{
	w->epoll = make_epoll();
	add(w->epoll, l->fd, EPOLLIN | EPOLLEXCLUSIVE);
	add(w->epoll, end_fd, EPOLLIN);
	cr_assert_eq(pthread_create(&w->thread, NULL, wait_once, w), 0);
	uint64_t end = fact_now_ms() + 2000;
	while (w->tid == 0 || !is_asleep(w->tid)) {
		cr_assert_lt(fact_now_ms(), end, "the waiter does not wait");
		(void)poll(NULL, 0, 1);
	}
}

Test(epoll, exclusive_strands_a_client_whose_worker_does_not_accept)
{
	static const char fact[] = "EPOLLEXCLUSIVE wakes one waiter only; while that one "
	                           "does not accept, the "
	                           "client waits although the other is idle";
	struct fact_listener l = fact_listen(4);
	static struct waiter waiter[2];
	int end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (int i = 0; i < 2; i++)
		start_waiter(&waiter[i], &l, end_fd);
	int client = fact_connect(&l);
	FACT_SOON(waiter[0].woken || waiter[1].woken, fact);
	/* 200 ms, in which a wake-up of the other would have come a thousand times over. */
	uint64_t end = fact_now_ms() + 200;
	while (fact_now_ms() < end && !(waiter[0].woken && waiter[1].woken))
		(void)poll(NULL, 0, 10);
	FACT(!(waiter[0].woken && waiter[1].woken), fact);
	FACT(fact_depth(&l) == 1, fact);
	/* The next newcomer wakes the other one: so it was not lost, only not woken. */
	int next = fact_connect(&l);
	FACT_SOON(waiter[0].woken && waiter[1].woken, fact);
	cr_assert_eq(eventfd_write(end_fd, 1), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(pthread_join(waiter[i].thread, NULL), 0);
		(void)close(waiter[i].epoll);
	}
	(void)close(client);
	(void)close(next);
	(void)close(end_fd);
	(void)close(l.fd);
}
