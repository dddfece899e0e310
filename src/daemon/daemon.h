/*
 * daemon.h - the running daemon: what the main thread knows, and its event loop.
 *
 * The main thread accepts nothing and serves nobody. It starts the port, listens to
 * signals and the control socket, feels the workers' pulse, and tells people and the
 * service manager what goes on. Everything in src/daemon runs in it, and only there:
 * libsystemd and the name services keep descriptor numbers in mind, and in a worker's own
 * table such a number can be a client's.
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/list.h"
#include "core/config.h"
#include "core/limits.h"
#include "core/port.h"
#include "core/service.h"
#include "daemon/control.h"
#include "daemon/history.h"
#include "daemon/inherit.h"
#include "daemon/notify.h"
#include "daemon/reserve.h"
#include "daemon/signals.h"
#include "daemon/socket_file.h"
#include "daemon/tell.h"

/* A stall takes two pulses to see, and must be reported within 2 s. */
#define DAEMON_TICK_NS (900 * CLOCK_MSEC)
/* Asked for again with every tick while draining; it leaves room for port_finish too. */
#define DAEMON_EXTEND_USEC     "10000000"
#define DAEMON_RELOAD_TEXT_MAX 200
#define DAEMON_WHY_MAX         192
/* The longest drain of a portd that cannot go on. */
#define DAEMON_FAIL_DRAIN_NS (5 * CLOCK_SEC)
#define DAEMON_SERVICES_MAX  8U

/* Spells of being full that have ended, summed up for one line of the log. */
struct spells {
	uint64_t n, lasted, shed, depth_peak;
	uint64_t told; /* when the line before went out, as tell_row.told */
};

struct daemon {
	/* What was asked, and what follows from it. */
	const char *service_names[DAEMON_SERVICES_MAX + 1];
	struct config_source source;
	struct config config; /* in force */
	struct machine machine;
	struct budget budget; /* in force */
	const struct service *service;
	gid_t control_gid;

	/* Handed over at start, until inherit_listener: so many descriptors from 3 on, or -errno. */
	int handed;
	char **handed_names;
	uint64_t handed_to;    /* for this process, which is another one; 0: for none */
	bool handed_to_nobody; /* it was not said for which */

	/* The port. */
	struct addr_named address; /* bound */
	int listen_fd;             /* until port_create has taken it */
	enum listener_origin origin;
	bool kept_elsewhere; /* the service manager holds the listener too */
	int stale_fd; /* a listener that was kept for an address that is no longer asked for */
	bool forget_stale; /* the manager is still to be told */
	int main_fd;
	struct port *port;
	bool port_started;

	/* The main thread's own. */
	struct reserve reserve;
	struct notify notify;
	struct socket_file socket_file;
	uint64_t rebind_at; /* not before, ns: its file, if it is gone (rebind.c) */
	unsigned rebind_failed;
	bool rebind_blocked; /* something else has its name, and that was told */
	struct control *control;
	struct list listings; /* of connections, under way: conns.c */
	struct signals signals;
	struct tell tell;
	struct history history;
	uint64_t nets_at; /* not before, ns: networks of a sum (events.c) */
	sd_event *event;
	sd_event_source *tick;
	sd_event_source *status_timer;
	sd_event_source *drain_timer;
	sd_event_source *gate_timer;
	sd_event_source *memory_timer;

	/* Where it stands. All times ns, 0: never. */
	uint64_t started;
	bool draining; /* portctl drain */
	bool stopping;
	bool failed; /* it stops because it cannot go on */
	uint64_t drain_deadline;
	uint64_t pulsed;
	uint64_t pulse_looked; /* for answers, last */
	bool pulse_excused;    /* the last look came late, and judged nobody */
	unsigned stalled;      /* workers, by the last pulse */
	unsigned first_stalled;
	uint64_t down_since; /* listening.h */
	char down_why[DAEMON_WHY_MAX];
	uint64_t events_lost;
	struct spells spells; /* ended since the last line about them */
	uint64_t status_sent;
	enum state status_state; /* as last sent */
	uint64_t rate;           /* accepted a second */
	uint64_t rate_at;
	uint64_t rate_accepted;
	char reload_error[DAEMON_RELOAD_TEXT_MAX]; /* of a reload that failed; "": none */
	char rejected_for[DAEMON_RELOAD_TEXT_MAX]; /* the same, of the last that did */
	uint64_t reloaded_at;                      /* when the last reload was over */
};

/* Empty: nothing is open, everything may be given to daemon_close. */
void daemon_init(struct daemon *d);

/* Makes the event loop: signals (to be blocked already), the tick, workers' news.
 * Returns 0 or -errno. */
int daemon_open_loop(struct daemon *d);

/* Runs until portd has stopped: READY=1 first. Returns 0, or -errno if the loop itself
 * failed. */
int daemon_run(struct daemon *d);

/* Ends the workers, if there are any, and gives everything back. */
void daemon_close(struct daemon *d);

#endif
