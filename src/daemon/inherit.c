/*
 * inherit.c - the listener that outlives this process.
 *
 * Invariant: d->kept_elsewhere is true only while another process, the service manager, holds the
 * listener too. Then stopping leaves its queue to the next portd.
 */
#include "daemon/inherit.h"

#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/own.h"
#include "base/parse.h"
#include "core/listener.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/options.h"

/* FDPOLL=0: it is for portd alone to judge the socket. */
#define INHERIT_STORE  "FDSTORE=1\nFDPOLL=0\nFDNAME=" INHERIT_NAME
#define INHERIT_FORGET "FDSTOREREMOVE=1\nFDNAME=" INHERIT_NAME
/* Longest name of a descriptor, sd_listen_fds(3), escaped. */
#define INHERIT_NAME_TEXT (4 * 255 + 1)

/* Names come from unit files, or from whoever set the environment. */
static const char *inherit_escape(const char *name, char buf[INHERIT_NAME_TEXT])
{
	return parse_format_escapes(
	        (const uint8_t *)name, strlen(name), buf, INHERIT_NAME_TEXT);
}

static int inherit_refuse(const char *name, const char *what)
{
	char text[INHERIT_NAME_TEXT];

	log_error("the service manager handed over '%s', which %s",
	        inherit_escape(name, text), what);
	return EXIT_MISCONFIG;
}

/* Is it what [listener] address would be bound to? */
static bool inherit_fits(const struct daemon *d, const struct addr *bound)
{
	struct addr_named asked = d->config.address;

	return addr_resolve(&asked) == 0 && listener_fits(&asked.addr, bound);
}

/* One that came from a socket unit, or is said to. */
static int inherit_socket(struct daemon *d, int fd, const char *name)
{
	struct addr address;
	char asked[ADDR_TEXT_MAX], got[ADDR_TEXT_MAX], text[INHERIT_NAME_TEXT];
	bool revived;

	if (d->origin == LISTENER_SOCKET)
		return inherit_refuse(name,
		        "is the second socket; portd holds one port: take one "
		        "ListenStream= away, or use an instance, portd@NAME");
	int r = listener_adopt(fd, d->config.keepalive, &address, &revived);
	if (r == LISTENER_NOT_TCP)
		return inherit_refuse(name,
		        "is no TCP socket; a socket unit for portd has "
		        "ListenStream= with a port");
	if (r == LISTENER_NOT_LISTENING)
		return inherit_refuse(
		        name, "is no listener; a socket unit for portd has Accept=no");
	if (r < 0) {
		errno = -r;
		log_error("cannot take over the listener '%s': %m",
		        inherit_escape(name, text));
		return EXIT_SYSTEM;
	}
	if (revived)
		log_warning("the listener '%s' did not listen any more (ss -K, or "
		            "shutdown(2) of a copy); it does again",
		        inherit_escape(name, text));
	if (!inherit_fits(d, &address))
		log_warning("[listener] address is %s, but the socket unit '%s' holds "
		            "%s: that "
		            "is the port",
		        addr_format_named(&d->config.address, asked),
		        inherit_escape(name, text), addr_format(&address, got));
	d->listen_fd = fd;
	addr_name_as(&address, &d->config.address, &d->address);
	d->origin = LISTENER_SOCKET;
	return 0;
}

/* One that an earlier portd has stored. Whatever is wrong with it, the configured address can be
 * bound instead. */
static void inherit_stored(struct daemon *d, int fd)
{
	struct addr address;
	char asked[ADDR_TEXT_MAX], got[ADDR_TEXT_MAX];
	bool revived;

	int r = listener_adopt(fd, d->config.keepalive, &address, &revived);
	if (r == 0 && d->listen_fd < 0 && inherit_fits(d, &address)) {
		d->listen_fd = fd;
		addr_name_as(&address, &d->config.address, &d->address);
		d->origin = LISTENER_STORED;
		return;
	}
	if (r == 0 && d->origin != LISTENER_SOCKET)
		log_info("[listener] address is %s now: the listener on %s that was kept "
		         "is "
		         "dropped",
		        addr_format_named(&d->config.address, asked),
		        addr_format(&address, got));
	(void)own_close(d->stale_fd);
	d->stale_fd = fd;
}

/* sd_listen_fds(3) passes over what is meant for another process, and takes the variables away. */
static void inherit_note_stranger(struct daemon *d)
{
	/* NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet. */
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	/* NOLINTEND(concurrency-mt-unsafe) */
	uint64_t n;

	d->handed_to_nobody = fds && !pid;
	if (fds && pid && parse_uint(pid, &n) == 0 && n != (uint64_t)getpid())
		d->handed_to = n;
}

static void inherit_warn_stranger(const struct daemon *d)
{
	if (d->handed_to_nobody)
		log_warning("nothing is taken over: $LISTEN_FDS is set without "
		            "$LISTEN_PID, which says for whom");
	if (d->handed_to)
		log_warning("nothing is taken over: $LISTEN_FDS is for process %" PRIu64
		            ", and this one is %d; a script that starts portd has to use "
		            "exec, so that portd is the process that the service manager "
		            "started",
		        d->handed_to, (int)getpid());
}

void inherit_take(struct daemon *d)
{
	inherit_note_stranger(d);
	/* LISTEN_PID is checked; other processes' descriptors are none of ours. */
	d->handed = sd_listen_fds_with_names(1, &d->handed_names);
}

void inherit_forget(struct daemon *d)
{
	for (int i = 0; i < d->handed; i++)
		free(d->handed_names[i]);
	/* The array is of malloc's, as its names. */
	free((void *)d->handed_names);
	d->handed_names = NULL;
	d->handed = 0;
}

int inherit_listener(struct daemon *d)
{
	int result = 0;

	inherit_warn_stranger(d);
	if (d->handed < 0) {
		errno = -d->handed;
		log_warning("nothing is taken over: $LISTEN_FDS or $LISTEN_FDNAMES is "
		            "wrong: %m");
	}
	/* Sockets first: they win. */
	for (int i = 0; i < d->handed && result == 0; i++)
		if (strcmp(d->handed_names[i], INHERIT_NAME) != 0)
			result = inherit_socket(
			        d, SD_LISTEN_FDS_START + i, d->handed_names[i]);
	for (int i = 0; i < d->handed; i++)
		if (strcmp(d->handed_names[i], INHERIT_NAME) == 0)
			inherit_stored(d, SD_LISTEN_FDS_START + i);
	inherit_forget(d);
	d->kept_elsewhere = d->listen_fd >= 0;
	d->forget_stale = d->stale_fd >= 0;
	return result;
}

int inherit_retire(struct daemon *d)
{
	if (d->stale_fd < 0)
		return 1;
	listener_retire(d->stale_fd);
	d->stale_fd = own_close(d->stale_fd);
	return 0;
}

void inherit_store(struct daemon *d)
{
	d->stale_fd = own_close(d->stale_fd);
	/* Before anything is stored under the same name. */
	if (d->forget_stale && notify_send(&d->notify, INHERIT_FORGET) == 0)
		d->forget_stale = false;
	if (d->kept_elsewhere || d->forget_stale || !d->notify.stores)
		return;
	d->kept_elsewhere =
	        notify_send_fd(&d->notify, INHERIT_STORE, port_listener(d->port)) == 0;
	if (d->kept_elsewhere)
		events_stored(d);
}
