/*
 * huge_nofile.c - preloaded into portd by test_huge_nofile.py: the hard RLIMIT_NOFILE is what many
 * containers have, and it may be had. What is really there is left alone.
 */
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
	nofile = *limit;
	return 0;
}
