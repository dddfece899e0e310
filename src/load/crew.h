/*
 * crew.h - the worker processes, from the parent's side: forked, given orders, waited for.
 */
#ifndef LOAD_CREW_H
#define LOAD_CREW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "load/options.h"
#include "load/plan.h"
#include "load/shared.h"

struct crew {
	const struct options *options;
	const struct plan *plan;
	struct order *order;
	struct shared *blocks; /* one for each process */
	pid_t *pids;           /* 0: it has ended */
	size_t mapped;         /* bytes at order */
	int order_fd, news_fd, signal_fd;
	uint64_t lost; /* processes that ended before they were told to */
	int lost_status;
	bool interrupted; /* SIGINT or SIGTERM has come */
};

/* An empty crew, for crew_destroy. */
#define CREW_EMPTY ((struct crew){.order_fd = -1, .news_fd = -1, .signal_fd = -1})

/* What ended a crew_wait. */
enum crew_event {
	CREW_DONE,        /* every process that is left has carried the order out */
	CREW_DEADLINE,    /* the time is up */
	CREW_INTERRUPTED, /* SIGINT or SIGTERM, now or before */
	CREW_INPUT_ENDED, /* the other end of standard input has closed */
	CREW_LOST         /* no process is left */
};

/* Forks the plan's processes. options and plan stay the caller's and must outlive the crew.
 * Raises RLIMIT_NOFILE of this process to the plan's, which the children inherit; they die with
 * this process. Signals are blocked from here on. Returns 0 or -errno, with nothing left
 * running. */
int crew_start(struct crew *crew, const struct options *options, const struct plan *plan);

/* Gives an order to all. For ORDER_RUN: start, until and rate as in shared.h. */
void crew_order(struct crew *crew, enum order_word word, uint64_t start, uint64_t until,
        uint64_t rate);

/* What crew_wait may return for, beside the end of all. */
struct crew_wait {
	bool for_done;      /* CREW_DONE */
	bool for_input_end; /* CREW_INPUT_ENDED, if standard input is a pipe or a socket */
	bool to_the_end;    /* not CREW_INTERRUPTED: what is waited for comes soon */
	uint64_t deadline;  /* ns of clock_now, or CLOCK_INFINITY */
	/* Called once a second, if not NULL. */
	void (*tick)(struct crew *crew, void *arg);
	void *arg;
};
enum crew_event crew_wait(struct crew *crew, const struct crew_wait *wait);

/* Adds up the counters of all: at any time. The histograms and what else only a worker at rest
 * has said: after CREW_DONE. ret is overwritten. */
void crew_sum_counters(const struct crew *crew, struct figures *ret);
void crew_sum(const struct crew *crew, struct figures *ret);

/* Empties every block, before an order to run. Only after CREW_DONE. */
void crew_clear(struct crew *crew);

/* Tells all to end, waits until they have closed their connections, and frees everything. */
void crew_destroy(struct crew *crew);

#endif
