/*
 * stop.h - how portd ends: the drain, its deadline, and the end of the loop.
 */
#ifndef DAEMON_STOP_H
#define DAEMON_STOP_H

struct daemon;

/* TERM, INT: stop accepting, drain, end; the second call ends at once. */
void daemon_stop(struct daemon *d);

/* As daemon_stop, because portd cannot go on: with exit status 1, and so that the next one can start
 * soon, after DAEMON_FAIL_DRAIN_NS at the latest. */
void daemon_fail(struct daemon *d);

/* Ends the loop if portd is stopping and nothing is left to wait for. */
void daemon_end_if_drained(struct daemon *d);

#endif
