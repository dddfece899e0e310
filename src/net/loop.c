/*
 * loop.c - epoll, thinly. Level-triggered throughout but for the listener's holder
 * (hold.c).
 */
#include "net/loop.h"

#include <errno.h>

#include "base/own.h"

int loop_init(struct loop *loop)
{
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll_fd < 0 ? -errno : 0;
}

void loop_destroy(struct loop *loop)
{
	loop->epoll_fd = own_close(loop->epoll_fd);
}

static int loop_ctl(struct loop *loop, int op, struct watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};
	if (epoll_ctl(loop->epoll_fd, op, watch->fd, &event) < 0)
		return -errno;
	watch->events = events;
	return 0;
}

int loop_add(struct loop *loop, struct watch *watch, uint32_t events)
{
	return loop_ctl(loop, EPOLL_CTL_ADD, watch, events);
}

int loop_change(struct loop *loop, struct watch *watch, uint32_t events)
{
	if (watch->events == events)
		return 0;
	return loop_ctl(loop, EPOLL_CTL_MOD, watch, events);
}

void loop_remove(struct loop *loop, struct watch *watch)
{
	(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->events = 0;
}

int loop_wait(struct loop *loop, int timeout_ms)
{
	int n = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, timeout_ms);
	/* Nothing but EINTR can happen to a valid epoll set. */
	return n < 0 ? -errno : n;
}

void loop_dispatch(struct loop *loop, int n)
{
	for (int i = 0; i < n; i++) {
		struct watch *watch = loop->batch[i].data.ptr;
		if (watch->fd >= 0)
			watch->ready(watch, loop->batch[i].events);
	}
}
