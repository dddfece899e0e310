/*
 * refusal.c - what the system has refused, in words.
 *
 * Invariant: an errno has one sentence for each of its causes, and what cannot be told apart here
 * is named together. Nothing that is looked at may be large: /proc/self/net/tcp of a machine with
 * a million connections is read up to REFUSAL_SOCKETS lines (listeners come first).
 */
#include "daemon/refusal.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/if_addr.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/own.h"
#include "base/parse.h"
#include "base/plural.h"

#define REFUSAL_SOCKETS 100000U
/* net.ipv4.ip_unprivileged_port_start, where it cannot be read. */
#define REFUSAL_PORT_START 1024U

__attribute__((format(printf, 2, 3))) static char *refusal_say(
        char buf[static REFUSAL_MAX], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(buf, REFUSAL_MAX, format, args);
	va_end(args);
	return buf;
}

/* Who has a port, as far as /proc tells. */
enum port_user {
	PORT_USER_UNKNOWN,
	PORT_USER_LISTENER,
	PORT_USER_CONNECTION
};

/* "  12: 0100007F:1E61 0200007F:C350 01 …": its own address, its peer's and its state. */
static enum port_user refusal_read_socket(const char *line, unsigned port)
{
	unsigned own, state;

	/* NOLINTNEXTLINE(cert-err34-c): the kernel has written these numbers. */
	if (sscanf(line, " %*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &own, &state) != 2 ||
	        own != port)
		return PORT_USER_UNKNOWN;
	return state == TCP_LISTEN ? PORT_USER_LISTENER : PORT_USER_CONNECTION;
}

static enum port_user refusal_find_user(const char *path, unsigned port)
{
	OWN_FILE FILE *f = fopen(path, "re");
	char line[256];
	enum port_user user = PORT_USER_UNKNOWN;

	for (unsigned n = 0; f && user != PORT_USER_LISTENER && n < REFUSAL_SOCKETS &&
	                     fgets(line, sizeof(line), f);
	        n++) {
		enum port_user found = refusal_read_socket(line, port);

		if (found != PORT_USER_UNKNOWN)
			user = found;
	}
	return user;
}

static char *refusal_in_use(const char *text, unsigned port, char buf[static REFUSAL_MAX])
{
	enum port_user user = refusal_find_user("/proc/self/net/tcp", port);

	if (user != PORT_USER_LISTENER) {
		enum port_user user6 = refusal_find_user("/proc/self/net/tcp6", port);

		if (user6 != PORT_USER_UNKNOWN)
			user = user6;
	}
	switch (user) {
	case PORT_USER_LISTENER:
		return refusal_say(buf,
		        "cannot listen on %s: the port is taken; `ss -ltnp 'sport = "
		        ":%u'`, as root, shows the program that listens there",
		        text, port);
	case PORT_USER_CONNECTION:
		return refusal_say(buf,
		        "cannot listen on %s: the port is taken, not by a listener but "
		        "by a connection of this machine, probably an outgoing one; `ss "
		        "-tanp 'sport = :%u'`, as root, shows it, and the port is free "
		        "when it has ended; add %u to the sysctl "
		        "net.ipv4.ip_local_reserved_ports, so that outgoing connections "
		        "leave the port alone",
		        text, port, port);
	case PORT_USER_UNKNOWN:
		break;
	}
	return refusal_say(buf,
	        "cannot listen on %s: the port is taken, by a socket that neither "
	        "listens nor is connected, or that this process may not see; `ss -tanp "
	        "'sport = :%u'`, as root, lists the others, `ss -tanpB` of iproute2 6.8 "
	        "these, too",
	        text, port);
}

static unsigned refusal_port_start(void)
{
	OWN_FILE FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
	char line[16];
	uint64_t n;

	if (!f || !fgets(line, sizeof(line), f))
		return REFUSAL_PORT_START;
	line[strcspn(line, "\n")] = '\0';
	return parse_uint(line, &n) == 0 && n <= UINT16_MAX + UINT64_C(1)
	               ? (unsigned)n
	               : REFUSAL_PORT_START;
}

static char *refusal_no_permission(
        const char *text, unsigned port, char buf[static REFUSAL_MAX])
{
	unsigned start = refusal_port_start();

	if (port < start)
		return refusal_say(buf,
		        "cannot listen on %s: permission denied; ports below %u need "
		        "root, or come from portd.socket, see portd(8)",
		        text, start);
	return refusal_say(buf,
	        "cannot listen on %s: permission denied, though ports from %u on need "
	        "no privilege; a security module forbids it: SELinux (`ausearch -m avc "
	        "-ts recent`, `semanage port -l`) or AppArmor (`journalctl -k -g "
	        "apparmor`)",
	        text, start);
}

/* The flags of an IPv6 address that some interface has, of the kernel's IFA_F_; -1: none
 * has it. */
static int refusal_find_address(const struct addr *address)
{
	OWN_FILE FILE *f = fopen("/proc/self/net/if_inet6", "re");
	char line[128], wanted[2 * sizeof(address->bytes) + 1];
	unsigned index, flags;

	for (size_t i = 0; i < sizeof(address->bytes); i++)
		(void)sprintf(wanted + 2 * i, "%02x", address->bytes[i]);
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, wanted, sizeof(wanted) - 1) != 0)
			continue;
		/* NOLINTNEXTLINE(cert-err34-c): the kernel has written these numbers. */
		if (sscanf(line + sizeof(wanted) - 1, "%x %*x %*x %x", &index, &flags) ==
		                2 &&
		        (address->scope == 0 || address->scope == index))
			return (int)flags;
	}
	return -1;
}

