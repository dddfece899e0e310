/*
 * keepalive.h - who is still there: TCP's keepalive probes, asked for one by one.
 *
 * The kernel's own timers for this are too coarse where connections are many: from 16 s on they fire in
 * bundles of two seconds (kernel/time/timer.c), and of a bundle that stays on the same machine only
 * net.core.netdev_max_backlog packets (1,000 a CPU) get through; the others are lost, again with every
 * retry, and live clients are closed. So the kernel's timers are set to the longest there is
 * (sock_set_keepalive), and each worker asks for the probes of its silent connections itself
 * (sock_probe), a few at a time. Whether one was answered the kernel says (sock_get_silence), and
 * after SOCK_PROBES in a row that were not it ends the connection by itself: the service finds
 * ETIMEDOUT. While a worker stands still nobody is probed, and so nobody is closed. Where something is on
 * its way to a client the kernel does not probe, but sends that again; it would give up only after
 * net.ipv4.tcp_retries2. Then the worker looks in each round, too, and closes the connection itself.
 *
 *   period  T of [timeouts] keepalive, or more where KEEPALIVE_RATE would not be enough for so many
 *           connections. It is walked through in KEEPALIVE_ROUNDS rounds: in each a worker looks
 *           at all of its connections.
 *   first   In every KEEPALIVE_EVERY-th round, another one for each, a connection is probed if it has
 *           been silent for half as many rounds.
 *   then    In every round as long as the last probe, or what was sent again, is unanswered.
 *
 * So a dead peer is closed 14 to 22 rounds after its end: 0.7 to 1.1 periods.
 */
#ifndef CORE_KEEPALIVE_H
#define CORE_KEEPALIVE_H

#include <stdint.h>

struct port;
struct worker;

#define KEEPALIVE_ROUNDS 20U
#define KEEPALIVE_EVERY  8U
/* So often the kernel must have sent again before the worker closes. */
#define KEEPALIVE_RESENDS 3U
/* First probes a second, of all workers together. */
#define KEEPALIVE_RATE 5000U

/* A worker's own part. */
struct keepalive {
	uint64_t at;      /* when to go on, ns; CLOCK_INFINITY: off */
	unsigned granted; /* probes that may go out then */
	uint8_t round;
};

/* All workers' together: when the next probe may be asked for, ns. */
struct keepalive_pace {
	_Atomic uint64_t next;
};

/* The period for so many open connections, ns. keepalive_ns: T; 0: off, and so is what is returned. */
uint64_t keepalive_period(uint64_t keepalive_ns, uint64_t connections);
/* The period in force. Any thread. */
uint64_t keepalive_period_of(const struct port *port);

void keepalive_init(struct worker *w);
/* Asks for the probes that are due at w->now. */
void keepalive_turn(struct worker *w);
/* When some are, ns; CLOCK_INFINITY: never. */
uint64_t keepalive_deadline(const struct worker *w);

#endif
