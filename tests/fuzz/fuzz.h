/*
 * fuzz.h - what the fuzzing harnesses share.
 *
 * A harness is one file with LLVMFuzzerTestOneInput. It checks what portd promises of any input, and not
 * only that nothing crashes. clang links it with libFuzzer (make fuzz), gcc with replay.c, which runs
 * the inputs in tests/fuzz/corpus (make check). A harness reaches nothing outside of its process: files
 * are memfds, sockets are pairs, and what would ask the machine is replaced by the linker (--wrap).
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The input is data's only until it returns. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what is wrong, and aborts: that is how libFuzzer and replay.c know. */
_Noreturn void fuzz_fail(const char *file, int line, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
#define FUZZ_CHECK(condition, ...) \
	do { \
		if (!(condition)) \
			fuzz_fail(__FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

/* A part of an input. */
struct fuzz_piece {
	const char *bytes;
	size_t len;
};

/* Cuts the piece before the first `at` off *rest, and `at` with it; all of it where there is none. */
struct fuzz_piece fuzz_cut(struct fuzz_piece *rest, const char *at);
/* What separates the pieces of an input that is made of several. */
#define FUZZ_NEXT "\n%%\n"
/* A copy with a NUL at its end, for free(3). A NUL inside ends it early for who reads a string. */
char *fuzz_text(struct fuzz_piece piece);
bool fuzz_is(struct fuzz_piece piece, const char *text);

/* What is written to `file` until fuzz_taken. */
struct fuzz_taken {
	FILE *out;
	char *text; /* valid after fuzz_taken */
	size_t len;
};
FILE *fuzz_take(struct fuzz_taken *t);
void fuzz_taken(struct fuzz_taken *t);
void fuzz_drop(struct fuzz_taken *t);

/* Lines of printable ASCII, each with its end: what may go to a terminal. `what` names the text. */
void fuzz_check_plain(const char *what, const char *text, size_t len);
/* One JSON value (RFC 8259) and nothing else but white space around it. */
bool fuzz_is_json(const char *text, size_t len);
void fuzz_check_json(const char *what, const char *text, size_t len);

#endif
