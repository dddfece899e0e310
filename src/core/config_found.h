/*
 * config_found.h - which files a configuration was read from, so that files which vanish are not
 * taken for the defaults.
 */
#ifndef CORE_CONFIG_FOUND_H
#define CORE_CONFIG_FOUND_H

#include "core/config_file.h"

/* Looks at the drop-in directory: before it is read. */
void config_found_look(struct config_found *found, const char *directory);

/* A mistake for each place that `before` was read from and that is gone: the file; the directory,
 * with all drop-ins. A drop-in that was taken out of its directory is none, nor are all of them: that
 * is how drop-ins are taken back. A directory that is another one now (a file system was unmounted)
 * and empty is gone. */
void config_found_compare(struct config_reader *reader, const struct config_found *before,
        const struct config_found *now, const char *file, const char *directory);

#endif
