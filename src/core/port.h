/*
 * port.h - the port as the daemon sees it: one listener, the workers behind it, and what
 * the main thread may ask of them. The only header of core that src/daemon needs beside
 * config, limits, listener, event and stats.
 *
 * Life: port_create → port_start → port_open → … → port_stop → port_finish →
 * port_destroy. All of these by the main thread.
 */
#ifndef CORE_PORT_H
#define CORE_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "core/event.h"
#include "core/limits.h"
#include "core/memory.h"
#include "core/service.h"
#include "core/stats.h"

struct port;

/* Asks the system for what port_create will take by the budget, and gives it back. Returns
 * 0 or -errno. */
int port_try(const struct budget *budget);

/* Takes over listen_fd (bound, not yet listening) on success, and a configuration, which
 * it copies. Call it early, while few descriptors are open: what it opens must have low
 * numbers. main_fd is an eventfd of the caller's that workers write to when main should
 * look: port_next_event and port_is_drained. Returns 0 or -errno. */
int port_create(struct port **ret, const struct config *config,
        const struct budget *budget, const struct service *service, int listen_fd,
        int main_fd);
struct port *port_destroy(struct port *port);

/* Starts the worker threads; returns when each has its loop and its table, or -errno,
 * with none left running. Nothing is accepted before port_open. */
int port_start(struct port *port);

/* listen(2) with the configured backlog, then the workers begin to accept. Returns 0 or
 * -errno. */
int port_open(struct port *port);

/* Hands every worker a new configuration (live keys). budget.max_connections as computed
 * for it. Calls listen(2) again, for another backlog or another net.core.somaxconn; a listener that was
 * destroyed listens again, and port_check_listener says so. Returns 0 or -errno of listen. */
int port_reconfigure(
        struct port *port, const struct config *config, const struct budget *budget);

/* portctl drain, drain --off. */
void port_set_draining(struct port *port, bool draining);

/* Stop. Newcomers are refused by the kernel from now on and the held client is shed; but where
 * `keep_queue` is true somebody else holds the listener too: it goes on listening, what is queued
 * waits for the next process, and the held client is served here, slot or not. */
void port_stop(struct port *port, bool keep_queue);
/* After port_stop: every worker that turns has left the listener for good, and no connection is
 * left, nor an answered one that is still being closed. */
bool port_is_drained(const struct port *port);
/* Closes what is left (reason `drained`), ends the threads and joins them. A worker that
 * does not turn within a second is left behind. Returns how many were left behind. */
unsigned port_finish(struct port *port);

/* The listener, still the port's. */
int port_listener(const struct port *port);

/* [shed] gate: while it is closed the kernel answers no SYN beyond one connection in the queue
 * (listen(fd, 0)); open, it has the configured backlog. Open connections are not touched. A listener that
 * was destroyed listens again. Returns 1 if that is a change, 0 if it was so, or -errno of listen; then,
 * and after a change, port_check_listener has perhaps something to say. */
int port_set_gate(struct port *port, bool closed);
/* Outcomes of port_check_listener beside 0. */
enum port_listening {
	PORT_LISTENS_AGAIN =
	        1,            /* it was destroyed, and does not suffer from it any more */
	PORT_ACCEPTS_NOTHING, /* it listens; accept4 fails for everybody who tries */
};

/* Does the port still work, by what the kernel says and not by what was done once? A listener that was
 * destroyed (ss -K, shutdown(2) of a copy) is made to listen again; if port_set_gate or port_reconfigure
 * has done that since the last call, the outcome is the same. To be called with every tick, and
 * when a worker has something to say. Returns 0, an enum port_listening, or -errno: it does not listen,
 * and cannot. Not between port_stop and the end, where it is not to listen. */
int port_check_listener(struct port *port);
/* What main has read of the machine's memory. While it is short every newcomer is shed (reason
 * memory). Returns whether that has changed. */
bool port_note_memory(struct port *port, const struct memory *memory);
/* The spell of being full that is on. Returns true and fills *ret if one is; port_next_event has, or
 * has had, its beginning then. */
bool port_spell(struct port *port, struct state_spell *ret);

/* A worker waits without a timer for what is further away than this: the pulse is to come first. */
#define PORT_FAR_NS (UINT64_C(5) * 1000000000)

/* The pulse: pokes every worker's wake-up; to be called well within every PORT_FAR_NS. A worker that
 * has not answered the last poke by the next call is stalled; a stalled worker that holds the head of
 * the queue loses that role. Returns the number of stalled workers; *ret_first is the id of the first
 * of them. */
unsigned port_pulse(struct port *port, unsigned *ret_first);
/* How many workers have not answered the last poke so far. */
unsigned port_unanswered(const struct port *port);

/* Next thing a worker had to say: 1 and *ret, or 0. *ret_dropped: records lost so far, in
 * all. */
int port_next_event(struct port *port, struct event *ret, uint64_t *ret_dropped);

/* «; most of them from NETWORK (N), NETWORK (N)»: the source networks that were shed most in this
 * spell of being full; "" if none was, or another has begun since. Returns buf. */
#define PORT_TOP_MAX 256
char *port_format_top_shed(struct port *port, const struct state_spell *spell,
        char buf[static PORT_TOP_MAX]);

/* Fills *ret; workers points to an array owned by port, overwritten by the next call.
 * extra_fds: descriptors of the main thread beyond those of port. */
void port_collect(struct port *port, unsigned extra_fds, struct stats *ret);

#endif