static char *refusal_no_address(
        const struct addr *address, const char *text, char buf[static REFUSAL_MAX])
{
	bool v6 = address->family == AF_INET6;
	int flags = v6 ? refusal_find_address(address) : -1;

	if (flags >= 0 && flags & IFA_F_DADFAILED)
		return refusal_say(buf,
		        "cannot listen on %s: another machine has this address "
		        "(duplicate address detection failed); give one of them another "
		        "one; `ip -6 address show dadfailed` lists it",
		        text);
	if (flags >= 0 && flags & IFA_F_TENTATIVE)
		return refusal_say(buf,
		        "cannot listen on %s: the address is still tentative: for a "
		        "second or two the kernel finds out whether another machine has "
		        "it; start portd after that (After=network-online.target), or "
		        "without waiting for it: sysctl -w net.ipv6.ip_nonlocal_bind=1, "
		        "or FreeBind=yes in portd.socket",
		        text);
	return refusal_say(buf,
	        "cannot listen on %s: no interface has this address%s; `ip address` "
	        "lists those there are; for one that comes later, or moves between "
	        "machines: sysctl -w net.ipv%c.ip_nonlocal_bind=1, or FreeBind=yes in "
	        "portd.socket",
	        text, address->scope ? ", not the one behind its '%'" : "",
	        v6 ? '6' : '4');
}

static char *refusal_no_family(
        const struct addr *address, const char *text, char buf[static REFUSAL_MAX])
{
	if (address->family == AF_INET6)
		return refusal_say(buf,
		        "cannot listen on %s: there is no IPv6 here; take an IPv4 "
		        "address, such as 0.0.0.0:%u, or let the unit's "
		        "RestrictAddressFamilies= have AF_INET6",
		        text, address->port);
	return refusal_say(buf,
	        "cannot listen on %s: there is no IPv4 here; let the unit's "
	        "RestrictAddressFamilies= have AF_INET",
	        text);
}

char *refusal_of_listener(
        const struct addr_named *named, int err, char buf[static REFUSAL_MAX])
{
	const struct addr *address = &named->addr;
	char text[ADDR_TEXT_MAX];

	(void)addr_format_named(named, text);
	switch (err) {
	case EADDRINUSE:
		return refusal_in_use(text, address->port, buf);
	case EACCES:
		return refusal_no_permission(text, address->port, buf);
	case EPERM:
		return refusal_say(buf,
		        "cannot listen on %s: forbidden, by SocketBindDeny= of the unit, "
		        "a program at its control group, or a seccomp filter; "
		        "SocketBindAllow= lets a port pass",
		        text);
	case EADDRNOTAVAIL:
		return refusal_no_address(address, text, buf);
	case ENODEV:
		return refusal_say(buf,
		        "cannot listen on %s: there is no such interface; `ip link` "
		        "lists those there are",
		        text);
	case EAFNOSUPPORT:
		return refusal_no_family(address, text, buf);
	default:
		return refusal_say(
		        buf, "cannot listen on %s: %s", text, strerrordesc_np(err));
	}
}

char *refusal_of_tables(int err, char buf[static REFUSAL_MAX])
{
	return refusal_say(buf,
	        "private tables are not to be had here: unshare(2) and close_range(2) "
	        "are refused (%s), as the seccomp filters of some containers do; use "
	        "fd_table = shared, or a filter that allows one of them%s",
	        strerrordesc_np(err), err == ENOSYS ? " (Linux 5.9 has both)" : "");
}

char *refusal_of_books(const struct budget *budget, int err, char buf[static REFUSAL_MAX])
{
	return refusal_say(buf,
	        "the books of the sources are refused their memory (%s), which grows "
	        "with the connections that there may be, here %" PRIu64
	        "; use a smaller [budget] fds, or raise what holds it up: `ulimit -v`, "
	        "or "
	        "the sysctl vm.overcommit_memory if that is 2",
	        strerrordesc_np(err), budget->most);
}

char *refusal_of_workers(unsigned workers, int err, char buf[static REFUSAL_MAX])
{
	const char *remedy = "";

	if (err == EAGAIN)
		remedy = "; threads are limited by `ulimit -u` of this user, by pids.max "
		         "of the control group (TasksMax= in the unit), and by the "
		         "sysctls "
		         "kernel.threads-max and kernel.pid_max, and their stacks by "
		         "`ulimit -v`; fewer are needed with [workers] count";
	else if (err == ENOMEM)
		remedy = "; memory is limited by `ulimit -v`, by memory.max of the "
		         "control "
		         "group (MemoryMax= in the unit), and where vm.overcommit_memory "
		         "is "
		         "2; less is needed with [workers] count";
	else if (err == EMFILE || err == ENFILE)
		remedy =
		        "; descriptors are limited by RLIMIT_NOFILE (LimitNOFILE= in the "
		        "unit) and by the sysctl fs.file-max; fewer are needed with "
		        "[workers] count";
	return refusal_say(buf, "cannot start %u worker%s: %s%s", workers,
	        PLURAL(workers), strerrordesc_np(err), remedy);
}
