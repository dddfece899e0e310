/*
 * hold.h - the head of the backlog queue, accepted while portd is full, waiting for a
 * slot or for its time to run out. At most one in the whole process.
 *
 * While no slot is to be had, one worker, the holder, watches the listener; the others
 * have left it. So clients are served and shed oldest first, and a held client is never
 * shed while a slot is free anywhere. A client whose slot is in another worker's hands
 * (private tables), or that another worker should have for balance, is passed on: its
 * descriptor through SCM_RIGHTS between private tables, its number in a shared one. At
 * most one is on its way; a receiver that does not turn within HOLD_PASS_NS loses it
 * again to the holder.
 */
#ifndef CORE_HOLD_H
#define CORE_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/ticket.h"
#include "net/loop.h"

struct worker;
struct port;

#define HOLD_NOBODY  (-1)
#define HOLD_PASS_NS (UINT64_C(50) * 1000000)
/* How long nobody is shed for a slot that is only in passing. */
#define HOLD_PASSING_NS (UINT64_C(5) * 1000000)
/* Who was stopped with its peers minds that for so long. */
#define HOLD_LATE_NS (UINT64_C(50) * 1000000)

enum hold_pass {
	HOLD_PASS_NONE,
	HOLD_PASS_CLAIMED,
	HOLD_PASS_OFFERED,
	HOLD_PASS_TAKEN
};
#define HOLD_PASS_BITS 2U

/* Shared by all workers. */
struct hold {
	_Atomic int holder; /* a worker's id, or HOLD_NOBODY */
	/* enum hold_pass, and above HOLD_PASS_BITS the number of the offer: what one holder has offered is
	 * nothing to another. */
	_Atomic uint64_t pass;
	/* written by who has claimed it, read by who has taken it */
	_Atomic unsigned pass_to;
	uint64_t pass_waited; /* ns in the queue and held */
	struct ticket pass_ticket;
	int pass_fd;      /* shared table: the number */
	int pass_pair[2]; /* private tables: SCM_RIGHTS; -1 when tables are shared */
	_Atomic int
	        evicting; /* a worker was asked to evict, and has not answered; or HOLD_NOBODY */
	_Atomic uint64_t evict_until; /* how long it has for that, ns */
	_Atomic uint32_t count; /* clients held or on their way: a term of the books */
};

/* A worker's own part. */
struct held {
	struct watch watch;  /* of the held client; fd -1: none */
	uint64_t since;      /* when it was accepted, ns */
	uint64_t age;        /* what it had waited by then, ns */
	uint64_t pass_until; /* 0: none on its way; else when the holder takes it back */
	uint64_t offer;      /* the number of that offer … */
	unsigned pass_to;    /* … and whom it was made to */
	struct ticket ticket;
	bool evict_tried; /* for this client */
	/* The worker's last turn that was late, ns; 0: none that matters. */
	uint64_t late_at;
	/* Its peers have time until then to see what has happened, ns: for all who wait. */
	uint64_t peers_until;
	unsigned peers_kicks;   /* so many times they were told to */
	bool peers_asked;       /* for this client */
	uint64_t passing_since; /* a slot has been in passing, ns; 0: none is */
	bool dead;              /* reset while held */
	bool again;             /* step once more before the loop waits */
	uint64_t wake_at;       /* when to step without being woken, ns */
};

/* private: makes the pair. Returns 0 or -errno. */
int hold_init(struct hold *hold, bool private_tables);
void hold_destroy(struct hold *hold);
void hold_init_worker(struct held *held);

/* This worker can take no slot: it tries to become the holder. Returns true if it is. */
bool hold_become(struct worker *w);
static inline bool hold_is_mine(const struct hold *hold, unsigned id)
{
	return atomic_load(&hold->holder) == (int)id;
}
/* Something may have changed for the holder: takes the next steps. Holder only. */
void hold_step(struct worker *w);
static inline enum hold_pass hold_pass_state(const struct hold *hold)
{
	return (enum hold_pass)(atomic_load(&hold->pass) & ((1U << HOLD_PASS_BITS) - 1));
}
/* Offers fd, the held client, to `owner`, who has a slot for it. Takes over fd on success. Returns 0
 * with the number of the offer, or -errno: -EBUSY if another client is still on its way. Holder only. */
int hold_pass_offer(struct worker *w, int fd, unsigned owner, uint64_t waited,
        const struct ticket *ticket, uint64_t *ret_offer);
/* Has nobody taken this offer yet? */
bool hold_pass_is_open(const struct hold *hold, uint64_t offer);
/* Takes back what w has offered in w->held.offer, if nobody has taken it, and gives back the receiver's
 * slot. Returns 0, with *ret_fd -1 if the descriptor was lost (it is counted); 1 if there was nothing to
 * take back. */
int hold_pass_take_back(
        struct worker *w, int *ret_fd, uint64_t *ret_waited, struct ticket *ret_ticket);
/* Takes over a client that was passed to w, if one was. */
void hold_receive(struct worker *w);
/* When the holder wants to step without being woken, ns. */
uint64_t hold_next_deadline(const struct worker *w);
/* w gives up the role; its held client is shed for draining, or served, where the port has stopped
 * but keeps its queue. */
void hold_quit(struct worker *w);
/* w has a client held or on its way, but lost the role while it had stalled: settles
 * that. */
void hold_abandoned(struct worker *w);

#endif
