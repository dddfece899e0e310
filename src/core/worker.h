/*
 * worker.h - ACCEPT: a worker is a thread with an epoll loop of its own, perhaps a
 * descriptor table of its own, and the connections it has accepted. For core, and for
 * services, which use its loop, scratch buffer and counters; the daemon sees port.h.
 */
#ifndef CORE_WORKER_H
#define CORE_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/admit.h"
#include "core/bucket.h"
#include "core/burst.h"
#include "core/config.h"
#include "core/conn.h"
#include "core/counters.h"
#include "core/event.h"
#include "core/hold.h"
#include "core/keepalive.h"
#include "core/listener.h"
#include "core/pool.h"
#include "core/port.h"
#include "core/queue_age.h"
#include "core/record.h"
#include "core/service.h"
#include "core/source.h"
#include "core/state.h"
#include "core/walk.h"
#include "net/fdtable.h"
#include "net/loop.h"

/* One in so many accepted connections is asked for its time in the queue while not full.
 */
#define WORKER_SAMPLE 16U
/* Fewer open connections than this are never too many for one worker. */
#define WORKER_SHARE_MIN 16U
/* What a service may read at once: one buffer a worker. */
#define WORKER_SCRATCH POOL_BUFFER

enum port_phase {
	PORT_CLOSED,
	PORT_OPEN,
	PORT_DRAINING,
	PORT_STOPPED,
	PORT_ENDED
};

/* Why a worker is out of the listener's epoll set; it is in while none of them holds. */
enum worker_block {
	WORKER_BLOCK_CLOSED = 1, /* not open yet, or stopped */
	WORKER_BLOCK_FULL = 2,   /* it can take no slot */
	WORKER_BLOCK_SHARE = 4,  /* it holds more than its share */
	WORKER_BLOCK_PAUSE = 8   /* accept4 failed in a way that would spin */
};

/* How the listener is in this worker's epoll set. */
enum worker_listen {
	WORKER_LISTEN_OFF,
	WORKER_LISTEN_SHARED, /* with all others: level, EPOLLEXCLUSIVE */
	WORKER_LISTEN_SOLE,   /* the holder, nobody held: level */
	WORKER_LISTEN_EDGE /* the holder, somebody held: each newcomer once, to watch the
	                      depth */
};

struct worker {
	struct port *port;
	unsigned id;
	pthread_t thread;
	struct loop loop;
	uint64_t now; /* of this turn, ns */
	const struct config *config;
	bool unjudged;    /* judge_is_idle(config) */
	uint8_t *scratch; /* WORKER_SCRATCH bytes */
	uint8_t *spare; /* a buffer of the port's, for the next one to need it; or NULL */

	struct watch wake; /* an eventfd, the same number in every table */
	struct watch listener;
	enum worker_listen listen;
	unsigned blocked;        /* enum worker_block, or'ed */
	unsigned batch;          /* how many to accept at the next wake-up */
	unsigned full_batches;   /* so many in a row were there */
	unsigned patience;       /* and so many have to be before the batch doubles */
	unsigned failures;       /* of accept4 in a row, each of one connection only */
	uint32_t failures_depth; /* of the queue, after the last of them */
	bool queue_stands;       /* none of them has taken anybody off it */
	unsigned sample;
	uint64_t arrived; /* accepted, as told to port->burst */
	/* Of all who were opened before, epoll has told what there was to tell, ns. */
	uint64_t shown;
	uint32_t pressure;     /* what is owed to [shed] start_at, in parts of 2^32 */
	bool gave;             /* something came free in this batch, here or elsewhere */
	bool eager;            /* above its share, but nobody else took the work */
	bool drained_told;     /* told main that nothing is left */
	enum port_phase phase; /* as last seen */
	uint64_t paused_until; /* while WORKER_BLOCK_PAUSE */
	uint64_t last_pause;   /* of a row of pauses, ns */
	uint64_t share_seen;   /* what all had accepted at the last look */
	uint64_t share_until;  /* while WORKER_BLOCK_SHARE: the next look */
	uint64_t share_pause;  /* and how long after the last one */
	uint64_t retry_at;     /* while short of descriptors: the next look */
	uint64_t retry_after;  /* and the pause after that one */
	unsigned next_walk;    /* whose turn is the next one */

	struct kept kept;
	struct held held;
	struct conn_set conns;
	struct keepalive keepalive;
	struct record record; /* whom it has shed lately */
	struct event_ring events;

	/* What others write or read. */
	_Alignas(64) _Atomic bool kicked; /* a wake-up is under way */
	_Atomic bool look;                /* a peer could not accept: look at the queue */
	_Atomic bool evict; /* the holder asks for the slot of what is idle longest */
	_Atomic uint64_t idlest; /* conn_idlest, while [shed] evict_idle is set */
	_Atomic bool freed;      /* a slot or a descriptor came free at a peer's */
	_Atomic uint32_t pulse;  /* the last poke answered */
	_Atomic bool stalled;
	_Atomic bool paused; /* WORKER_BLOCK_PAUSE */
	_Atomic bool left;   /* the listener, for good: it accepts nothing any more */
	/* accept4 fails, and takes nobody off the queue: the last time, ns; 0: it works. */
	_Atomic uint64_t failed_at;
	_Atomic bool ended; /* the thread is about to return */
	_Atomic(const struct config *) config_seen;
	_Atomic(struct walk *) walks[WALK_PLACES]; /* those that wait for a piece */
	struct counters counters;
};

