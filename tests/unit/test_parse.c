/*
 * test_parse.c - values as people write them: every good form, every bad one, and the way
 * back.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"

/* One text for a parser of numbers: the verdict, and the value if that is 0. */
struct number {
	const char *text;
	int verdict;
	uint64_t value;
};

/* No verdict but 0 may write: the canary must live. */
static void assert_numbers(int (*parse)(const char *, uint64_t *), const char *name,
        const struct number *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 0xdead;
		int r = parse(rows[i].text, &v);

		cr_assert_eq(
		        r, rows[i].verdict, "%s(\"%s\") says %d", name, rows[i].text, r);
		cr_assert_eq(v, r == 0 ? rows[i].value : 0xdead, "%s(\"%s\") gives %llu",
		        name, rows[i].text, (unsigned long long)v);
	}
}

#define ASSERT_NUMBERS(parse, rows) assert_numbers(parse, #parse, rows, ARRAY_SIZE(rows))

/* What no parser of numbers takes. */
static const struct number bad_everywhere[] = {
        {"", -EINVAL, 0}, {" ", -EINVAL, 0}, {" 1", -EINVAL, 0}, {"1 ", -EINVAL, 0},
        {"1\n", -EINVAL, 0}, {"+1", -EINVAL, 0}, {"-1", -EINVAL, 0}, {"-0", -EINVAL, 0},
        {"0x10", -EINVAL, 0}, {"1.5", -EINVAL, 0}, {"1,000", -EINVAL, 0},
        {"1e3", -EINVAL, 0}, {"1_000", -EINVAL, 0}, {"auto", -EINVAL, 0},
        {"nan", -EINVAL, 0}, {"\xd9\xa1", -EINVAL, 0}, /* an Arabic digit one */
        {"1\xc2\xa0", -EINVAL, 0},
        {"99999999999999999999x", -EINVAL, 0}, /* its form counts before its size */
};

Test(parse, every_parser_of_numbers_refuses_what_is_none)
{
	ASSERT_NUMBERS(parse_uint, bad_everywhere);
	ASSERT_NUMBERS(parse_size, bad_everywhere);
	ASSERT_NUMBERS(parse_percent, bad_everywhere);
	ASSERT_NUMBERS(parse_duration, bad_everywhere);
}

Test(parse, uint)
{
	static const struct number rows[] = {
	        {"0", 0, 0},
	        {"7", 0, 7},
	        {"007", 0, 7},
	        {"18446744073709551615", 0, UINT64_MAX},
	        {"18446744073709551616", -ERANGE, 0},
	        {"99999999999999999999999", -ERANGE, 0},
	        {"4K", -EINVAL, 0},
	        {"5%", -EINVAL, 0},
	        {"infinity", -EINVAL, 0},
	};

	ASSERT_NUMBERS(parse_uint, rows);
}

Test(parse, size)
{
	static const struct number rows[] = {
	        {"0", 0, 0},
	        {"512", 0, 512},
	        {"1K", 0, 1024},
	        {"3M", 0, 3U << 20},
	        {"2G", 0, UINT64_C(2) << 30},
	        {"17179869183G", 0, UINT64_C(17179869183) << 30},
	        {"17179869184G", -ERANGE, 0},
	        {"18446744073709551616K", -ERANGE, 0},
	        {"1k", -EINVAL, 0},
	        {"1 K", -EINVAL, 0},
	        {"1KB", -EINVAL, 0},
	        {"1KK", -EINVAL, 0},
	        {"K", -EINVAL, 0},
	        {"1T", -EINVAL, 0},
	};

	ASSERT_NUMBERS(parse_size, rows);
}

Test(parse, percent)
{
	static const struct number rows[] = {
	        {"0%", 0, 0},
	        {"95%", 0, 95},
	        {"250%", 0, 250},
	        {"95", -EINVAL, 0},
	        {"95 %", -EINVAL, 0},
	        {"95%%", -EINVAL, 0},
	        {"%", -EINVAL, 0},
	        {"18446744073709551616%", -ERANGE, 0},
	};

	ASSERT_NUMBERS(parse_percent, rows);
}

