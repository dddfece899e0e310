/*
 * cgroup.h - the memory controller's groups that this process is in.
 */
#ifndef CORE_CGROUP_H
#define CORE_CGROUP_H

#include <stdint.h>

/* Files of a group's folder, by the version of the hierarchy. */
struct cgroup_files {
	const char *limit, *used;
	const char
	        *total; /* before the names of memory.stat that count those below, too */
};

/* A group that this process is in: its folder. */
typedef void cgroup_visit(
        const char *folder, const struct cgroup_files *files, void *arg);

/* Visits the group that the file `own` names, in the form of /proc/self/cgroup, and all above it, below
 * the mount point; version 1, 2 or both. What is not there is visited too. */
void cgroup_each(const char *own, const char *mount, cgroup_visit *visit, void *arg);

/* Reads the number in FOLDER/FILE, of one line. Returns 0, or -errno; -EINVAL: no number ("max"). */
int cgroup_read(const char *folder, const char *file, uint64_t *ret);

#endif
