/*
 * test_loop.c - a batch of events: who is called, with what, and that a watch that was
 * closed earlier in the same batch is not.
 */
#include <errno.h>
#include <criterion/criterion.h>

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/own.h"
#include "net/loop.h"

struct peer {
	struct watch watch;
	struct peer *other; /* to be closed when this one is ready; may be NULL */
	int calls;
	uint32_t events;
};

static void peer_ready(struct watch *watch, uint32_t events)
{
	struct peer *p = container_of(watch, struct peer, watch);
	p->calls++;
	p->events = events;
	if (p->other)
		p->other->watch.fd = own_close(p->other->watch.fd);
}

/* An eventfd that is readable. */
static void add_ready(struct loop *loop, struct peer *p, struct peer *other)
{
	*p = (struct peer){.watch = {.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK),
	                           .ready = peer_ready},
	        .other = other};
	cr_assert_geq(p->watch.fd, 0);
	cr_assert_eq(loop_add(loop, &p->watch, EPOLLIN), 0);
}

static void drop(struct peer *p)
{
	p->watch.fd = own_close(p->watch.fd);
}

Test(loop, calls_each_watch_with_its_events)
{
	struct loop loop;
	struct peer a, b;
	cr_assert_eq(loop_init(&loop), 0);
	cr_assert_eq(loop_wait(&loop, 0), 0);
	add_ready(&loop, &a, NULL);
	add_ready(&loop, &b, NULL);
	cr_assert_eq(loop_change(&loop, &b.watch, EPOLLIN | EPOLLOUT), 0);

	loop_dispatch(&loop, loop_wait(&loop, 0));
	cr_assert_eq(a.calls, 1);
	cr_assert_eq(a.events, EPOLLIN);
	cr_assert_eq(b.calls, 1);
	cr_assert_eq(b.events, EPOLLIN | EPOLLOUT);
	drop(&a);
	drop(&b);
	loop_destroy(&loop);
	cr_assert_eq(loop.epoll_fd, -1);
	loop_destroy(&loop);
}

Test(loop, says_what_the_kernel_refuses)
{
	struct loop loop;
	struct watch bad = {.fd = 9999, .ready = peer_ready};
	struct peer a;
	cr_assert_eq(loop_init(&loop), 0);
	cr_assert_eq(loop_add(&loop, &bad, EPOLLIN), -EBADF);
	cr_assert_eq(bad.events, 0, "a watch that is not in the set waits for nothing");
	add_ready(&loop, &a, NULL);
	cr_assert_eq(loop_add(&loop, &a.watch, EPOLLIN), -EEXIST);
	/* The same events are no call at all: here it would fail. */
	int fd = a.watch.fd;
	a.watch.fd = 9999;
	cr_assert_eq(loop_change(&loop, &a.watch, EPOLLIN), 0);
	cr_assert_eq(loop_change(&loop, &a.watch, EPOLLOUT), -EBADF);
	cr_assert_eq(a.watch.events, EPOLLIN);
	a.watch.fd = fd;
	drop(&a);
	loop_destroy(&loop);
}

Test(loop, a_removed_watch_is_not_called_and_may_come_back)
{
	struct loop loop;
	struct peer a;
	cr_assert_eq(loop_init(&loop), 0);
	add_ready(&loop, &a, NULL);
	int fd = a.watch.fd;
	loop_remove(&loop, &a.watch);
	cr_assert_eq(a.watch.fd, fd, "the watch keeps its descriptor");
	cr_assert_eq(loop_wait(&loop, 0), 0);
	cr_assert_eq(loop_add(&loop, &a.watch, EPOLLIN), 0);
	cr_assert_eq(loop_wait(&loop, 0), 1);
	drop(&a);
	loop_destroy(&loop);
}

Test(loop, the_stale_event_of_a_watch_closed_in_the_same_batch_is_skipped)
{
	struct loop loop;
	struct peer a, b;
	cr_assert_eq(loop_init(&loop), 0);
	add_ready(&loop, &a, &b);
	add_ready(&loop, &b, NULL);

	int n = loop_wait(&loop, 0);
	cr_assert_eq(n, 2, "both are in one batch");
	cr_assert_eq(loop.batch[0].data.ptr, &a.watch, "in the order of being ready");
	loop_dispatch(&loop, n);
	cr_assert_eq(a.calls, 1);
	cr_assert_eq(b.calls, 0, "b was closed before its event's turn");
	cr_assert_eq(loop_wait(&loop, 0), 1, "only a is left");
	drop(&a);
	loop_destroy(&loop);
}

Test(loop, of_two_that_close_each_other_in_one_batch_one_is_called_once)
{
	struct loop loop;
	struct peer a, b;
	cr_assert_eq(loop_init(&loop), 0);
	add_ready(&loop, &a, &b);
	add_ready(&loop, &b, &a);
	int n = loop_wait(&loop, 0);
	cr_assert_eq(n, 2);
	loop_dispatch(&loop, n);
	cr_assert_eq(a.calls + b.calls, 1);
	drop(&a);
	drop(&b);
	loop_destroy(&loop);
}

Test(loop, more_than_a_batch_comes_in_turns_and_nobody_is_forgotten)
{
	enum {
		PEERS = LOOP_BATCH + 10
	};
	static struct peer peer[PEERS];
	struct loop loop;
	cr_assert_eq(loop_init(&loop), 0);
	for (int i = 0; i < PEERS; i++)
		add_ready(&loop, &peer[i], NULL);
	int n = loop_wait(&loop, 0);
	cr_assert_eq(n, LOOP_BATCH);
	loop_dispatch(&loop, n);
	loop_dispatch(&loop, loop_wait(&loop, 0));
	for (int i = 0; i < PEERS; i++) {
		cr_assert_geq(peer[i].calls, 1, "watch %d", i);
		drop(&peer[i]);
	}
	loop_destroy(&loop);
}

static void ignore(int number)
{
	(void)number;
}

Test(loop, an_interrupted_wait_says_so)
{
	struct loop loop;
	struct sigaction action = {.sa_handler = ignore};
	struct itimerval soon = {.it_interval.tv_usec = 20000, .it_value.tv_usec = 20000};
	cr_assert_eq(loop_init(&loop), 0);
	cr_assert_eq(sigaction(SIGALRM, &action, NULL), 0);
	cr_assert_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
	/* Without the signal this would wait for ever. */
	cr_assert_eq(loop_wait(&loop, -1), -EINTR);
	cr_assert_eq(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL), 0);
	loop_destroy(&loop);
}
