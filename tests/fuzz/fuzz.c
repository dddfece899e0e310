/*
 * fuzz.c - see fuzz.h.
 */
#include "fuzz.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fuzz_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	/* Not stderr: a harness may have put something else in its place. */
	(void)dprintf(STDERR_FILENO, "%s:%d: ", file, line);
	va_start(args, format);
	(void)vdprintf(STDERR_FILENO, format, args);
	va_end(args);
	(void)dprintf(STDERR_FILENO, "\n");
	abort();
}

struct fuzz_piece fuzz_cut(struct fuzz_piece *rest, const char *at)
{
	struct fuzz_piece piece = *rest;
	const char *found =
	        rest->len > 0 ? memmem(rest->bytes, rest->len, at, strlen(at)) : NULL;

	if (found) {
		piece.len = (size_t)(found - rest->bytes);
		rest->bytes = found + strlen(at);
		rest->len -= piece.len + strlen(at);
	} else {
		rest->bytes += rest->len;
		rest->len = 0;
	}
	return piece;
}

char *fuzz_text(struct fuzz_piece piece)
{
	char *text = malloc(piece.len + 1);

	FUZZ_CHECK(text, "out of memory");
	if (piece.len > 0)
		memcpy(text, piece.bytes, piece.len);
	text[piece.len] = '\0';
	return text;
}

bool fuzz_is(struct fuzz_piece piece, const char *text)
{
	return piece.len == strlen(text) && memcmp(piece.bytes, text, piece.len) == 0;
}

FILE *fuzz_take(struct fuzz_taken *t)
{
	*t = (struct fuzz_taken){.text = NULL};
	t->out = open_memstream(&t->text, &t->len);
	FUZZ_CHECK(t->out, "out of memory");
	return t->out;
}

void fuzz_taken(struct fuzz_taken *t)
{
	FUZZ_CHECK(fclose(t->out) == 0, "out of memory");
	t->out = NULL;
}

void fuzz_drop(struct fuzz_taken *t)
{
	free(t->text);
	t->text = NULL;
	t->len = 0;
}

void fuzz_check_plain(const char *what, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		FUZZ_CHECK((text[i] >= ' ' && text[i] <= '~') || text[i] == '\n',
		        "%s has the byte 0x%02x: %s", what, (unsigned char)text[i], text);
	FUZZ_CHECK(len == 0 || text[len - 1] == '\n',
	        "%s ends in the midst of a line: %s", what, text);
}

void fuzz_check_json(const char *what, const char *text, size_t len)
{
	FUZZ_CHECK(fuzz_is_json(text, len), "%s is no JSON: %s", what, text);
}
