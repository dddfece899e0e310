/*
 * config_file.h - the lines of configuration files, for config.c: it knows the shape of a
 * line and where it stands, and nothing of what the keys mean.
 *
 * Main thread only.
 */
#ifndef CORE_CONFIG_FILE_H
#define CORE_CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/clock.h"
#include "core/config.h"

/* Bytes of one line without its end, and of one file. Both are far above any use: they
 * bound what a wrong -c (a disk image, /dev/zero) can cost. */
#define CONFIG_LINE_MAX 131072
#define CONFIG_FILE_MAX 1048576
/* Longest name of a section or key: inih 55 keeps no more. */
#define CONFIG_WORD_MAX 49

/* What was seen: any bytes, not owned. */
struct config_seen {
	const char *bytes;
	size_t len;
};

/* Who gets the lines. */
struct config_reader {
	/* A [section] line. Returns whether its keys are wanted; if not, it has said why.
	 */
	bool (*section)(void *arg, const struct config_place *place, const char *name);
	/* A key = value line of a wanted section; the value is trimmed, without comment.
	 */
	void (*key)(void *arg, const struct config_place *place, const char *section,
	        const char *key, const char *value);
	/* A file begins: what was set in an earlier one may be set again. */
	void (*begin)(void *arg);
	void *arg;
	FILE *errors;
	unsigned named;    /* so many mistakes are written to errors; 0: all */
	unsigned mistakes; /* so far; those beyond are only counted */
	uint64_t patience; /* ns: what all files together may take … */
	uint64_t deadline; /* … and until when that is */
	bool late;         /* it has passed: the rest is not read */
};

/* Whether the next mistake is written. If not, its words need not be looked for either. */
static inline bool config_names_next(const struct config_reader *reader)
{
	return reader->named == 0 || reader->mistakes < reader->named;
}

/* Whether the files have had their time. */
static inline bool config_reader_is_late(struct config_reader *reader)
{
	reader->late |= clock_now() >= reader->deadline;
	return reader->late;
}

/* Writes «PLACE: [section] key: 'seen' what is wrong», a line, and counts it. section,
 * key and seen may be NULL and are then left out. */
void config_mistake(struct config_reader *reader, const struct config_place *place,
        const char *section, const char *key, const struct config_seen *seen,
        const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Copies bytes as text, those that are not printable ASCII as \xNN; cut to size. */
void config_escape(char *buf, size_t size, const char *bytes, size_t len);

/* What makes these bytes no text («has a NUL byte»), NULL if nothing does. */
const char *config_bytes_judge(const char *bytes, size_t len);

/* What a file is to the configuration. */
enum config_file_kind {
	CONFIG_FILE_NAMED,   /* it has to exist */
	CONFIG_FILE_DEFAULT, /* it need not */
	CONFIG_FILE_DROP_IN  /* it has to exist, and to be there again at every reload */
};

/* A positive outcome of config_file_read: a CONFIG_FILE_DEFAULT is not there. */
#define CONFIG_FILE_MISSING 1

/* Reads one file. Returns 0, mistakes counted or not; CONFIG_FILE_MISSING; -ENOMEM. */
int config_file_read(
        struct config_reader *reader, const char *path, enum config_file_kind kind);

/* Reads the *.conf of the directory in name order (strcmp), hidden ones left out. A
 * directory that does not exist is no mistake; a name that leads nowhere is one. Returns how many
 * files there are, mistakes counted or not; -ENOMEM. */
int config_file_read_directory(struct config_reader *reader, const char *path);

#endif
