/*
 * wakeup.c - see wakeup.h.
 *
 * Invariant: of two threads that wake a worker at the same time one writes, and the worker takes the mark off
 * before it looks at anything else.
 */
#include "core/wakeup.h"

#include <sys/eventfd.h>

#include "core/worker.h"

static void write_eventfd(int fd)
{
	/* Fails only when the counter is full, and then the reader has been woken long
	 * since. */
	(void)eventfd_write(fd, 1);
}

void worker_kick(struct worker *w)
{
	if (!atomic_exchange(&w->kicked, true))
		write_eventfd(w->wake.fd);
}

void worker_wake(struct worker *w)
{
	atomic_store(&w->kicked, true);
	write_eventfd(w->wake.fd);
}

void worker_tell_main(struct worker *w)
{
	write_eventfd(w->port->main_fd);
}

void worker_tell(struct worker *w, const struct event *event)
{
	struct event copy = *event;
	copy.worker = w->id;
	(void)event_push(&w->events, &copy);
	worker_tell_main(w);
}
