/*
 * status.h - snapshots of portd, and STATUS= for the service manager.
 *
 * STATUS= goes out at least every 10 s, and at once on a change of state, but at most
 * five times a second however the state flaps. While portd is full, or memory is short, it ends with the reason.
 * Main thread only.
 */
#ifndef DAEMON_STATUS_H
#define DAEMON_STATUS_H

#include "core/stats.h"

struct daemon;

/* Fills *ret, as port_collect, with the main thread's own descriptors counted. */
void status_collect(struct daemon *d, struct stats *ret);

/* The state that holds now. */
enum state status_state(struct daemon *d);

/* What bounds the slots that are in force: in a dry run descriptors or
 * memory do. */
void status_in_force(const struct daemon *d, struct budget *budget);

/* Why no newcomer gets in, if `cause` is why, and what becomes of those who wait: for the end
 * of a sentence. Returns buf. */
#define STATUS_WHY_MAX 256
const char *status_why(const struct daemon *d, const struct stats *s,
        enum state_cause cause, char buf[static STATUS_WHY_MAX]);

/* Makes the timer behind status_touch. Returns 0 or -errno. */
int status_open(struct daemon *d);

/* Something may have changed: sends STATUS= if the state did, now or as soon as the pace
 * allows. */
void status_touch(struct daemon *d);

/* Sends STATUS= now, whatever was sent when: after a reload, READY=1. */
void status_send(struct daemon *d);

/* With every tick: counts the rate, and sends STATUS= if it is due. */
void status_tick(struct daemon *d);

#endif
