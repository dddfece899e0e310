/*
 * limits_read.c - a number from a file of /proc or /sys.
 *
 * Invariant: nothing here fails; a value that could not be read says with which errno, and where.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "base/parse.h"
#include "ctl/limits_machine.h"

/* More is what version 1 of cgroups says for «no limit». */
#define FINITE_MAX (UINT64_C(1) << 62)

/* A word of such a file. Returns 0 or -errno. */
static int word_parse(const char *word, uint64_t *ret)
{
	int r = 0;

	if (strcmp(word, "max") == 0 || strcmp(word, "unlimited") == 0 ||
	        strcmp(word, "infinity") == 0)
		*ret = LIMITS_NONE;
	else
		r = parse_uint(word, ret);
	if (r == 0 && *ret >= FINITE_MAX)
		*ret = LIMITS_NONE;
	return r;
}

/* Cuts the field out of the line. Returns 0 or -errno. */
static int line_parse(char *line, unsigned field, uint64_t *ret)
{
	char *rest = NULL, *word = strtok_r(line, " \t\n", &rest);

	while (word && field-- > 0)
		word = strtok_r(NULL, " \t\n", &rest);
	return word ? word_parse(word, ret) : -ENODATA;
}

/* The first line, or the first that starts with key. Returns 0 or -errno. */
static int lines_parse(FILE *f, const char *key, unsigned field, uint64_t *ret)
{
	OWN_MEM char *line = NULL;
	size_t size = 0, len = key ? strlen(key) : 0;

	errno = 0;
	while (getline(&line, &size, f) > 0)
		if (!key || strncmp(line, key, len) == 0)
			return line_parse(line + len, field, ret);
	return errno ? -errno : -ENODATA;
}

static int file_parse(const char *path, const char *key, unsigned field, uint64_t *ret)
{
	OWN_FILE FILE *f = fopen(path, "re");

	return f ? lines_parse(f, key, field, ret) : -errno;
}

void limits_read(const char *root, const char *path, const char *key, unsigned field,
        struct limits_value *ret)
{
	char full[LIMITS_FROM_MAX + 64];

	*ret = (struct limits_value){.n = LIMITS_NONE};
	(void)snprintf(ret->from, sizeof(ret->from), "%s", path);
	(void)snprintf(full, sizeof(full), "%s%s", root, path);
	ret->err = -file_parse(full, key, field, &ret->n);
}

char *limits_process_path(const struct limits_machine *m, const char *file,
        char path[static LIMITS_PROCESS_MAX])
{
	if (m->pid == LIMITS_NONE)
		(void)snprintf(path, LIMITS_PROCESS_MAX, "/proc/self/%s", file);
	else
		(void)snprintf(
		        path, LIMITS_PROCESS_MAX, "/proc/%" PRIu64 "/%s", m->pid, file);
	return path;
}
