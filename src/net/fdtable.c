/*
 * fdtable.c - see fdtable.h. The kept descriptor is /dev/null, opened anew each time.
 *
 * Invariant of the lock: lend.mutex is held for a few instructions only, never over a
 * system call, so that nobody can stall in it; who stalls while `taken` is waited for
 * only once, and only so long. lend.lent is set by who has the lock only, and goes with it.
 */
#include "net/fdtable.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"

/* Far more than lending takes, far less than anybody would notice. */
#define LOCK_WAIT (5 * CLOCK_MSEC)

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t released;
	bool taken;
	bool overdue; /* somebody has waited in vain for who has it now */
	_Atomic bool lent;
	_Atomic unsigned inside; /* threads that have entered */
	unsigned ignored;        /* so many of them have stalled; with the lock */
	_Atomic unsigned wanted;
} lend = {.mutex = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER};

/* Of the calling thread. */
static _Thread_local bool has_own_table, has_lock;

static int compare_fds(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

/* The seccomp profiles of containers refuse unshare(2), whatever it is for, and let
 * close_range(2) pass, which does the same to a table. This one closes nothing. */
static int unshare_table(void)
{
	if (unshare(CLONE_FILES) == 0)
		return 0;
	int err = errno;
	return close_range(~0U, ~0U, CLOSE_RANGE_UNSHARE) < 0 ? -err : 0;
}

int fdtable_try_private(void)
{
	int r = unshare_table();
	if (r == 0 && close_range(~0U, ~0U, 0) < 0)
		r = -errno;
	return r;
}

int fdtable_make_private(int *keep, size_t n)
{
	int r = unshare_table();
	if (r < 0)
		return r;
	has_own_table = true;
	qsort(keep, n, sizeof(*keep), compare_fds);

	unsigned first = 0;
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < 0)
			continue;
		unsigned fd = (unsigned)keep[i];
		if (fd > first && close_range(first, fd - 1, 0) < 0)
			return -errno;
		first = fd + 1;
	}
	return close_range(first, ~0U, 0) < 0 ? -errno : 0;
}

void fdtable_lock(void)
{
	if (has_own_table)
		return;
	uint64_t until_ns = clock_now() + LOCK_WAIT;
	struct timespec until = {.tv_sec = (time_t)(until_ns / CLOCK_SEC),
	        .tv_nsec = (long)(until_ns % CLOCK_SEC)};
	(void)pthread_mutex_lock(&lend.mutex);
	while (lend.taken && !lend.overdue)
		lend.overdue = pthread_cond_clockwait(&lend.released, &lend.mutex,
		                       CLOCK_MONOTONIC, &until) != 0 &&
		               lend.taken;
	has_lock = !lend.taken;
	lend.taken = true;
	(void)pthread_mutex_unlock(&lend.mutex);
}

void fdtable_unlock(void)
{
	if (!has_lock)
		return;
	has_lock = false;
	atomic_store(&lend.lent, false);
	(void)pthread_mutex_lock(&lend.mutex);
	lend.taken = false;
	lend.overdue = false;
	(void)pthread_mutex_unlock(&lend.mutex);
	(void)pthread_cond_signal(&lend.released);
}

/* Either who enters sees that something is lent, or who lends sees that somebody is inside:
 * all four are in one order (seq_cst). */
void fdtable_lend(void)
{
	if (!has_lock)
		return;
	atomic_store(&lend.lent, true);
	uint64_t until = 0;
	unsigned n;
	while ((n = atomic_load(&lend.inside)) > lend.ignored) {
		uint64_t now = clock_now();
		if (until == 0)
			until = now + LOCK_WAIT;
		if (now >= until)
			break;
		(void)sched_yield();
	}
	lend.ignored = n;
}

bool fdtable_enter(void)
{
	if (has_own_table)
		return true;
	atomic_fetch_add(&lend.inside, 1);
	if (!atomic_load(&lend.lent))
		return true;
	atomic_fetch_sub(&lend.inside, 1);
	return false;
}

void fdtable_leave(void)
{
	if (!has_own_table)
		atomic_fetch_sub(&lend.inside, 1);
}

void fdtable_want(unsigned n)
{
	atomic_store(&lend.wanted, n);
}

unsigned fdtable_wanted(void)
{
	return has_own_table ? 0 : atomic_load(&lend.wanted);
}

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int refill(struct kept *kept)
{
	int fd = kept->fd < 0 ? open_null() : kept->fd;
	if (fd < 0)
		return fd;
	kept->fd = fd;
	return 0;
}

int kept_refill(struct kept *kept)
{
	if (kept->fd >= 0)
		return 0;
	fdtable_lock();
	int r = refill(kept);
	fdtable_unlock();
	return r;
}

/* Are n to be had at once? */
static int probe(unsigned n)
{
	OWN_FD int fd = open_null();
	if (fd < 0)
		return fd;
	return n > 1 ? probe(n - 1) : 0;
}

int kept_probe(struct kept *kept)
{
	fdtable_lock();
	int r = refill(kept);
	if (r == 0)
		r = probe(1 + fdtable_wanted());
	fdtable_unlock();
	return r;
}

void kept_close(struct kept *kept)
{
	kept->fd = own_close(kept->fd);
}

int kept_accept(struct kept *kept, int listen_fd, int *ret_fd)
{
	fdtable_lock();
	fdtable_lend();
	kept_close(kept);
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int r = fd < 0 ? -errno : 0;
	if (r < 0)
		(void)refill(kept);
	fdtable_unlock();
	if (r == 0)
		*ret_fd = fd;
	return r;
}

int kept_swap_low(struct kept *kept, int fd)
{
	if (kept->fd < fd)
		return fd;
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);
	if (moved < 0)
		return fd;
	/* dup3 replaces the socket's old number in one step: nobody can take it in
	 * between. */
	if (dup3(kept->fd, fd, O_CLOEXEC) < 0) {
		(void)close(moved);
		return fd;
	}
	(void)close(kept->fd);
	kept->fd = fd;
	return moved;
}
