/*
 * sock_progress.c - see sock.h. A file of its own: <linux/tcp.h> knows more of struct tcp_info than
 * <netinet/tcp.h>, and the two cannot be included together.
 *
 * Reads next: loop.c.
 */
#include "net/sock.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

int sock_get_progress(int fd, struct sock_progress *ret_progress)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	*ret_progress = (struct sock_progress){
	        .acked = (uint32_t)info.tcpi_bytes_acked,
	        .is_pending = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
	        .quiet_ms = info.tcpi_last_data_sent,
	};
	return 0;
}
