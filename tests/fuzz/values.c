/*
 * values.c - numbers, sizes, percentages, durations, words, modes and escapes: the whole input as a
 * text, for every parser of base/parse.h; and what writes any bytes as text.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/near.h"
#include "base/own.h"
#include "base/parse.h"
#include "ctl/local.h"

/* Nothing parses to it but by writing it. */
#define UNTOUCHED UINT64_C(0xa5a5a5a5a5a5a5a5)

__extension__ typedef unsigned __int128 wide;

/* What a number of digits with this suffix would be, however large. Returns false if text is not of
 * that form; *ret_over if it is too large for 64 bits. */
static bool expect(const char *text, const char *suffix, uint64_t factor, uint64_t *ret,
        bool *ret_over)
{
	size_t digits = strspn(text, "0123456789");
	wide v = 0;

	if (digits == 0 || strcmp(text + digits, suffix) != 0)
		return false;
	for (size_t i = 0; i < digits; i++) {
		v = v * 10 + (unsigned char)(text[i] - '0');
		if (v > UINT64_MAX)
			v = (wide)UINT64_MAX + 1;
	}
	v *= factor;
	*ret_over = v > UINT64_MAX;
	*ret = (uint64_t)v;
	return true;
}

struct form {
	const char *suffix;
	uint64_t factor;
};

/* The parser says what `forms` say. */
static void check_number(const char *text, int (*parse)(const char *, uint64_t *),
        const struct form *forms, size_t n_forms)
{
	uint64_t got = UNTOUCHED, expected = UNTOUCHED;
	bool over = false, is = false;
	int r = parse(text, &got);

	for (size_t i = 0; i < n_forms && !is; i++)
		is = expect(text, forms[i].suffix, forms[i].factor, &expected, &over);
	FUZZ_CHECK(r == (!is ? -EINVAL : over ? -ERANGE : 0), "'%s': %d", text, r);
	FUZZ_CHECK(got == (r == 0 ? expected : UNTOUCHED), "'%s' is %llu", text,
	        (unsigned long long)got);
}

