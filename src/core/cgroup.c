/*
 * cgroup.c - see cgroup.h.
 */
#include "core/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "base/parse.h"

static const struct cgroup_files version1 = {
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"};
static const struct cgroup_files version2 = {"memory.max", "memory.current", ""};

int cgroup_read(const char *folder, const char *file, uint64_t *ret)
{
	char path[4096], line[32];
	int n = snprintf(path, sizeof(path), "%s/%s", folder, file);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	OWN_FILE FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	if (!fgets(line, sizeof(line), f))
		return -EIO;
	line[strcspn(line, "\n")] = '\0';
	return parse_uint(line, ret);
}

/* Where the mount shows a container's own cgroup as its root, the path may be the host's: then
 * only the root is there. */
static void visit_all(const char *mount, const char *path,
        const struct cgroup_files *files, cgroup_visit *visit, void *arg)
{
	char at[2048], folder[4096];

	(void)snprintf(at, sizeof(at), "%s", path);
	for (;;) {
		char *slash = strrchr(at, '/');
		int n = snprintf(folder, sizeof(folder), "%s%s", mount, at);

		if (n > 0 && (size_t)n < sizeof(folder))
			visit(folder, files, arg);
		if (!slash)
			return;
		*slash = '\0';
	}
}

/* A line of /proc/self/cgroup: "0::/path" (version 2) or "4:memory:/path" (version 1). */
static void visit_line(const char *mount, char *line, cgroup_visit *visit, void *arg)
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
		visit_all(mount, path, &version2, visit, arg);
		/* Where versions 1 and 2 are mounted side by side. */
		(void)snprintf(other, sizeof(other), "%s/unified", mount);
		visit_all(other, path, &version2, visit, arg);
	} else if (strstr(controllers, "memory")) {
		(void)snprintf(other, sizeof(other), "%s/memory", mount);
		visit_all(other, path, &version1, visit, arg);
	}
}

void cgroup_each(const char *own, const char *mount, cgroup_visit *visit, void *arg)
{
	OWN_FILE FILE *f = fopen(own, "re");
	OWN_MEM char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0)
		visit_line(mount, line, visit, arg);
}
