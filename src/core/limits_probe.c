/*
 * limits_probe.c - what the machine and the process have: descriptors, memory, processors.
 *
 * Invariant: what cannot be read sets no limit.
 */
#include "core/limits.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "base/cpus.h"
#include "base/own.h"
#include "core/cgroup.h"

static void visit(const char *folder, const struct cgroup_files *files, void *arg)
{
	uint64_t limit = 0, *memory = arg;

	if (cgroup_read(folder, files->limit, &limit) == 0 && limit > 0 &&
	        limit < *memory)
		*memory = limit;
}

uint64_t limits_cgroup_memory(const char *own, const char *mount, uint64_t memory)
{
	cgroup_each(own, mount, visit, &memory);
	return memory;
}

/* What of the hard limit can be had. It may be above fs.nr_open, where that was lowered after the limit
 * was inherited: setrlimit(2) then refuses whatever keeps it, and takes nr_open. */
static uint64_t nofile_usable(const struct rlimit *nofile)
{
	uint64_t nr_open;

	if (nofile->rlim_max != RLIM_INFINITY && setrlimit(RLIMIT_NOFILE, nofile) == 0)
		return nofile->rlim_max;
	if (cgroup_read("/proc/sys/fs", "nr_open", &nr_open) < 0)
		nr_open = 1048576;
	return nr_open < nofile->rlim_max ? nr_open : nofile->rlim_max;
}

/* Of what there is for a connection, LIMITS_MEMORY_CONNECTION, the kernel takes the most. The limits of a
 * process (ulimit -v and -d, setrlimit(2)) count portd's own part alone: an eighth is more than that. */
#define OWN_PART 8

static uint64_t memory_of_process(uint64_t memory)
{
	static const int resources[] = {RLIMIT_AS, RLIMIT_DATA};
	struct rlimit r;

	for (size_t i = 0; i < ARRAY_SIZE(resources); i++)
		if (getrlimit(resources[i], &r) == 0 && r.rlim_cur < memory / OWN_PART)
			memory = r.rlim_cur * OWN_PART;
	return memory;
}

int limits_probe(struct machine *ret)
{
	struct machine m = {.cpus = cpus_allowed()};
	struct rlimit nofile;
	struct sysinfo info;

	if (getrlimit(RLIMIT_NOFILE, &nofile) < 0 || sysinfo(&info) < 0)
		return -errno;
	m.nofile_hard = nofile_usable(&nofile);
	m.nofile_soft = nofile.rlim_cur;
	if (m.nofile_soft > m.nofile_hard)
		m.nofile_soft = m.nofile_hard;
	m.memory = memory_of_process(limits_cgroup_memory("/proc/self/cgroup",
	        "/sys/fs/cgroup", (uint64_t)info.totalram * info.mem_unit));
	*ret = m;
	return 0;
}
