/*
 * lifecycle.h - the records of the journal that every portd has: open, stopping, stopped.
 */
#ifndef DAEMON_LIFECYCLE_H
#define DAEMON_LIFECYCLE_H

struct daemon;

/* The port is open, just now. */
void journal_tell_open(struct daemon *d);
/* portd has begun to stop, and port_stop has been called. */
void journal_tell_stopping(struct daemon *d);
/* The workers have ended, or were left behind; the port is still there. */
void journal_tell_stopped(struct daemon *d);

#endif