Test(parse, duration)
{
	static const struct number rows[] = {
	        {"0", 0, 0}, {"0s", 0, 0}, {"0h", 0, 0}, {"1us", 0, CLOCK_USEC},
	        {"500ms", 0, 500 * CLOCK_MSEC}, {"30s", 0, 30 * CLOCK_SEC},
	        {"5min", 0, 300 * CLOCK_SEC}, {"1h", 0, 3600 * CLOCK_SEC},
	        {"infinity", 0, CLOCK_INFINITY},
	        {"18446744073s", 0, 18446744073 * CLOCK_SEC},
	        {"18446744074s", -ERANGE, 0}, {"5124096h", -ERANGE, 0},
	        {"18446744073709551616us", -ERANGE, 0}, {"5", -EINVAL, 0},
	        {"5 s", -EINVAL, 0}, {"5S", -EINVAL, 0}, {"5m", -EINVAL, 0},
	        {"5sec", -EINVAL, 0}, {"5d", -EINVAL, 0}, {"s", -EINVAL, 0},
	        {"1h30min", -EINVAL, 0}, {"Infinity", -EINVAL, 0}, {"inf", -EINVAL, 0},
	        {"never", -EINVAL, 0},
	        {"18446744073709551616", -EINVAL,
	                0}, /* without a unit it is no duration */
	};

	ASSERT_NUMBERS(parse_duration, rows);
}

Test(parse, a_duration_prints_as_it_reads)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} rows[] = {
	        {0, "0s"},
	        {999, "0s"},
	        {CLOCK_USEC, "1us"},
	        {CLOCK_MSEC, "1ms"},
	        {1500 * CLOCK_MSEC, "1500ms"},
	        {CLOCK_SEC, "1s"},
	        {60 * CLOCK_SEC, "60s"},
	        {61 * CLOCK_SEC, "61s"},
	        {120 * CLOCK_SEC, "2min"},
	        {600 * CLOCK_SEC, "10min"},
	        {3600 * CLOCK_SEC, "1h"},
	        {5400 * CLOCK_SEC, "90min"},
	        {CLOCK_INFINITY, "infinity"},
	        {CLOCK_INFINITY - 1, "18446744073709551us"},
	};
	char buf[PARSE_DURATION_TEXT_MAX];
	uint64_t back;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		cr_assert_str_eq(parse_format_duration(rows[i].ns, buf), rows[i].text);
		cr_assert_eq(parse_duration(buf, &back), 0);
		if (rows[i].ns != CLOCK_INFINITY)
			cr_assert_eq(back, rows[i].ns - rows[i].ns % CLOCK_USEC);
		else
			cr_assert_eq(back, CLOCK_INFINITY);
	}
}

