/*
 * pulse.h - is every worker alive, and what do they have to say: their pulse, the
 * watchdog, and the events they hand over, as log lines. Main thread only.
 */
#ifndef DAEMON_PULSE_H
#define DAEMON_PULSE_H

#include <stdint.h>

struct daemon;

/* The tick that the pulse needs, ns: DAEMON_TICK_NS, or a quarter of the watchdog's
 * period. */
uint64_t pulse_tick(const struct daemon *d);

/* Pokes the workers for the first time. */
void pulse_start(struct daemon *d);

/* With every tick. If every worker has answered the last poke, WATCHDOG=1 goes out and
 * the next poke with it; one that has not answered at the first
 * tick after half of DAEMON_TICK_NS is stalled, and
 * told of. */
void pulse_check(struct daemon *d);

/* Logs what workers have reported since. */
void pulse_tell_events(struct daemon *d);

#endif
