/*
 * parse.h - strict parsing of the values that people write, and the way back.
 *
 * Every parser takes the whole text: no blanks around it, no sign, no leftovers, no
 * locale. Returns 0, -EINVAL (not of this form) or -ERANGE (of this form, but too large
 * to hold). *ret is written on success only.
 */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits. */
int parse_uint(const char *text, uint64_t *ret);

/* Digits with an optional K, M or G (powers of 1024). */
int parse_size(const char *text, uint64_t *ret);

/* Digits with a unit (us, ms, s, min, h), or "0", or "infinity" (CLOCK_INFINITY). A bare
 * number other than 0 is -EINVAL: nobody should have to guess the unit. Result in ns. */
int parse_duration(const char *text, uint64_t *ret_ns);

/* Digits and a '%'; the result is the number before it, not limited to 100. */
int parse_percent(const char *text, uint64_t *ret);

/* yes, no, true, false, on, off, 1, 0. */
int parse_bool(const char *text, bool *ret);

/* Three or four octal digits up to 0777, as chmod(1) takes them: "0660", "660". */
int parse_mode(const char *text, unsigned *ret);

/* Escapes \r \n \t \\ \xNN; every other character stands for itself; another backslash is
 * -EINVAL. At most max bytes, else -ERANGE. */
int parse_escapes(const char *text, size_t max, uint8_t *ret_bytes, size_t *ret_len);

/* The text that parse_duration reads back as ns, in the largest unit that is whole:
 * "10min", "1500ms", "0s"; one minute is "60s". Only whole microseconds are kept. Returns
 * the buffer. */
#define PARSE_DURATION_TEXT_MAX 32
char *parse_format_duration(uint64_t ns, char buf[static PARSE_DURATION_TEXT_MAX]);

/* The text that parse_escapes reads back as these bytes, all of it printable ASCII
 * without a blank at either end and without ';' or '#' (those come as \xNN). size must be
 * at least 4 * len + 1. Returns the buffer. */
char *parse_format_escapes(const uint8_t *bytes, size_t len, char *buf, size_t size);

#endif