Test(parse, truth)
{
	static const char *const good[2][4] = {
	        {"no", "false", "off", "0"}, {"yes", "true", "on", "1"}};
	static const char *const bad[] = {"", "Yes", "y", "2", "00", "on ", "enabled"};
	bool v;

	for (unsigned i = 0; i < 8; i++) {
		v = i < 4;
		cr_assert_eq(
		        parse_bool(good[i / 4][i % 4], &v), 0, "%s", good[i / 4][i % 4]);
		cr_assert_eq(v, i >= 4, "%s", good[i / 4][i % 4]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_assert_eq(parse_bool(bad[i], &v), -EINVAL, "'%s'", bad[i]);
}

Test(parse, mode)
{
	static const struct {
		const char *text;
		int verdict;
		unsigned mode;
	} rows[] = {
	        {"0660", 0, 0660},
	        {"660", 0, 0660},
	        {"000", 0, 0},
	        {"0777", 0, 0777},
	        {"1777", -ERANGE, 0},
	        {"7777", -ERANGE, 0},
	        {"", -EINVAL, 0},
	        {"66", -EINVAL, 0},
	        {"00660", -EINVAL, 0},
	        {"0668", -EINVAL, 0},
	        {"-660", -EINVAL, 0},
	        {"0x66", -EINVAL, 0},
	        {"660 ", -EINVAL, 0},
	        {"rw-", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned v = 0xdead;
		int r = parse_mode(rows[i].text, &v);

		cr_assert_eq(r, rows[i].verdict, "'%s' says %d", rows[i].text, r);
		cr_assert_eq(v, r == 0 ? rows[i].mode : 0xdead, "'%s'", rows[i].text);
	}
}

Test(parse, escapes)
{
	static const struct {
		const char *text;
		int verdict;
		size_t len;
		const char *bytes;
	} rows[] = {
	        {"", 0, 0, ""},
	        {"busy", 0, 4, "busy"},
	        {"a\\r\\n\\t\\\\b", 0, 6, "a\r\n\t\\b"},
	        {"\\x00\\xFF\\x7f", 0, 3, "\0\xff\x7f"},
	        {"\\x4142", 0, 3, "A42"},
	        {"gr\xc3\xbc\xc3\x9f", 0, 6, "gr\xc3\xbc\xc3\x9f"},
	        {"12345678", 0, 8, "12345678"},
	        {"123456789", -ERANGE, 0, NULL},
	        {"\\x31\\x32\\x33\\x34\\x35\\x36\\x37\\x38", 0, 8, "12345678"},
	        {"\\", -EINVAL, 0, NULL},
	        {"a\\", -EINVAL, 0, NULL},
	        {"\\q", -EINVAL, 0, NULL},
	        {"\\0", -EINVAL, 0, NULL},
	        {"\\x", -EINVAL, 0, NULL},
	        {"\\x4", -EINVAL, 0, NULL},
	        {"\\x4g", -EINVAL, 0, NULL},
	        {"\\X41", -EINVAL, 0, NULL},
	        {"123456789\\q", -EINVAL, 0, NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t bytes[9] = "########";
		size_t len = 99;
		int r = parse_escapes(rows[i].text, 8, bytes, &len);

		cr_assert_eq(r, rows[i].verdict, "'%s' says %d", rows[i].text, r);
		cr_assert_eq(len, r == 0 ? rows[i].len : 99, "'%s'", rows[i].text);
		cr_assert_eq(bytes[8], 0, "'%s' wrote past its end", rows[i].text);
		if (r == 0)
			cr_assert_eq(memcmp(bytes, rows[i].bytes, len), 0, "'%s'",
			        rows[i].text);
		else
			cr_assert_eq(bytes[0], '#', "'%s' wrote in vain", rows[i].text);
	}
}

Test(parse, escapes_print_as_they_read)
{
	uint8_t bytes[256], back[256];
	char text[4 * 256 + 1];
	size_t len;

	for (unsigned i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	parse_format_escapes(bytes, 256, text, sizeof(text));
	for (const char *p = text; *p; p++)
		cr_assert(*p >= 32 && *p <= 126 && *p != ';' && *p != '#', "byte %d", *p);
	cr_assert_eq(parse_escapes(text, sizeof(back), back, &len), 0);
	cr_assert_eq(len, 256);
	cr_assert_eq(memcmp(bytes, back, 256), 0);

	/* A blank at an edge would be trimmed, a ';' after one would begin a comment. */
	cr_assert_str_eq(
	        parse_format_escapes((const uint8_t *)" a ; b ", 7, text, sizeof(text)),
	        "\\x20a \\x3b b\\x20");
	cr_assert_str_eq(
	        parse_format_escapes((const uint8_t *)" ", 1, text, sizeof(text)),
	        "\\x20");
	cr_assert_str_eq(parse_format_escapes(bytes, 0, text, sizeof(text)), "");
	/* The smallest buffer that the contract allows. */
	cr_assert_str_eq(parse_format_escapes(bytes, 1, text, 5), "\\x00");
}