static void check_numbers(const char *text)
{
	static const struct form plain[] = {{"", 1}}, percent[] = {{"%", 1}};
	static const struct form size[] = {
	        {"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}};

	check_number(text, parse_uint, plain, ARRAY_SIZE(plain));
	check_number(text, parse_size, size, ARRAY_SIZE(size));
	check_number(text, parse_percent, percent, ARRAY_SIZE(percent));
}

static void check_duration(const char *text)
{
	static const struct form forms[] = {{"us", CLOCK_USEC}, {"ms", CLOCK_MSEC},
	        {"s", CLOCK_SEC}, {"min", 60 * CLOCK_SEC}, {"h", 3600 * CLOCK_SEC}};
	char shown[PARSE_DURATION_TEXT_MAX], again[PARSE_DURATION_TEXT_MAX];
	uint64_t ns = UNTOUCHED, back, zero;
	int r = parse_duration(text, &ns);

	if (strcmp(text, "infinity") == 0)
		FUZZ_CHECK(r == 0 && ns == CLOCK_INFINITY, "infinity: %d", r);
	else if (parse_uint(text, &zero) == 0 && zero == 0)
		FUZZ_CHECK(r == 0 && ns == 0, "'%s': %d", text, r);
	else
		check_number(text, parse_duration, forms, ARRAY_SIZE(forms));
	if (r != 0)
		return;
	FUZZ_CHECK(parse_duration(parse_format_duration(ns, shown), &back) == 0 &&
	                   back == ns,
	        "'%s' is shown as '%s'", text, shown);
	FUZZ_CHECK(strcmp(parse_format_duration(back, again), shown) == 0,
	        "'%s' is shown as '%s' and '%s'", text, shown, again);
}

static void check_words(const char *text)
{
	unsigned mode = 01000, back;
	bool is = false;
	char shown[8];

	if (parse_mode(text, &mode) == 0) {
		FUZZ_CHECK(mode <= 0777, "'%s' is %o", text, mode);
		(void)snprintf(shown, sizeof(shown), "%04o", mode);
		FUZZ_CHECK(parse_mode(shown, &back) == 0 && back == mode, "'%s' is %s",
		        text, shown);
	} else {
		FUZZ_CHECK(mode == 01000, "'%s' was refused, and written", text);
	}
	if (parse_bool(text, &is) == 0)
		FUZZ_CHECK(strlen(text) <= 5, "'%s' is %d", text, is);
}

/* Bytes as text, and back. */
static void check_bytes(const uint8_t *bytes, size_t len)
{
	size_t size = 4 * len + 1, back_len = 0;
	OWN_MEM char *shown = malloc(size);
	OWN_MEM uint8_t *back = malloc(len + 1);

	FUZZ_CHECK(shown && back, "out of memory");
	parse_format_escapes(bytes, len, shown, size);
	size_t n = strlen(shown);

	for (size_t i = 0; i < n; i++)
		FUZZ_CHECK(shown[i] >= ' ' && shown[i] <= '~' && shown[i] != ';' &&
		                   shown[i] != '#',
		        "'%s' is no plain text", shown);
	FUZZ_CHECK(n == 0 || (shown[0] != ' ' && shown[n - 1] != ' '),
	        "'%s' has a blank at an end", shown);
	FUZZ_CHECK(parse_escapes(shown, len, back, &back_len) == 0 && back_len == len &&
	                   (len == 0 || memcmp(back, bytes, len) == 0),
	        "'%s' does not read back", shown);
	if (len > 0)
		FUZZ_CHECK(parse_escapes(shown, len - 1, back, &back_len) == -ERANGE,
		        "'%s' fits %zu bytes", shown, len - 1);
	/* What does not fit is cut, between two characters. */
	size_t room = len % 23 + 1;
	OWN_MEM char *cut = malloc(room);

	FUZZ_CHECK(cut, "out of memory");
	parse_format_escapes(bytes, len, cut, room);
	FUZZ_CHECK(strlen(cut) < room, "'%s' is longer than %zu", cut, room);
}

static void check_escapes(const char *text)
{
	size_t max = strlen(text), len = SIZE_MAX;
	OWN_MEM uint8_t *bytes = malloc(max + 1);

	FUZZ_CHECK(bytes, "out of memory");
	int r = parse_escapes(text, max, bytes, &len);

	FUZZ_CHECK(r == 0 || (r == -EINVAL && len == SIZE_MAX), "'%s': %d", text, r);
	if (r == 0)
		check_bytes(bytes, len);
}

/* A text for programs, and one with its times for people. */
static void check_shown(const char *text, const char *bytes, size_t len)
{
	static const struct near_word words[] = {
	        {"stats", "stats"}, {"health", "health"}, {"drain", "drain"}};
	struct fuzz_taken json, local;

	json_put_string(fuzz_take(&json), text);
	fuzz_taken(&json);
	fuzz_check_json("a string", json.text, json.len);
	fuzz_drop(&json);
	local_write(bytes, len, fuzz_take(&local));
	fuzz_taken(&local);
	FUZZ_CHECK(local.len >= len || memchr(bytes, 'T', len), "'%s' became '%s'", text,
	        local.text);
	fuzz_drop(&local);
	const char *near = near_suggest(text, words, ARRAY_SIZE(words));
	FUZZ_CHECK(
	        !near || strlen(text) <= strlen(near) + 2, "'%s' is near %s", text, near);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct fuzz_piece piece = {(const char *)data, size};
	OWN_MEM char *text = fuzz_text(piece);

	check_numbers(text);
	check_duration(text);
	check_words(text);
	check_escapes(text);
	check_bytes(data, size);
	check_shown(text, text, size);
	return 0;
}
