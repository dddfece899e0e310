/*
 * usage.h - what portctl says about itself.
 */
#ifndef CTL_USAGE_H
#define CTL_USAGE_H

#include <stddef.h>

/* The text of --help and of --version, whole lines. */
extern const char usage_help[];
extern const char usage_version[];

/* The command that somebody who typed `word` most likely meant, or NULL if none is near.
 */
const char *usage_suggest(const char *word);

#endif
