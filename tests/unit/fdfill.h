/*
 * fdfill.h - a descriptor table that is really full, by a lowered RLIMIT_NOFILE.
 */
#ifndef TESTS_UNIT_FDFILL_H
#define TESTS_UNIT_FDFILL_H

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#define FDFILL_LIMIT 128

struct fdfill {
	struct rlimit before;
	int fd[FDFILL_LIMIT];
	unsigned n;
};

/* Takes every descriptor that this process may still have. */
static __attribute__((noinline, unused)) void fdfill_all(struct fdfill *f)
{
	f->n = 0;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &f->before), 0);
	struct rlimit limit = {FDFILL_LIMIT, f->before.rlim_max};
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	int fd;
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		f->fd[f->n++] = fd;
	cr_assert_eq(errno, EMFILE);
	cr_assert_geq(f->n, 8, "too few descriptors to play with");
}

/* Gives n of them back, the highest numbers first. */
static __attribute__((noinline, unused)) void fdfill_free(struct fdfill *f, unsigned n)
{
	while (n-- > 0)
		(void)close(f->fd[--f->n]);
}

static __attribute__((noinline, unused)) void fdfill_end(struct fdfill *f)
{
	fdfill_free(f, f->n);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &f->before), 0);
}

#endif
