/*
 * getopt_exact.h - getopt_long(3) without its abbreviations.
 */
#ifndef BASE_GETOPT_EXACT_H
#define BASE_GETOPT_EXACT_H

#include <getopt.h>

/* As getopt_long, but a long option has to be spelled out: what a few letters mean would change with
 * every option that is added, and no slip of the hand may mean one. Anything else is unrecognised: said
 * on stderr in getopt's words, and '?' is returned. For a process with one thread. */
int getopt_exact(
        int argc, char **argv, const char *letters, const struct option *options);

#endif
