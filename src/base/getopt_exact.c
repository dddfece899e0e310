/*
 * getopt_exact.c - getopt_long(3) without its abbreviations.
 */
#include "base/getopt_exact.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Is word «--NAME» or «--NAME=…»? */
static bool spells(const char *word, const char *name)
{
	size_t len = strlen(name);

	return strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, len) == 0 &&
	       (word[2 + len] == '\0' || word[2 + len] == '=');
}

int getopt_exact(int argc, char **argv, const char *letters, const struct option *options)
{
	int at = -1;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the contract says so. */
	int id = getopt_long(argc, argv, letters, options, &at);

	/* A letter, a word, the end, or said already. */
	if (at < 0 || id == '?' || id == ':')
		return id;
	/* The word is behind us, or its value, if that was a word of its own: which may spell the name,
	 * where the word did not. */
	const char *word = argv[optind - (optarg == argv[optind - 1] ? 2 : 1)];

	if (spells(word, options[at].name))
		return id;
	(void)fprintf(stderr, "%s: unrecognized option '%s'\n", argv[0], word);
	return '?';
}
