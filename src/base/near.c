/*
 * near.c - see near.h.
 */
#include "base/near.h"

#include <string.h>

/* Longer words are near nothing. */
#define WORD_MAX 16

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* How many letters to insert, drop, change or swap with their neighbour to turn a into b;
 * both shorter than WORD_MAX (optimal string alignment). */
static unsigned distance(const char *a, const char *b)
{
	size_t len_a = strlen(a), len_b = strlen(b);
	unsigned d[WORD_MAX][WORD_MAX];

	for (size_t i = 0; i <= len_a; i++)
		d[i][0] = (unsigned)i;
	for (size_t k = 0; k <= len_b; k++)
		d[0][k] = (unsigned)k;
	for (size_t i = 1; i <= len_a; i++)
		for (size_t k = 1; k <= len_b; k++) {
			unsigned cost = a[i - 1] != b[k - 1];

			d[i][k] = least(least(d[i - 1][k], d[i][k - 1]) + 1,
			        d[i - 1][k - 1] + cost);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] &&
			        a[i - 2] == b[k - 1])
				d[i][k] = least(d[i][k], d[i - 2][k - 2] + 1);
		}
	return d[len_a][len_b];
}

const char *near_suggest(const char *typed, const struct near_word *words, size_t n)
{
	size_t len = strlen(typed);
	const char *nearest = NULL;
	/* Two mistakes, but never so many that nothing of the word is left. */
	unsigned best = len < 4 ? 2 : 3;

	if (len >= WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(typed, words[i].word);

		if (len >= 2 && strncmp(typed, words[i].word, len) == 0)
			d = least(d, 1);
		if (d < best) {
			best = d;
			nearest = words[i].suggestion;
		}
	}
	return nearest;
}
