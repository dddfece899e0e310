/*
 * reserve.c - descriptors kept back for the main thread.
 *
 * Invariant: each place holds a descriptor that this file opened, or -1. The low places
 * are filled first and lent first: EMFILE looks at numbers, and a low one helps even
 * after the limit has been lowered under the running process.
 */
#include "daemon/reserve.h"

#include <fcntl.h>

#include "base/own.h"
#include "net/fdtable.h"

void reserve_init(struct reserve *r)
{
	for (unsigned i = 0; i < RESERVE_SIZE; i++)
		r->fd[i] = -1;
}

unsigned reserve_fill(struct reserve *r)
{
	for (unsigned i = 0; i < RESERVE_SIZE; i++)
		if (r->fd[i] < 0)
			r->fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	unsigned missing = RESERVE_SIZE - reserve_available(r);
	fdtable_want(missing);
	return missing;
}

bool reserve_is_needed(unsigned n)
{
	OWN_FD int fd = n > 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	return n > 0 && (fd < 0 || reserve_is_needed(n - 1));
}

unsigned reserve_available(const struct reserve *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RESERVE_SIZE; i++)
		n += r->fd[i] >= 0;
	return n;
}

unsigned reserve_lend(struct reserve *r, unsigned n)
{
	unsigned lent = 0;
	fdtable_lend();

	for (unsigned i = 0; i < RESERVE_SIZE && lent < n; i++) {
		if (r->fd[i] < 0)
			continue;
		r->fd[i] = own_close(r->fd[i]);
		lent++;
	}
	return lent;
}

void reserve_close(struct reserve *r)
{
	(void)reserve_lend(r, RESERVE_SIZE);
}
