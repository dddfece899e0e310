/*
 * hold_pass.c - a held client on its way to the worker that has its slot. At most one at a time:
 *
 *   NONE ─▶ CLAIMED ─▶ OFFERED ─▶ TAKEN ─▶ NONE
 *            │ holder              └ receiver, or the holder, who takes it back
 *            └▶ NONE, if it could not be sent
 *
 * Every step is a compare-and-swap: who makes it owns the plain fields until the next one. With the step
 * goes the number of the offer, so that nobody who comes late, a holder that was dismissed or a receiver
 * that was slow, mistakes a later offer for the one he means. Between
 * private tables the descriptor travels by SCM_RIGHTS through one pair that all tables share; in a
 * shared table its number is enough.
 */
#include "core/hold.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/own.h"
#include "core/accept_call.h"
#include "core/admission.h"
#include "core/judge.h"
#include "core/shed.h"
#include "core/waiter.h"
#include "core/wakeup.h"
#include "core/worker.h"
#include "net/fdpass.h"

int hold_init(struct hold *hold, bool private_tables)
{
	*hold = (struct hold){.holder = HOLD_NOBODY,
	        .evicting = HOLD_NOBODY,
	        .pass_fd = -1,
	        .pass_pair = {-1, -1}};
	if (private_tables &&
	        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
	                hold->pass_pair) < 0)
		return -errno;
	return 0;
}

void hold_destroy(struct hold *hold)
{
	hold->pass_pair[0] = own_close(hold->pass_pair[0]);
	hold->pass_pair[1] = own_close(hold->pass_pair[1]);
}

static uint64_t pass_of(uint64_t offer, enum hold_pass state)
{
	return offer << HOLD_PASS_BITS | (uint64_t)state;
}

static bool take(struct hold *hold, uint64_t offer)
{
	uint64_t expected = pass_of(offer, HOLD_PASS_OFFERED);
	return atomic_compare_exchange_strong(
	        &hold->pass, &expected, pass_of(offer, HOLD_PASS_TAKEN));
}

/* The way is free again. */
static void end(struct hold *hold, uint64_t offer)
{
	atomic_store(&hold->pass, pass_of(offer, HOLD_PASS_NONE));
}

bool hold_pass_is_open(const struct hold *hold, uint64_t offer)
{
	return atomic_load(&hold->pass) == pass_of(offer, HOLD_PASS_OFFERED);
}

/* A client whose descriptor was lost on its way: the kernel has closed it. */
static void count_lost(struct worker *w, const struct ticket *ticket)
{
	shed_note(w, SHED_FDS, &ticket->peer);
	judge_undo(w, ticket);
}

/* Who has set pass to TAKEN fetches the client. -1: lost. */
static int fetch_passed(struct worker *w)
{
	struct hold *hold = &w->port->hold;
	if (!w->port->private_tables)
		return hold->pass_fd;
	/* The kept descriptor's place is free in any case, and this table is this
	 * thread's alone. */
	kept_close(&w->kept);
	int fd = fdpass_receive(hold->pass_pair[1]);
	if (kept_refill(&w->kept) < 0)
		worker_set_short(w);
	return fd;
}

int hold_pass_offer(struct worker *w, int fd, unsigned owner, uint64_t waited,
        const struct ticket *ticket, uint64_t *ret_offer)
{
	struct hold *hold = &w->port->hold;
	uint64_t last = atomic_load(&hold->pass) >> HOLD_PASS_BITS, offer = last + 1;
	uint64_t expected = pass_of(last, HOLD_PASS_NONE);
	if (!atomic_compare_exchange_strong(
	            &hold->pass, &expected, pass_of(offer, HOLD_PASS_CLAIMED)))
		return -EBUSY;
	if (w->port->private_tables) {
		int r = fdpass_send(hold->pass_pair[0], fd);
		if (r < 0) {
			end(hold, offer);
			return r;
		}
		(void)own_close(fd);
		(void)kept_refill(&w->kept);
		fd = -1;
	}
	hold->pass_fd = fd;
	hold->pass_waited = waited;
	hold->pass_ticket = *ticket;
	atomic_store(&hold->pass_to, owner);
	*ret_offer = offer;
	atomic_store(&hold->pass, pass_of(offer, HOLD_PASS_OFFERED));
	worker_kick(&w->port->workers[owner]);
	return 0;
}

int hold_pass_take_back(
        struct worker *w, int *ret_fd, uint64_t *ret_waited, struct ticket *ret_ticket)
{
	struct hold *hold = &w->port->hold;
	if (!take(hold, w->held.offer))
		return 1;
	*ret_fd = fetch_passed(w);
	*ret_waited = hold->pass_waited;
	*ret_ticket = hold->pass_ticket;
	admit_give(&w->port->admit, atomic_load(&hold->pass_to));
	atomic_fetch_sub(&hold->count, 1);
	if (*ret_fd < 0)
		count_lost(w, ret_ticket);
	end(hold, w->held.offer);
	return 0;
}

void hold_receive(struct worker *w)
{
	struct hold *hold = &w->port->hold;
	uint64_t offer = atomic_load(&hold->pass) >> HOLD_PASS_BITS;
	if (!hold_pass_is_open(hold, offer) || atomic_load(&hold->pass_to) != w->id ||
	        !take(hold, offer))
		return;
	int fd = fetch_passed(w);
	uint64_t waited = hold->pass_waited;
	struct ticket ticket = hold->pass_ticket;
	/* Before anything that takes time. */
	end(hold, offer);
	hold_notify(w);
	if (fd >= 0) {
		worker_admit(w, fd, waited, &ticket);
	} else {
		count_lost(w, &ticket);
		worker_give_slot(w, false);
	}
	/* Last: who asks whether all are gone must see it as held, or as open. */
	atomic_fetch_sub(&hold->count, 1);
}
