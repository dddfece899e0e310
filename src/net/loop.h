/*
 * loop.h - one worker's epoll set: the watch that is embedded in whatever has a
 * descriptor, and the turn that dispatches a batch of events to them.
 *
 * A watch is dropped by setting fd to -1 (loop_forget); an event of the same batch that
 * still points to it is then stale and skipped. So whatever embeds a watch must stay
 * allocated until the batch is over: close at once, free after the batch.
 *
 * Not shared between threads.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_BATCH 64

struct watch {
	int fd; /* -1: none; stale events are skipped */
	uint32_t events;
	void (*ready)(struct watch *watch, uint32_t events);
};

struct loop {
	int epoll_fd;
	struct epoll_event batch[LOOP_BATCH];
};

/* Returns 0 or -errno. */
int loop_init(struct loop *loop);
void loop_destroy(struct loop *loop);

/* Adds watch->fd for these events. Returns 0 or -errno. */
int loop_add(struct loop *loop, struct watch *watch, uint32_t events);
/* Changes what is waited for; nothing if it is so already. Not for EPOLLEXCLUSIVE
 * (epoll_ctl(2)). Returns 0 or -errno. */
int loop_change(struct loop *loop, struct watch *watch, uint32_t events);
/* Takes watch->fd out of the set; the watch keeps its descriptor. */
void loop_remove(struct loop *loop, struct watch *watch);

/* Waits up to timeout_ms (-1: for ever). Returns the number of events, or -EINTR: there may be
 * some all the same. */
int loop_wait(struct loop *loop, int timeout_ms);
/* Calls ready() of each of the n events waited for. */
void loop_dispatch(struct loop *loop, int n);

#endif
