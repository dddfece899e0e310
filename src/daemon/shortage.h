/*
 * shortage.h - the machine's memory is watched, so that newcomers are shed before the kernel kills
 * somebody for it. Main thread only.
 */
#ifndef DAEMON_SHORTAGE_H
#define DAEMON_SHORTAGE_H

struct daemon;

/* Begins to look, as often as it takes. Returns 0 or -errno. */
int shortage_open_timer(struct daemon *d);

#endif
