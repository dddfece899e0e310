/*
 * listener.h - LISTEN: the one passive socket, its backlog queue, and what the kernel
 * says of them.
 */
#ifndef CORE_LISTENER_H
#define CORE_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "net/addr.h"

/* Makes the listener: SO_REUSEADDR, non-blocking, close-on-exec, keepalive as asked
 * (accepted sockets inherit it), bound, not yet listening. [::] takes IPv4 too, and falls
 * back to 0.0.0.0 where IPv6 is off: *ret_fallback is then true. keepalive_ns: 0: off; else
 * the probes are asked for one by one (keepalive.h). *ret_address is the address bound, with the real port where 0 was asked.
 * Returns 0 or -errno. */
int listener_open(const struct addr *address, uint64_t keepalive_ns, int *ret_fd,
        struct addr *ret_address, bool *ret_fallback);

/* Why a socket cannot be portd's listener. */
enum listener_refusal {
	LISTENER_NOT_TCP = 1,  /* no socket, or not TCP over IPv4 or IPv6 */
	LISTENER_NOT_LISTENING /* a connection, or not bound */
};

/* Makes a socket that somebody else has bound and put into the listening state into portd's
 * listener: non-blocking, close-on-exec, keepalive as for listener_open (0: switched off). One that is
 * bound but does not listen, as after `ss -K`, is made to listen, and *ret_revived is true. fd stays the
 * caller's. Returns 0 with the address bound, an enum listener_refusal, or -errno. */
int listener_adopt(
        int fd, uint64_t keepalive_ns, struct addr *ret_address, bool *ret_revived);

/* Does fd listen on this port still? One that was destroyed does not, and one whose port the kernel had
 * chosen is on another after a listen(2) that takes no care. Returns 1, 0, or -errno. */
int listener_is_at(int fd, const struct addr *address);

/* listen(2): fd, which is bound to `address`, listens with this backlog, also where somebody has taken
 * it out of the listening state: by shutdown(2) of a copy, or by `ss -K`, after which listen(2) alone
 * would give connections that are shut down already. Returns 0 or -errno: -EADDRINUSE if somebody else
 * has the address by now. */
int listener_listen(int fd, const struct addr *address, uint64_t backlog);

/* True if a listener that is bound to `bound` is what listener_open(asked) would give now: the same
 * address; any port where 0 is asked; 0.0.0.0 for [::] where IPv6 is off. */
bool listener_fits(const struct addr *asked, const struct addr *bound);

/* Stops listening in every process that holds the socket, so that its port can be bound anew: what
 * is queued is reset. */
void listener_retire(int fd);

/* The queue now, from the kernel, for this listener only (no privilege is needed). */
struct listener_queue {
	uint32_t depth;     /* TCP_INFO tcpi_unacked on a listener; ss: Recv-Q */
	uint32_t effective; /* tcpi_sacked; ss: Send-Q */
	bool listening;     /* false: there is no queue, and both are 0 */
};

/* Returns 0 or -errno. */
int listener_read_queue(int fd, struct listener_queue *ret);
/* SO_MEMINFO[SK_MEMINFO_DROPS]. Returns 0 or -errno. */
int listener_read_drops(int fd, uint32_t *ret);

/* How long an accepted connection has waited, ns: the greater of TCP_INFO's
 * last_data_recv and last_ack_recv, exact for clients that are silent or sent at once, a
 * lower bound for others, which a client can keep at 0 (queue_age.h has another). Returns 0; 1 if the connection is dead already (TCP state
 * CLOSE); -errno. */
int listener_read_age(int conn_fd, uint64_t *ret_ns);

#endif
