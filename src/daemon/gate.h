/*
 * gate.h - [shed] gate: when a spell of being full has lasted for gate_after, SYNs stay unanswered
 * until it is over, so that clients, and whoever balances load between servers, see early that
 * nobody is at home here. Main thread only.
 */
#ifndef DAEMON_GATE_H
#define DAEMON_GATE_H

struct daemon;

/* Makes the timer. Returns 0 or -errno. */
int gate_open_timer(struct daemon *d);

/* Closes or opens the gate, as the spell and the configuration say now. Call it with every tick,
 * after a reload, and when a worker has news: whatever is missed, the next tick sees. */
void gate_check(struct daemon *d);

/* portd is about to stop: the gate is open, for who comes after it. */
void gate_lift(struct daemon *d);

#endif
