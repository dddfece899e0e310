/*
 * rebind.c - what cleans up /run, or a rm(1) too many, takes the control socket's name away, or a file
 * from elsewhere gets it; who is connected stays so, and nobody else can come. A socket cannot get its
 * name back: a new one does.
 */
#include "daemon/rebind.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/daemon.h"
#include "net/fdtable.h"

/* Between two attempts, one line of the log each: twice as long after each that failed. */
#define REBIND_PACE_NS    (2 * CLOCK_SEC)
#define REBIND_FAILED_MAX 5U
/* What it opens: the directory, the lock in it, the socket, and its file. */
#define REBIND_FDS 4U

/* Returns 0, or 1 after logging why not. */
static int rebind(struct daemon *d)
{
	const struct config *config = &d->config;
	bool made_directory = d->socket_file.made_directory;
	OWN_FD int fd = -1;

	socket_file_remove(&d->socket_file);
	if (socket_file_open(config->control_socket, config->control_mode, d->control_gid,
	            &d->socket_file, &fd) != 0)
		return 1;
	d->socket_file.made_directory |= made_directory;
	int r = control_listen_on(d->control, fd);
	if (r == 0) {
		(void)TAKE_FD(fd);
		return 0;
	}
	errno = -r;
	log_error("control socket %s: %m", config->control_socket);
	socket_file_remove(&d->socket_file);
	return 1;
}

/* Something that stays has the name. Said once, until the socket has it again. */
static void rebind_tell_blocked(struct daemon *d, const char *what)
{
	if (!d->rebind_blocked)
		log_warning(
		        "control socket %s: portctl does not reach this portd: %s, and "
		        "the socket is made again",
		        d->config.control_socket, what);
	d->rebind_blocked = true;
	d->rebind_failed = 0;
}

static void rebind_try(struct daemon *d)
{
	const char *path = d->config.control_socket, *what;
	enum socket_file_instead instead = socket_file_look(path, &what);

	if (instead == SOCKET_FILE_OTHER) {
		rebind_tell_blocked(d, what);
	} else if (rebind(d) == 0) {
		log_warning("control socket %s: its file was %s, and is made again", path,
		        instead == SOCKET_FILE_DEAD ? "replaced" : "gone");
		d->rebind_blocked = false;
		d->rebind_failed = 0;
	} else if (d->rebind_failed < REBIND_FAILED_MAX) {
		d->rebind_failed++;
	}
}

void rebind_check(struct daemon *d)
{
	uint64_t now = clock_now();

	if (socket_file_is_there(&d->socket_file)) {
		d->rebind_blocked = false;
		return;
	}
	if (now < d->rebind_at)
		return;
	bool is_short = reserve_is_needed(REBIND_FDS);
	if (is_short) {
		fdtable_lock();
		(void)reserve_lend(&d->reserve, REBIND_FDS);
	}
	rebind_try(d);
	if (is_short) {
		(void)reserve_fill(&d->reserve);
		fdtable_unlock();
	}
	d->rebind_at = now + (REBIND_PACE_NS << d->rebind_failed);
}
