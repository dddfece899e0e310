/*
 * sock_progress.c - see sock.h. A file of its own: <linux/tcp.h> knows more of struct tcp_info than
 * <netinet/tcp.h>, and the two cannot be included together.
 */
#include "net/sock.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int get_info(int fd, struct tcp_info *ret_info)
{
	socklen_t len = sizeof(*ret_info);
	*ret_info = (struct tcp_info){0};
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret_info, &len) < 0 ? -errno : 0;
}

static bool is_pending(const struct tcp_info *info)
{
	return info->tcpi_unacked > 0 || info->tcpi_notsent_bytes > 0;
}

int sock_get_progress(int fd, struct sock_progress *ret_progress)
{
	struct tcp_info info;
	int r = get_info(fd, &info);
	if (r < 0)
		return r;
	*ret_progress = (struct sock_progress){
	        .acked = (uint32_t)info.tcpi_bytes_acked,
	        .is_pending = is_pending(&info),
	        .quiet_ms = info.tcpi_last_data_sent,
	};
	return 0;
}

int sock_get_silence(int fd, struct sock_silence *ret_silence)
{
	struct tcp_info info;
	int r = get_info(fd, &info);
	if (r < 0)
		return r;
	unsigned tries = info.tcpi_probes;
	/* Any acknowledgement shows that the peer is there, if it came after the last try: it may be short of
	 * memory, and take nothing. Two of the same tick have the same age. */
	if (info.tcpi_last_ack_recv > info.tcpi_last_data_sent &&
	        info.tcpi_retransmits > tries)
		tries = info.tcpi_retransmits;
	*ret_silence =
	        (struct sock_silence){.tries = tries, .is_pending = is_pending(&info)};
	return 0;
}
