/*
 * config_files.h - configuration files of a test: written into a directory of its own,
 * loaded, and what was said about them.
 */
#ifndef TEST_CONFIG_FILES_H
#define TEST_CONFIG_FILES_H

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"
#include "core/config.h"

static const char *const services[] = {"tuple", "echo", "discard", NULL};

/* Each test has a directory of its own, which is the current one while it runs; so files
 * have short names, which are what mistakes begin with. */
static char directory[] = "/tmp/portd-test-config-XXXXXX";

static inline void enter(void)
{
	cr_assert(mkdtemp(directory));
	cr_assert_eq(chmod(directory, 0755), 0);
	cr_assert_eq(chdir(directory), 0);
}

static inline void leave(void)
{
	static const char *const files[] = {"a", "b", "fifo", "a.d/1.conf", "a.d/2.conf",
	        "a.d/10.conf", "a.d/.hidden.conf", "a.d/other", "a.d/gone.conf", "d",
	        "a.d"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		(void)remove(files[i]);
	cr_assert_eq(chdir("/"), 0);
	(void)rmdir(directory);
}

static inline void write_bytes(const char *path, const char *bytes, size_t len)
{
	OWN_FILE FILE *f = fopen(path, "w");

	cr_assert(f);
	cr_assert_eq(fwrite(bytes, 1, len, f), len);
}

static inline void write_text(const char *path, const char *text)
{
	write_bytes(path, text, strlen(text));
}

static char said[65536]; /* by the last load */

/* Loads a file with up to two overrides. */
static inline int load(
        const char *path, struct config *ret, const char *first, const char *second)
{
	const char *overrides[] = {first, second};
	struct config_source source = {.file = path,
	        .overrides = overrides,
	        .n_overrides = second  ? 2
	                       : first ? 1
	                               : 0,
	        .services = services};
	OWN_FILE FILE *errors = fmemopen(said, sizeof(said), "w");

	cr_assert(errors);
	said[0] = '\0';
	int r = config_load(&source, ret, errors);
	return r > 0 ? 1 : r;
}

static inline struct config load_text(const char *text)
{
	struct config c;

	write_text("a", text);
	cr_assert_eq(load("a", &c, NULL, NULL), 0, "%s", said);
	cr_assert_str_eq(said, "");
	return c;
}

#endif
