/*
 * engine.h - one worker process: one epoll set, the schedule, and the connections by
 * descriptor number.
 */
#ifndef LOAD_ENGINE_H
#define LOAD_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "load/options.h"
#include "load/plan.h"
#include "load/shared.h"

enum client_state {
	CLIENT_NONE,
	CLIENT_CONNECTING,
	CLIENT_WAITING, /* connected; no outcome yet */
	CLIENT_ENDING,  /* it has its outcome; the server's end is waited for */
	CLIENT_HELD,    /* open for as long as it lasts */
	CLIENT_SAMPLED  /* held, and expected to echo */
};

enum client_flag {
	CLIENT_DECIDED = 1, /* its outcome is counted */
	CLIENT_ECHO = 2,    /* what came is the payload so far */
	CLIENT_MESSAGE = 4, /* what came is the expected message so far */
	CLIENT_RESET =
	        8, /* a reset was met, and its error is used up: what looks like an end is one */
	CLIENT_NEAR = 16 /* it has the target's own address */
};

/* One connection: all that portload remembers of it. */
struct client {
	uint64_t due;       /* ns of clock_now: when it should have started */
	uint32_t began_ms;  /* since the engine's start */
	uint32_t first_us;  /* since due: the first byte */
	uint32_t got, sent; /* bytes */
	int32_t prev, next; /* descriptors, in the order in which they began; -1: none */
	uint32_t source;    /* number within the process's own */
	uint8_t state;      /* enum client_state */
	uint8_t flags;      /* enum client_flag, or'ed */
};

_Static_assert(sizeof(struct client) <= 64, "a million of them must stay small");

struct engine {
	const struct options *options;
	struct plan_share share;
	struct order *order;
	struct shared *shared;
	int epoll_fd, order_fd, news_fd;

	struct client *clients; /* by descriptor number */
	int fds;                /* how many */
	uint16_t *source_used;  /* ports, by source */
	uint32_t source_next;
	int first,
	        last; /* of those with a time limit, in the order in which they began */
	uint8_t *buffer;

	uint32_t serial;  /* of the order at work */
	uint32_t word;    /* enum order_word */
	bool done;        /* said so */
	bool measured;    /* what starting has cost */
	uint64_t began;   /* ns of clock_now */
	uint64_t pending; /* connects under way */
	uint64_t waiting; /* without an outcome, pending ones included */
	uint64_t window;  /* how many may be pending */
	uint64_t scheduled;
	uint64_t pause_until; /* this machine was short of something */
	uint64_t
	        blocked_at; /* when a connection that was due last had to wait, and why */
	enum late blocked_by;
	uint64_t last_connect; /* hold: the last that was decided */
	uint64_t order_taken, order_cpu,
	        order_waiting; /* ns: CLOCK_MONOTONIC; used before */
	int schedstat_fd;      /* where the latter stands; -1: nowhere */

	int *sample; /* descriptors still to be asked; NULL before and after */
	size_t sample_count;
	int sample_fd; /* the one that was asked; -1: none */
	uint64_t sample_asked;
};

/* One worker's whole life: returns the exit code of its process. order_fd and news_fd are
 * eventfds: the parent writes the one after an order, the worker the other when it is done. */
int engine_run(struct engine *engine);

/* For client.c: */

/* Puts a descriptor at the end of those with a time limit, and takes it off. */
void engine_list_append(struct engine *engine, int fd);
void engine_list_remove(struct engine *engine, int fd);
/* The next source with a port left. Returns its number within the process's own, or -1. */
int64_t engine_take_source(struct engine *engine);
/* Counts an error of this machine. */
void engine_count_error(struct engine *engine, int error);

#endif
