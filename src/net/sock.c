/*
 * sock.c - see sock.h.
 */
#include "net/sock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/own.h"

void sock_reset(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)own_close(fd);
}

bool sock_is_dead(int fd)
{
	/* The cheapest call that looks at the state: getpeername(2) fails with ENOTCONN
	 * in CLOSE. */
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	return getpeername(fd, (struct sockaddr *)&peer, &len) < 0 && errno == ENOTCONN;
}

int sock_discard(int fd, size_t max, size_t *ret_bytes)
{
	size_t bytes = 0;
	int r = 0;
	while (bytes < max) {
		/* MSG_TRUNC: TCP drops the bytes without copying them, tcp(7). By number, for the
		 * sanitizers believe that recv(3) writes to the buffer, which is none. */
		size_t want = max - bytes;
		long n = syscall(SYS_recvfrom, fd, NULL, want, MSG_TRUNC | MSG_DONTWAIT,
		        NULL, NULL);
		if (n > 0) {
			bytes += (size_t)n;
			if ((size_t)n < want)
				break;
			continue;
		}
		if (n == 0)
			r = 1;
		else if (errno == EINTR)
			continue;
		else if (errno != EAGAIN)
			r = -errno;
		break;
	}
	if (ret_bytes)
		*ret_bytes = bytes;
	return r;
}

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int sock_set_keepalive(int fd, bool on)
{
	int r = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, on);
	if (r == 0 && on)
		r = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, SOCK_KEEPALIVE_MAX);
	if (r == 0 && on)
		r = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, SOCK_KEEPALIVE_MAX);
	if (r == 0 && on)
		r = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, SOCK_PROBES);
	return r;
}

void sock_probe(int fd)
{
	/* The kernel looks at its timer again, finds the time over, sends, and then waits for
	 * TCP_KEEPINTVL: do_tcp_setsockopt and tcp_keepalive_timer. */
	(void)set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
}

bool sock_is_flushed(int fd)
{
	int pending = 0;
	return ioctl(fd, SIOCOUTQ, &pending) < 0 || pending == 0;
}
