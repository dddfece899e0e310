/*
 * huge_nofile.c - preloaded into portd by test_huge_nofile.py: the hard RLIMIT_NOFILE is what many
 * containers have, and it may be had. What is really there is left alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct rlimit nofile = {.rlim_cur = 1024, .rlim_max = 1073741816};

int getrlimit(__rlimit_resource_t resource, struct rlimit *ret)
{
	if (resource != RLIMIT_NOFILE)
		return (int)syscall(SYS_prlimit64, 0, resource, NULL, ret);
	*ret = nofile;
	return 0;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	if (resource != RLIMIT_NOFILE)
		return (int)syscall(SYS_prlimit64, 0, resource, limit, NULL);
	/* As where fs.nr_open has been lowered since. */
	if (getenv("HUGE_NOFILE_REFUSED") && limit->rlim_max > 1048576) {
		errno = EPERM;
		return -1;
	}
	nofile = *limit;
	return 0;
}
