/*
 * listening.h - is the port what it should be: does the kernel listen, can workers accept? A listener
 * that somebody destroyed listens again at once; where that fails, or accept4 fails for everybody, the
 * port is down, and portd ends with exit status 1 unless that is over soon: the service manager starts
 * it again. Main thread only.
 */
#ifndef DAEMON_LISTENING_H
#define DAEMON_LISTENING_H

#include <stdbool.h>

struct daemon;

/* Looks, and tells of what has changed: when a worker has something to say, and before portd says how
 * it is. */
void listening_check(struct daemon *d);

/* The same with every tick. Returns whether it has been down for too long: portd is to end. */
bool listening_tick(struct daemon *d);

#endif
