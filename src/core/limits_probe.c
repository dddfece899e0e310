/*
 * limits_probe.c - what the machine and the process have: descriptors, memory, processors.
 *
 * Invariant: what cannot be read sets no limit.
 *
 * Reads next: limits.c.
 */
#include "core/limits.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "base/cpus.h"
#include "base/own.h"
#include "base/parse.h"

/* Reads the number in a file of one line. Returns 0, or -errno; -EINVAL: no number
 * ("max"). */
static int file_read_uint(const char *path, uint64_t *ret)
{
	OWN_FILE FILE *f = fopen(path, "re");
	char line[32];

	if (!f)
		return -errno;
	if (!fgets(line, sizeof(line), f))
		return -EIO;
	line[strcspn(line, "\n")] = '\0';
	return parse_uint(line, ret);
}

/* Lowers *memory to the limits of this cgroup and of all above it that can be read. Where
 * the mount shows a container's own cgroup as its root, the path may be the host's: then
 * only the root is there. */
static void cgroup_apply(
        const char *mount, const char *path, const char *file, uint64_t *memory)
{
	char at[2048], name[4096];
	uint64_t limit = 0;

	(void)snprintf(at, sizeof(at), "%s", path);
	for (;;) {
		char *slash = strrchr(at, '/');
		int n = snprintf(name, sizeof(name), "%s%s/%s", mount, at, file);

		if (n > 0 && (size_t)n < sizeof(name) &&
		        file_read_uint(name, &limit) == 0 && limit > 0 && limit < *memory)
			*memory = limit;
		if (!slash)
			return;
		*slash = '\0';
	}
}

/* A line of /proc/self/cgroup: "0::/path" (version 2) or "4:memory:/path" (version 1). */
static void cgroup_line_apply(const char *mount, char *line, uint64_t *memory)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;
	char other[256];

	/* A path out of its namespace begins "/..": nothing there is ours to read. */
	if (!path || path[1] != '/' || strncmp(path + 1, "/..", 3) == 0)
		return;
	*controllers++ = '\0';
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	if (strcmp(line, "0") == 0 && *controllers == '\0') {
		cgroup_apply(mount, path, "memory.max", memory);
		/* Where versions 1 and 2 are mounted side by side. */
		(void)snprintf(other, sizeof(other), "%s/unified", mount);
		cgroup_apply(other, path, "memory.max", memory);
	} else if (strstr(controllers, "memory")) {
		(void)snprintf(other, sizeof(other), "%s/memory", mount);
		cgroup_apply(other, path, "memory.limit_in_bytes", memory);
	}
}

uint64_t limits_cgroup_memory(const char *own, const char *mount, uint64_t memory)
{
	OWN_FILE FILE *f = fopen(own, "re");
	OWN_MEM char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0)
		cgroup_line_apply(mount, line, &memory);
	return memory;
}

/* What of the hard limit can be had. It may be above fs.nr_open, where that was lowered after the limit
 * was inherited: setrlimit(2) then refuses whatever keeps it, and takes nr_open. */
static uint64_t nofile_usable(const struct rlimit *nofile)
{
	uint64_t nr_open;

	if (nofile->rlim_max != RLIM_INFINITY && setrlimit(RLIMIT_NOFILE, nofile) == 0)
		return nofile->rlim_max;
	if (file_read_uint("/proc/sys/fs/nr_open", &nr_open) < 0)
		nr_open = 1048576;
	return nr_open < nofile->rlim_max ? nr_open : nofile->rlim_max;
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
	m.memory = limits_cgroup_memory("/proc/self/cgroup", "/sys/fs/cgroup",
	        (uint64_t)info.totalram * info.mem_unit);
	*ret = m;
	return 0;
}
