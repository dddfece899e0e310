/*
 * rebind.h - the control socket's file, made again when somebody has removed or replaced it.
 */
#ifndef DAEMON_REBIND_H
#define DAEMON_REBIND_H

struct daemon;

/* With every tick: looks whether the file that portd made is there. A socket in its place that nobody
 * listens on is replaced; whatever else is there is left alone, and told of once. */
void rebind_check(struct daemon *d);

#endif