struct port {
	int listen_fd;
	int main_fd;
	const struct service *service;
	struct budget budget;
	struct addr_named address;
	bool private_tables;
	unsigned n_workers;
	struct worker *workers;
	struct stats_worker *stats_workers;
	uint64_t started; /* ns */

	struct admit admit;
	struct state_machine state;
	/* Beginnings and ends of spells, from all workers in the order in which they happened: the
	 * lock is held from one to its record. */
	pthread_mutex_t spell_lock;
	struct event_ring spell_events;
	struct hold hold;
	struct queue_age queue_age;
	struct burst burst;
	struct keepalive_pace keepalive;
	struct pool buffers;
	struct bucket_shared rate; /* of [budget] rate */
	struct source_books *sources;
	_Atomic unsigned linger; /* answered connections that may linger, a worker */
	_Atomic uint32_t peak;   /* open connections */
	_Atomic uint32_t
	        depth_peak; /* of the backlog queue, as far as it was looked at */
	_Atomic uint32_t pulse;
	_Atomic int phase;        /* enum port_phase */
	_Atomic bool keeps_queue; /* stopped, but the listener goes on listening */
	_Atomic unsigned alive;   /* workers that answer */
	_Atomic(const struct config *) config;

	_Atomic bool memory_short;  /* newcomers are shed for it */
	_Atomic uint32_t asked_max; /* slots as asked for, also in a dry run */

	/* Under spell_lock: what port_top_shed counts. */
	bool top_sums;       /* several spells count as one */
	uint32_t top_spells; /* so many do, by now … */
	uint64_t top_since;  /* … and the first of them began then, ns */

	/* The main thread's. */
	struct memory memory; /* as last read */
	bool gate_closed;
	uint64_t gates;      /* how often the gate was closed */
	uint64_t gated_ns;   /* and for how long, without the time that is on */
	uint64_t gate_since; /* ns */
	/* The listener was destroyed and listens again, since the last look. */
	bool lost;
	bool stuck;                      /* nobody can accept (port_listen.c) */
	uint64_t stuck_at;               /* all had accepted so many … */
	uint64_t stuck_from;             /* … the last time that it was not so, ns */
	unsigned walks;                  /* places taken, a bit each */
	struct config_version *versions; /* the newest first */
	unsigned next_ring;
	unsigned n_started;
	pthread_mutex_t start_lock;
	pthread_cond_t start_changed;
	unsigned start_ready; /* under start_lock, as the next two */
	int start_error;
	unsigned ended;
	unsigned behind; /* threads that did not end */
};

/* How many more connections than `share`, the emptiest peer's, are a worker's share too: 3 %
 * keeps the fullest within 1.1 times the emptiest, and not every accept from leaving and rejoining. */
static inline uint32_t worker_share_limit(uint32_t share)
{
	uint32_t more = share / 32 > 2 ? share / 32 : 2;
	return share > UINT32_MAX - more ? UINT32_MAX : share + more;
}

static inline enum port_phase port_phase(const struct port *port)
{
	return (enum port_phase)atomic_load(&port->phase);
}

/* Prepares a worker, before its thread runs. wake_fd is given over. Returns 0 or -errno.
 */
int worker_init(struct worker *w, struct port *port, unsigned id, int wake_fd);
void worker_destroy(struct worker *w);
/* Starts its thread. Returns 0 or -errno. */
int worker_start(struct worker *worker);
/* One turn, at w->now, with the n events that its loop has waited for. A negative n: it is late, and what
 * has happened until w->now it has yet to see. */
void worker_turn(struct worker *w, int n);

/* accept.c. */

/* The listener is readable, or a peer asked for a look. */
void worker_accept(struct worker *w);
/* What may have become possible since the last turn: rejoin after being full, short,
 * paused. */
void worker_rejoin(struct worker *w);
uint64_t worker_next_deadline(const struct worker *w);

/* In port_collect.c: the books of a port with this budget. Returns 0 or -errno. */
int port_create_books(const struct budget *budget, struct source_books **ret);
/* In port_listen.c: the kernel listens with this configuration's backlog, or with 0 while the gate is
 * closed. Returns 0 or -errno. */
int port_listen(struct port *port, const struct config *config);
/* Can nobody connect, although the port should be open? By what the kernel says of the listener. Main
 * thread only. */
bool port_is_down(const struct port *port, const struct listener_queue *queue);
/* In queue_look.c: the queue was seen this deep. */
void port_note_depth(struct port *port, uint32_t depth);
/* Reads the queue, and notes how deep it is and that its clients were in it by now: no earlier than
 * `turn`. Any thread. Returns 0 or -errno. */
int port_look_at_queue(struct port *port, uint64_t turn, struct listener_queue *ret);
/* How long fd, just accepted, has been in the queue by w->now at least, ns: as listener_read_age, or
 * longer by what port_look_at_queue has seen. Returns as listener_read_age. */
int worker_read_age(struct worker *w, int fd, uint64_t *ret_ns);

#endif
