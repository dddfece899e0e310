/*
 * conn.h - the life of a connection, from the descriptor that accept returned to its
 * CLOSE.
 *
 *                 conn_open            conn_close(reason)
 *   FREE ───────────────────▶ OPEN ──────────────────────▶ CLOSED ──▶ FREE
 *    │                          │ conn_close(SERVICE)          ▲     (after the batch)
 *    │ conn_linger_shed         ▼                              │
 *    └─────────────────────▶ LINGER ───────────────────────────┘
 *                                   end of file, 64 KiB, 500 ms, or the place is needed
 *
 * OPEN holds a slot. LINGER holds none: it has been answered and counted, and is closed
 * as soon as its client surely has the answer. Closing is at once, freeing after the
 * batch of events, so a stale event never reaches a connection that uses the memory
 * again.
 *
 * A connection belongs to one worker for life; only that worker's thread touches it.
 */
#ifndef CORE_CONN_H
#define CORE_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "core/counters.h"
#include "core/ticket.h"
#include "net/loop.h"

struct worker;

enum conn_state {
	CONN_FREE,
	CONN_OPEN,
	CONN_LINGER,
	CONN_CLOSED,
	CONN_STATE_COUNT
};

/* What an idle connection costs beside the kernel's socket: at most 128 bytes. */
struct conn {
	struct watch watch;
	struct worker *worker;
	struct list timer; /* one of the set's lists, by state */
	uint64_t active;   /* when it last moved, ns; LINGER: when that began */
	uint8_t *
	        unsent; /* a buffer of the pool: what the client has not taken yet, or NULL */
	uint32_t unsent_len, unsent_pos;
	union {
		uint32_t acked;     /* OPEN: sock.h, at the last look (conn_has_moved) */
		uint32_t discarded; /* LINGER: bytes thrown away so far */
	};
	uint8_t state; /* enum conn_state; conn.c's only setter checks it */
	bool spoken;   /* the client has sent its first byte */
	bool priority_slot;
	bool would_shed;    /* a dry run let it in */
	bool untried;       /* ticket.h: to be settled by its first event */
	uint8_t phase;      /* keepalive.h: the rounds in which it may be probed first */
	uint8_t unanswered; /* probes, as far as the worker knows */
	uint32_t source;    /* its entry in the per-source books, or SOURCE_NONE */
	struct list life;   /* OPEN: the set's list by age */
	uint64_t opened;    /* ns */
	uint64_t bytes_in, bytes_out;
};

_Static_assert(sizeof(struct conn) <= 128, "an idle connection costs too much");

/* Connections come in chunks, which stay where they are until the set is destroyed. So a connection
 * has the same place for life, and all of them can be walked through from turn to turn (walk.h). */
#define CONN_CHUNK 256

struct conn_chunk {
	struct list link;
	struct conn conns[CONN_CHUNK];
};

/* A worker's connections. Each list is in order of time, so that the next deadline is its
 * first. */
struct conn_set {
	/* [1]: those in priority slots, which nobody evicts. */
	struct list silent[2];  /* OPEN, nothing received yet, by when they were opened */
	struct list talking[2]; /* OPEN, by when they last moved */
	struct list linger;     /* by when they began */
	struct list living;     /* OPEN, through conn.life, by when they were opened */
	struct list closed;     /* to be freed after the batch */
	struct list spare;      /* FREE */
	struct list chunks;     /* of memory, the newest last */
	/* Of those living: whose turn to be looked at it is (keepalive.h); NULL: a new round's. */
	struct list *next;
	uint8_t opened;                   /* so many were, modulo 256 */
	_Atomic uint32_t open, lingering; /* written by the worker only */
	_Atomic uint32_t would_shed;      /* of those open; by the worker only */
};

/* The one that was opened after this one, on the list of the living; NULL: it is the last. */
static inline struct list *conn_after(const struct conn_set *set, const struct list *link)
{
	return link->next == &set->living ? NULL : link->next;
}

/* How exactly the time of a connection's moves is known. Moving again within it does not move a
 * connection in its list, which saves the cache misses. */
#define CONN_PRECISION_NS (UINT64_C(1) * 1000000)

void conn_set_init(struct conn_set *set);
/* Frees the memory. Every connection must be closed. */
void conn_set_destroy(struct conn_set *set);

/* Makes a connection of fd and starts the service. The caller has taken a slot for this
 * worker. Takes over fd, the slot and the ticket, unless it fails: -ENOMEM (memory, or no place in
 * the epoll set). */
int conn_open(struct worker *worker, int fd, const struct ticket *ticket);

/* Closes an OPEN connection: counts the reason, gives back the slot, closes the
 * descriptor, for CLOSE_SERVICE after lingering. */
void conn_close(struct conn *conn, enum close_reason reason);

/* Something moved: `in` if it came from the client. Restarts the idle time. */
void conn_touch(struct conn *conn, bool in);

/* Bytes that the service got from the client, and that it sent: for the connection and for the
 * counters. */
void conn_count_in(struct conn *conn, uint64_t bytes);
void conn_count_out(struct conn *conn, uint64_t bytes);

/* The close reason that an errno of recv or send means. */
enum close_reason conn_reason_of(int err);

/* When the OPEN connection in an ordinary slot that has been idle longest last moved, ns;
 * CLOCK_INFINITY: there is none. */
uint64_t conn_idlest(const struct worker *worker);
/* Closes it (reason evicted) if it has been idle for at least `idle` ns. Returns true if it did. */
bool conn_evict(struct worker *worker, uint64_t idle);

/* In conn_timeout.c, as the next four: its client has done something that the worker, if only it had
 * looked, would have served: sent (its end, too), or taken what fills the send buffer. What the service does not
 * wait for does not count. One system call. */
bool conn_is_unheard(const struct conn *conn);

/* It is unheard, or its client's kernel has taken of what is being sent since the last look, or since it last
 * moved. While something is left to be taken, and nobody has looked yet, what has been taken ever counts:
 * then only the second look finds out who takes nothing. At most two system calls. */
bool conn_has_moved(struct conn *conn);

/* The next deadline among the worker's connections, ns; CLOCK_INFINITY: none. */
uint64_t conn_next_deadline(const struct worker *worker);
/* Closes what has outlived its time, by worker->now: nobody for silence who has moved. */
void conn_expire(struct worker *worker);
/* The turn that began at worker->now is over, and has lasted for CONN_PRECISION_NS at least: what moved,
 * or was opened, in it did so somewhere between then and `end`, and has its whole time from there. */
void conn_end_long_turn(struct worker *worker, uint64_t end);
/* Frees what was closed in this batch. */
void conn_free_closed(struct worker *worker);
/* Closes all that is left, with this reason, without lingering. */
void conn_close_all(struct worker *worker, enum close_reason reason);

#endif
