/*
 * listener.c - LISTEN. The facts about TCP_INFO and SO_MEMINFO on a listener are shown by
 * tests/kernel/; a kernel that behaves otherwise is noticed there.
 */
#include "core/listener.h"

#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/own.h"
#include "net/sock.h"

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int open_at(const struct addr *address, uint64_t keepalive_ns, int *ret_fd)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(address, &sa);
	OWN_FD int fd =
	        socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;

	int r = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	/* Whatever net.ipv6.bindv6only says: [::] takes IPv4 too, any other address one
	 * family. */
	if (r == 0 && address->family == AF_INET6)
		r = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !addr_is_any(address));
	if (r == 0 && keepalive_ns > 0)
		r = sock_set_keepalive(fd, true);
	if (r == 0 && bind(fd, (struct sockaddr *)&sa, len) < 0)
		r = -errno;
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

/* bind(2) of [::] says so where the module is missing, or IPv6 is switched off. */
static bool means_no_ipv6(int r, const struct addr *address)
{
	return (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) &&
	       address->family == AF_INET6 && addr_is_any(address);
}

static int read_address(int fd, struct addr *ret)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&sa, len, ret);
}

int listener_open(const struct addr *address, uint64_t keepalive_ns, int *ret_fd,
        struct addr *ret_address, bool *ret_fallback)
{
	int r = open_at(address, keepalive_ns, ret_fd);
	bool fallback = means_no_ipv6(r, address);
	if (fallback) {
		struct addr any4 = {.family = AF_INET, .port = address->port};
		r = open_at(&any4, keepalive_ns, ret_fd);
	}
	if (r < 0)
		return r;

	*ret_fallback = fallback;
	r = read_address(*ret_fd, ret_address);
	if (r < 0)
		*ret_fd = own_close(*ret_fd);
	return r;
}

static int read_option(int fd, int name, int *ret)
{
	socklen_t len = sizeof(*ret);
	return getsockopt(fd, SOL_SOCKET, name, ret, &len) < 0 ? -errno : 0;
}

static int read_info(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);
	*ret = (struct tcp_info){0};
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len) < 0 ? -errno : 0;
}

/* Takes away what is left of the end that somebody gave to the socket. A port that the kernel chose
 * went with it, so that it is bound again; any other is still bound (EINVAL). */
static int begin_again(int fd, const struct addr *address)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(address, &sa);
	if (connect(fd, &none, sizeof(none)) < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

int listener_is_at(int fd, const struct addr *address)
{
	struct addr bound;
	int listens = 0;
	int r = read_option(fd, SO_ACCEPTCONN, &listens);
	if (r == 0 && listens)
		r = read_address(fd, &bound);
	return r < 0 ? r : listens && bound.port == address->port;
}

int listener_listen(int fd, const struct addr *address, uint64_t backlog)
{
	int r = listener_is_at(fd, address);
	if (r == 0) {
		/* It may listen elsewhere. */
		listener_retire(fd);
		r = begin_again(fd, address);
	}
	if (r >= 0 && listen(fd, (int)backlog) < 0)
		r = -errno;
	if (r < 0)
		return r;
	/* Not bound any more, it would listen on a port of the kernel's choice. */
	r = listener_is_at(fd, address);
	if (r > 0)
		return 0;
	listener_retire(fd);
	return r < 0 ? r : -EADDRNOTAVAIL;
}

/* A socket that does not listen, but might: bound, and no connection. */
static int adopt_silent(int fd, const struct addr *address, bool *ret_revived)
{
	struct tcp_info info;
	int r = read_info(fd, &info);
	if (r < 0)
		return r;
	if (info.tcpi_state != TCP_CLOSE || address->port == 0)
		return LISTENER_NOT_LISTENING;
	r = listener_listen(fd, address, SOMAXCONN);
	*ret_revived = r == 0;
	return r;
}

int listener_adopt(
        int fd, uint64_t keepalive_ns, struct addr *ret_address, bool *ret_revived)
{
	int protocol = 0, listens = 0;
	*ret_revived = false;
	int r = read_option(fd, SO_PROTOCOL, &protocol);
	if (r == -ENOTSOCK || (r == 0 && protocol != IPPROTO_TCP))
		return LISTENER_NOT_TCP;
	if (r == 0)
		r = read_option(fd, SO_ACCEPTCONN, &listens);
	if (r == 0)
		r = read_address(fd, ret_address);
	if (r == -EAFNOSUPPORT)
		return LISTENER_NOT_TCP;
	if (r == 0 && !listens)
		r = adopt_silent(fd, ret_address, ret_revived);
	if (r == 0)
		r = sock_set_keepalive(fd, keepalive_ns > 0);
	int flags = r == 0 ? fcntl(fd, F_GETFL) : 0;
	if (r == 0 && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	                      fcntl(fd, F_SETFD, FD_CLOEXEC) < 0))
		r = -errno;
	return r;
}

bool listener_fits(const struct addr *asked, const struct addr *bound)
{
	struct addr like = *asked;
	if (like.port == 0)
		like.port = bound->port;
	/* The kernel keeps a scope only where it means something. */
	if (!addr_is_link_local(&like))
		like.scope = bound->scope;
	if (addr_equal(&like, bound))
		return true;
	struct addr any4 = {.family = AF_INET, .port = like.port};
	if (asked->family != AF_INET6 || !addr_is_any(asked) || !addr_equal(&any4, bound))
		return false;
	/* Only where [::] would fall back to it: asked of the kernel, with a port of its choice. */
	struct addr probe = {.family = AF_INET6};
	OWN_FD int fd = -1;
	return means_no_ipv6(open_at(&probe, 0, &fd), &probe);
}

void listener_retire(int fd)
{
	(void)shutdown(fd, SHUT_RD);
}

int listener_read_queue(int fd, struct listener_queue *ret)
{
	struct tcp_info info;
	int r = read_info(fd, &info);
	if (r < 0)
		return r;
	/* Not listening (yet, or any more): there is no queue. */
	ret->listening = info.tcpi_state == TCP_LISTEN;
	ret->depth = ret->listening ? info.tcpi_unacked : 0;
	ret->effective = ret->listening ? info.tcpi_sacked : 0;
	return 0;
}

int listener_read_drops(int fd, uint32_t *ret)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(info);
	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0)
		return -errno;
	*ret = info[SK_MEMINFO_DROPS];
	return 0;
}

int listener_read_age(int conn_fd, uint64_t *ret_ns)
{
	struct tcp_info info;
	int r = read_info(conn_fd, &info);
	if (r < 0)
		return r;
	uint32_t ms = info.tcpi_last_ack_recv;
	if (info.tcpi_last_data_recv > ms)
		ms = info.tcpi_last_data_recv;
	*ret_ns = ms * CLOCK_MSEC;
	return info.tcpi_state == TCP_CLOSE ? 1 : 0;
}
