/*
 * parse.c - strict parsing of the values that people write, and the way back.
 *
 * Invariants: the whole text is looked at before a verdict, so that -EINVAL (not of this
 * form) always wins over -ERANGE (too large); nothing is written but on success; no
 * function here looks at the locale, so a digit is an ASCII digit.
 */
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"

static bool char_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int char_hex_value(char c)
{
	if (char_is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Reads the digits at the start of text. Returns where they end, or NULL if there are
 * none; a number too large to hold sets *ret_over. */
static const char *digits_read(const char *text, uint64_t *ret, bool *ret_over)
{
	uint64_t v = 0;
	bool over = false;
	const char *p = text;

	for (; char_is_digit(*p); p++)
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		        __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			over = true;
	if (p == text)
		return NULL;
	*ret = v;
	*ret_over = over;
	return p;
}

/* What follows the digits of a value, and what it multiplies them with. */
struct unit {
	const char *suffix;
	uint64_t factor;
};

static int parse_with_unit(
        const char *text, const struct unit *units, size_t n_units, uint64_t *ret)
{
	uint64_t v;
	bool over;
	const char *end = digits_read(text, &v, &over);

	if (!end)
		return -EINVAL;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(end, units[i].suffix) != 0)
			continue;
		if (over || __builtin_mul_overflow(v, units[i].factor, &v))
			return -ERANGE;
		*ret = v;
		return 0;
	}
	return -EINVAL;
}

int parse_uint(const char *text, uint64_t *ret)
{
	static const struct unit none[] = {{"", 1}};

	return parse_with_unit(text, none, ARRAY_SIZE(none), ret);
}

int parse_size(const char *text, uint64_t *ret)
{
	static const struct unit units[] = {{"", 1}, {"K", UINT64_C(1) << 10},
	        {"M", UINT64_C(1) << 20}, {"G", UINT64_C(1) << 30}};

	return parse_with_unit(text, units, ARRAY_SIZE(units), ret);
}

int parse_percent(const char *text, uint64_t *ret)
{
	static const struct unit percent[] = {{"%", 1}};

	return parse_with_unit(text, percent, ARRAY_SIZE(percent), ret);
}

/* From the largest on, as parse_format_duration needs them. */
static const struct unit duration_units[] = {
        {"h", 3600 * CLOCK_SEC},
        {"min", 60 * CLOCK_SEC},
        {"s", CLOCK_SEC},
        {"ms", CLOCK_MSEC},
        {"us", CLOCK_USEC},
};

int parse_duration(const char *text, uint64_t *ret_ns)
{
	uint64_t v;

	if (strcmp(text, "infinity") == 0) {
		*ret_ns = CLOCK_INFINITY;
		return 0;
	}
	if (parse_uint(text, &v) == 0) {
		if (v != 0)
			return -EINVAL;
		*ret_ns = 0;
		return 0;
	}
	/* CLOCK_INFINITY is no whole number of microseconds, so no product can be it. */
	return parse_with_unit(text, duration_units, ARRAY_SIZE(duration_units), ret_ns);
}

int parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		bool is_yes = strcmp(text, yes[i]) == 0;

		if (is_yes || strcmp(text, no[i]) == 0) {
			*ret = is_yes;
			return 0;
		}
	}
	return -EINVAL;
}

int parse_mode(const char *text, unsigned *ret)
{
	size_t len = strlen(text);
	unsigned v = 0;

	if (len != 3 && len != 4)
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '7')
			return -EINVAL;
		v = v * 8 + (unsigned)(*p - '0');
	}
	if (v > 0777)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* One character or escape of text into *ret. Returns how much text it took, 0 if it is no
 * escape. */
static size_t escape_read(const char *text, uint8_t *ret)
{
	if (text[0] != '\\') {
		*ret = (uint8_t)text[0];
		return 1;
	}
	switch (text[1]) {
	case 'r':
		*ret = '\r';
		return 2;
	case 'n':
		*ret = '\n';
		return 2;
	case 't':
		*ret = '\t';
		return 2;
	case '\\':
		*ret = '\\';
		return 2;
	case 'x': {
		int high = char_hex_value(text[2]);
		int low = high < 0 ? -1 : char_hex_value(text[3]);

		if (low < 0)
			return 0;
		*ret = (uint8_t)(high * 16 + low);
		return 4;
	}
	default:
		return 0;
	}
}

int parse_escapes(const char *text, size_t max, uint8_t *ret_bytes, size_t *ret_len)
{
	size_t len = 0;
	uint8_t byte;

	for (size_t i = 0; text[i]; len++) {
		size_t took = escape_read(text + i, &byte);

		if (took == 0)
			return -EINVAL;
		i += took;
	}
	if (len > max)
		return -ERANGE;
	for (size_t i = 0, n = 0; n < len; n++)
		i += escape_read(text + i, &ret_bytes[n]);
	*ret_len = len;
	return 0;
}

char *parse_format_duration(uint64_t ns, char buf[static PARSE_DURATION_TEXT_MAX])
{
	if (ns == CLOCK_INFINITY)
		return strcpy(buf, "infinity");
	ns -= ns % CLOCK_USEC;
	if (ns == 0)
		return strcpy(buf, "0s");
	if (ns == 60 * CLOCK_SEC)
		return strcpy(buf, "60s");
	for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++) {
		const struct unit *u = &duration_units[i];

		if (ns % u->factor != 0)
			continue;
		(void)snprintf(buf, PARSE_DURATION_TEXT_MAX, "%llu%s",
		        (unsigned long long)(ns / u->factor), u->suffix);
		break;
	}
	return buf;
}

char *parse_format_escapes(const uint8_t *bytes, size_t len, char *buf, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	static const char named[] = "\rr\nn\tt\\\\";
	char *p = buf;

	for (size_t i = 0; i < len && (size_t)(p - buf) + 5 <= size; i++) {
		uint8_t c = bytes[i];
		const char *name = NULL;

		for (const char *n = named; *n; n += 2)
			if (c == (uint8_t)n[0])
				name = n + 1;
		bool edge = i == 0 || i + 1 == len;

		if (name) {
			*p++ = '\\';
			*p++ = *name;
		} else if (c < 32 || c > 126 || c == ';' || c == '#' ||
		           (c == ' ' && edge)) {
			*p++ = '\\';
			*p++ = 'x';
			*p++ = hex[c >> 4];
			*p++ = hex[c & 15];
		} else {
			*p++ = (char)c;
		}
	}
	*p = '\0';
	return buf;
}
