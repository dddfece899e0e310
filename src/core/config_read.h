/*
 * config_read.h - a configuration file, read whole. For config_file.c only. Main thread.
 */
#ifndef CORE_CONFIG_READ_H
#define CORE_CONFIG_READ_H

#include <stddef.h>

#include "core/config_file.h"

/* What a file has, with room for a NUL behind it. */
struct config_bytes {
	char *data; /* the caller's, for free(3); NULL: there is no such file, or it cannot be read */
	size_t len, room;
};

/* Why a name cannot be opened, by errno. NULL: there is no such name. One that exists and leads nowhere
 * is not missing. */
const char *config_name_judge(const char *path, int err);

/* Reads the file at path, of at most CONFIG_FILE_MAX bytes, before the reader's deadline. Returns 0: it
 * was read; or *ret_why says why it could not be; or the reader is late. CONFIG_FILE_MISSING; -ENOMEM. */
int config_read_file(struct config_reader *reader, const char *path,
        enum config_file_kind kind, struct config_bytes *ret, const char **ret_why);

#endif
