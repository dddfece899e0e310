/*
 * limits_cgroup.c - the limits of the control groups of a process, both versions of cgroups.
 *
 * Invariants: a limit of any group above counts as one of the process's own; the least wins. A
 * group without the file has no limit; what cannot be read is an error only if nothing can.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/own.h"
#include "ctl/limits_machine.h"

/* Longest path of a group that is looked at. */
#define GROUP_MAX (LIMITS_FROM_MAX - 64)

struct kind {
	const char *controller;
	const char *limit[2], *used[2]; /* file names of version 1 and 2 */
};

static const struct kind kinds[] = {
        {"memory", {"memory.limit_in_bytes", "memory.max"},
                {"memory.usage_in_bytes", "memory.current"}},
        {"pids", {"pids.max", "pids.max"}, {"pids.current", "pids.current"}},
};

/* Where the hierarchies are mounted, as systemd does it; `unified` beside version 1. */
static const char *const mounts_v2[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

/* One line of /proc/PID/cgroup: "0::/path" (version 2) or "4:memory:/path". Cuts it up. Returns
 * the path, or NULL if it is of no use: outside of this cgroup namespace, or too long. */
static char *line_cut(char *line, char **ret_controllers)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return NULL;
	*controllers++ = '\0';
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	*ret_controllers = controllers;
	if (*path != '/' || strncmp(path, "/..", 3) == 0 || strlen(path) >= GROUP_MAX)
		return NULL;
	return path;
}

/* Does the comma-separated list have the word? */
static bool list_has(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; list; list = strchr(list, ','), list = list ? list + 1 : NULL)
		if (strncmp(list, word, len) == 0 && (list[len] == ',' || !list[len]))
			return true;
	return false;
}

/* A group that is there and has no such file has no such limit: the root group, for one. */
static void absence_judge(const char *root, const char *group, struct limits_value *here)
{
	char path[LIMITS_FROM_MAX + 64];

	(void)snprintf(path, sizeof(path), "%s%s", root, group);
	if (here->err != ENOENT || access(path, F_OK) < 0)
		return;
	here->err = 0;
	(void)snprintf(here->from, sizeof(here->from), "%s", group);
}

/* Is the limit of this group less than what was found so far? Then it and its use are. */
static void group_look(const char *root, const char *group, const char *limit,
        const char *used, struct limits_value *least, struct limits_value *least_used)
{
	char path[LIMITS_FROM_MAX + 64];
	struct limits_value here;

	(void)snprintf(path, sizeof(path), "%s/%s", group, limit);
	limits_read(root, path, NULL, 0, &here);
	absence_judge(root, group, &here);
	/* The first error stays until there is something better. */
	if (here.err ? least->err != ENODATA : !least->err && here.n >= least->n)
		return;
	*least = here;
	(void)snprintf(path, sizeof(path), "%s/%s", group, used);
	limits_read(root, path, NULL, 0, least_used);
}

/* The group at mount + path and those above it. */
static void groups_look(const char *root, const char *mount, const char *path,
        const struct kind *kind, unsigned version, struct limits_value *least,
        struct limits_value *least_used)
{
	char group[GROUP_MAX + 64];
	size_t base = strlen(mount);

	(void)snprintf(
	        group, sizeof(group), "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
	for (;;) {
		group_look(root, group, kind->limit[version - 1], kind->used[version - 1],
		        least, least_used);
		char *slash = strrchr(group + base, '/');
		if (!slash)
			return;
		*slash = '\0';
	}
}

static void line_look(const char *root, char *line, const struct kind *kind,
        struct limits_value *least, struct limits_value *used)
{
	char *controllers = NULL, *path = line_cut(line, &controllers), mount[64];

	if (!path)
		return;
	if (strcmp(line, "0") == 0 && !*controllers) {
		for (size_t i = 0; i < ARRAY_SIZE(mounts_v2); i++)
			groups_look(root, mounts_v2[i], path, kind, 2, least, used);
	} else if (list_has(controllers, kind->controller)) {
		(void)snprintf(
		        mount, sizeof(mount), "/sys/fs/cgroup/%s", kind->controller);
		groups_look(root, mount, path, kind, 1, least, used);
	}
}

/* Opens /proc/PID/cgroup; name is its path. */
static FILE *groups_open(const char *root, const struct limits_machine *m,
        char name[static LIMITS_PROCESS_MAX])
{
	char path[256];

	(void)snprintf(
	        path, sizeof(path), "%s%s", root, limits_process_path(m, "cgroup", name));
	return fopen(path, "re");
}

static void kind_read(const char *root, const struct limits_machine *m,
        const struct kind *kind, struct limits_value *least, struct limits_value *used)
{
	char name[LIMITS_PROCESS_MAX];
	OWN_MEM char *line = NULL;
	size_t size = 0;

	*least = (struct limits_value){.n = LIMITS_NONE, .err = ENODATA};
	*used = *least;
	OWN_FILE FILE *f = groups_open(root, m, name);
	(void)snprintf(least->from, sizeof(least->from), "%s", name);
	if (!f)
		least->err = errno;
	while (f && getline(&line, &size, f) > 0)
		line_look(root, line, kind, least, used);
}

void limits_cgroup_read(const char *root, struct limits_machine *m)
{
	kind_read(root, m, &kinds[0], &m->cgroup_memory, &m->cgroup_memory_used);
	kind_read(root, m, &kinds[1], &m->cgroup_pids, &m->cgroup_pids_used);
}

void limits_cgroup_unit(const char *root, const struct limits_machine *m,
        char name[static LIMITS_NAME_MAX])
{
	static const char suffix[] = ".service";
	char file[LIMITS_PROCESS_MAX];
	OWN_MEM char *line = NULL;
	size_t size = 0;

	*name = '\0';
	OWN_FILE FILE *f = groups_open(root, m, file);
	while (f && getline(&line, &size, f) > 0) {
		char *controllers = NULL, *path = line_cut(line, &controllers);
		const char *last = path ? strrchr(path, '/') + 1 : "";
		size_t len = strlen(last);
		bool systemd =
		        path && (list_has(controllers, "name=systemd") || !*controllers);

		if (systemd && len > strlen(suffix) && len < LIMITS_NAME_MAX &&
		        strcmp(last + len - strlen(suffix), suffix) == 0)
			(void)snprintf(name, LIMITS_NAME_MAX, "%s", last);
	}
}
