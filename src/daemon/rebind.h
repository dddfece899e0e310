/*
 * rebind.h - the control socket's file, made again when somebody has removed it.
 *
 * Reads next: requests.h.
 */
#ifndef DAEMON_REBIND_H
#define DAEMON_REBIND_H

struct daemon;

/* With every tick: looks whether the file is there. One that was replaced is somebody else's. */
void rebind_check(struct daemon *d);

#endif
