/*
 * admission.c - see admission.h.
 *
 * Invariant: whoever is not served gives back all that he was charged.
 */
#include "core/admission.h"

#include "base/clock.h"
#include "core/judge.h"
#include "core/probe.h"
#include "core/shed.h"
#include "core/waiter.h"
#include "core/worker.h"
#include "net/sock.h"

/* It was judged good, and is not served after all. */
static void shed_late(
        struct worker *w, int fd, enum shed_reason reason, const struct ticket *ticket)
{
	shed(w, fd, reason, &ticket->peer);
	judge_undo(w, ticket);
	worker_give_slot(w, ticket->priority_slot);
}

/* A dead connection hangs up in the first wait after it was opened. That is early enough where until
 * then it is in nobody's way: its service waits for an event, nothing is booked for it, it has neither
 * the last slot nor a part in the peak. */
static bool tells_itself(const struct worker *w)
{
	const struct port *port = w->port;
	return w->unjudged && !port->service->open && port->service->events != 0 &&
	       atomic_load_explicit(&port->admit.used, memory_order_relaxed) <=
	               atomic_load_explicit(&port->peak, memory_order_relaxed) &&
	       admit_free(&port->admit) > 0;
}

void worker_admit(struct worker *w, int fd, uint64_t waited_ns, struct ticket *ticket)
{
	bool dead = false, measured = waited_ns != CLOCK_INFINITY;
	if (!measured &&
	        (state_is_spell(&w->port->state) || ++w->sample % WORKER_SAMPLE == 0))
		dead = worker_read_age(w, fd, &waited_ns) == 1;
	else if (measured || !tells_itself(w))
		dead = sock_is_dead(fd);
	else
		ticket->untried = true;
	if (dead) {
		shed_late(w, fd, SHED_ABORTED, ticket);
		return;
	}
	if (waited_ns != CLOCK_INFINITY)
		counters_add_wait(&w->counters, waited_ns);
	PROBE_ADMIT(w->id, fd, waited_ns);
	if (conn_open(w, fd, ticket) < 0)
		shed_late(w, fd, SHED_MEMORY, ticket);
}
