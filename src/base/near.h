/*
 * near.h - which word somebody most likely meant who typed another.
 */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include <stddef.h>

/* A word that may be meant, and what to suggest then. */
struct near_word {
	const char *word;
	const char *suggestion;
};

/* The suggestion of the nearest of these n words, of which `typed` may be the beginning; NULL if none
 * is near. It is the table's. */
const char *near_suggest(const char *typed, const struct near_word *words, size_t n);

#endif
