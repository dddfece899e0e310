/*
 * sock.h - small calls on connected TCP sockets.
 */
#ifndef NET_SOCK_H
#define NET_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Closes with a reset and without TIME_WAIT: SO_LINGER {1, 0}, socket(7). */
void sock_reset(int fd);

/* True if the connection is over at both ends (TCP state CLOSE): reset, or timed out. A
 * connection whose client has sent its FIN is alive. One system call. */
bool sock_is_dead(int fd);

/* Reads and throws away up to max bytes. Returns 0 if there may be more (or none yet), 1
 * at the end of the stream, -errno on a dead connection; *ret_bytes, if not NULL, is what
 * was thrown away. */
int sock_discard(int fd, size_t max, size_t *ret_bytes);

/* True if the peer's kernel has acknowledged everything sent, the FIN included (SIOCOUTQ,
 * tcp(7)). */
bool sock_is_flushed(int fd);

/* How far the peer's kernel has come with what was sent. */
struct sock_progress {
	uint32_t acked;  /* bytes acknowledged since the connection began, modulo 2^32 */
	bool is_pending; /* something that was sent is not acknowledged yet */
	uint32_t quiet_ms; /* since bytes last went out; to the kernel's tick */
};

/* Returns 0 or -errno. One system call. */
int sock_get_progress(int fd, struct sock_progress *ret_progress);

/* TCP's longest time between probes, in seconds. */
#define SOCK_KEEPALIVE_MAX 32767
/* So many in a row that nobody has answered, and the next one ends the connection instead:
 * ETIMEDOUT. */
#define SOCK_PROBES 10

/* Keepalive, for a listener: what it accepts inherits it. On: the kernel probes by itself only after
 * SOCK_KEEPALIVE_MAX of silence; sock_probe asks for more. Returns 0 or -errno. */
int sock_set_keepalive(int fd, bool on);
/* One probe now, with the kernel's next tick, if nothing has come for a second. Not while something that was
 * sent is unacknowledged (sock_get_silence): then the kernel sends that again, as long as
 * net.ipv4.tcp_retries2 says, and would look at this timer each second. */
void sock_probe(int fd);

/* What the peer's kernel has not answered so far. */
struct sock_silence {
	unsigned
	        tries; /* probes, or times that the same bytes went out again; 0: it has answered */
	bool is_pending; /* something that was sent is not acknowledged yet */
};

/* Returns 0 or -errno. One system call. */
int sock_get_silence(int fd, struct sock_silence *ret_silence);

#endif
