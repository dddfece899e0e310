/*
 * output.c - where an answer goes: standard output, or a file that appears whole or not
 * at all.
 *
 * Invariants: a file that was written aside is renamed or removed before
 * output_write_file returns, and signals wait until then; nothing is renamed over what is
 * no regular file, for the superuser could replace /dev/null that way.
 */
#include "ctl/output.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/own.h"
#include "ctl/client.h"

int output_guard_standard(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* The lowest free number is fd, for those below it are open. The
		 * direction is the wrong one on purpose. */
		if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
			return -errno;
	}
	return 0;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && err_is_again(errno)) {
			/* Standard output may be shared with somebody who made it
			 * non-blocking. */
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			(void)poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

int output_write_standard(const char *bytes, size_t len)
{
	char clean[4096];
	int r = 0;

	/* What portd says is clean; what else is printed are names, of files and control groups, and
	 * others choose them. */
	while (r == 0 && len > 0) {
		size_t n = len < sizeof(clean) ? len : sizeof(clean);
		memcpy(clean, bytes, n);
		client_clean(clean, n);
		r = write_all(STDOUT_FILENO, clean, n);
		bytes += n;
		len -= n;
	}
	return r;
}

/* Fills the file, makes it last, gives it its name. */
static int finish_file(
        int fd, const char *aside, const char *path, const char *bytes, size_t len)
{
	int r = write_all(fd, bytes, len);

	if (r)
		return r;
	if (fchmod(fd, 0644) < 0 || fsync(fd) < 0 || rename(aside, path) < 0)
		return -errno;
	return 0;
}

static int replace_file(const char *path, const char *bytes, size_t len)
{
	char aside[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int dir = slash ? (int)(slash - path) + 1 : 0;

	/* A dot in front and random letters at the end: collectors that take *.prom pass
	 * it by. */
	if (snprintf(aside, sizeof(aside), "%.*s.%s.XXXXXX", dir, path, path + dir) >=
	        (int)sizeof(aside))
		return -ENAMETOOLONG;

	OWN_FD int fd = mkstemp(aside);
	if (fd < 0)
		return -errno;

	int r = finish_file(fd, aside, path, bytes, len);
	if (r)
		(void)unlink(aside);
	return r;
}

int output_write_file(const char *path, const char *bytes, size_t len)
{
	struct stat st;
	sigset_t all, before;

	if (lstat(path, &st) == 0) {
		if (!S_ISREG(st.st_mode))
			return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	} else if (errno != ENOENT) {
		return -errno;
	}
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	int r = replace_file(path, bytes, len);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}
