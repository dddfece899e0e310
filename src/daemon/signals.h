/*
 * signals.h - what signals mean to portd.
 *
 * TERM and INT stop it. What comes within SIGNALS_SAME_USEC of the first is the same wish: timeout(1)
 * sends its signal twice, a service manager may signal a process and its group. A later one ends it
 * at once. HUP reloads, at most once in SIGNALS_PACE_USEC; but one that says that the terminal has
 * hung up stops portd, unless HUP was ignored at start (nohup(1)). A stray USR1, as some log rotation
 * scripts send it, must not close the port, and a terminal with `stty tostop` not stop it: USR1, USR2,
 * TTIN and TTOU are ignored. CHLD is, too: as the first process of a container portd gets orphans,
 * whom the kernel then buries itself.
 *
 * Main thread only.
 */
#ifndef DAEMON_SIGNALS_H
#define DAEMON_SIGNALS_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#define SIGNALS_SAME_USEC 100000U
#define SIGNALS_PACE_USEC 100000U

struct daemon;

struct signals {
	bool has_terminal; /* had one at start, and HUP was not ignored */
	bool settled;      /* the next TERM or INT is another wish */
	sd_event_source *settle;
	sd_event_source *pace;
};

/* The first thing in main: from here on no signal is lost, and none kills. They wait for
 * signals_open. */
void signals_hold(void);

/* For what only checks or prints: TERM, INT and HUP end it. */
void signals_release(void);

/* A signal to stop waits for signals_open. */
bool signals_stop_is_pending(void);

/* What may be found at start alone: the terminal, and children from before exec. */
void signals_look(struct signals *s);

/* Handles the signals in d's event loop. Returns 0 or -errno. */
int signals_open(struct daemon *d);

void signals_close(struct signals *s);

#endif
