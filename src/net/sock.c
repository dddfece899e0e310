/*
 * sock.c - see sock.h.
 *
 * Reads next: loop.c.
 */
#include "net/sock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
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

bool sock_is_flushed(int fd)
{
	int pending = 0;
	return ioctl(fd, SIOCOUTQ, &pending) < 0 || pending == 0;
}
