/*
 * socket_lock.c - a lock beside the control socket's file.
 *
 * Invariant: who holds the lock holds it on the file that has the name. A lock on a file that its
 * last holder has unlinked meanwhile keeps nobody out, and is none.
 */
#include "daemon/socket_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/own.h"

#define LOCK_PATIENCE_NS (2 * CLOCK_SEC)
#define LOCK_PAUSE_MS    20

/* Returns 0, 1 if somebody else has it, or -errno. */
static int lock_whole(int fd)
{
	/* The lock is this description's, not the process's: closing another one keeps it. */
	struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_OFD_SETLK, &all) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? 1 : -errno;
}

static bool has_its_name(const struct socket_lock *lock, int fd)
{
	struct stat of_fd, of_name;

	return fstat(fd, &of_fd) == 0 &&
	       fstatat(lock->dir, lock->name, &of_name, AT_SYMLINK_NOFOLLOW) == 0 &&
	       of_fd.st_dev == of_name.st_dev && of_fd.st_ino == of_name.st_ino;
}

/* As socket_lock_take, without waiting. */
static int lock_once(struct socket_lock *lock)
{
	struct stat st;
	/* NONBLOCK: what stands there may be a fifo. */
	OWN_FD int fd = openat(lock->dir, lock->name,
	        O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	int r = lock_whole(fd);
	if (r == 0 && !has_its_name(lock, fd))
		r = 1;
	if (r == 0)
		lock->fd = TAKE_FD(fd);
	return r;
}

int socket_lock_take(int dir, const char *name, struct socket_lock *ret)
{
	uint64_t end = clock_now() + LOCK_PATIENCE_NS;
	int r;

	*ret = SOCKET_LOCK_NONE;
	ret->dir = dir;
	if (snprintf(ret->name, sizeof(ret->name), "%s.lock", name) >=
	        (int)sizeof(ret->name))
		return -ENAMETOOLONG;
	while ((r = lock_once(ret)) > 0 && clock_now() < end)
		(void)poll(NULL, 0, LOCK_PAUSE_MS);
	return r;
}

void socket_lock_release(struct socket_lock *lock)
{
	if (lock->fd < 0)
		return;
	(void)unlinkat(lock->dir, lock->name, 0);
	lock->fd = own_close(lock->fd);
}
