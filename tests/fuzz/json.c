/*
 * json.c - is a text JSON? The grammar of RFC 8259, a function for each rule, as strict as it is.
 */
#include "fuzz.h"

#include <string.h>

#define DEPTH_MAX 32

struct json {
	const char *at, *end;
	unsigned depth;
};

static bool json_value(struct json *j);

static void json_blanks(struct json *j)
{
	while (j->at < j->end && memchr(" \t\r\n", *j->at, 4))
		j->at++;
}

static bool json_take(struct json *j, char c)
{
	if (j->at == j->end || *j->at != c)
		return false;
	j->at++;
	return true;
}

static bool json_word(struct json *j, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(j->end - j->at) < len || memcmp(j->at, word, len) != 0)
		return false;
	j->at += len;
	return true;
}

static size_t json_digits(struct json *j)
{
	const char *from = j->at;

	while (j->at < j->end && *j->at >= '0' && *j->at <= '9')
		j->at++;
	return (size_t)(j->at - from);
}

static bool json_number(struct json *j)
{
	(void)json_take(j, '-');
	if (!json_take(j, '0') && json_digits(j) == 0)
		return false;
	if (json_take(j, '.') && json_digits(j) == 0)
		return false;
	if (json_take(j, 'e') || json_take(j, 'E')) {
		if (!json_take(j, '-'))
			(void)json_take(j, '+');
		return json_digits(j) > 0;
	}
	return true;
}

static bool json_escape(struct json *j)
{
	if (j->at == j->end)
		return false;
	char c = *j->at++;

	if (c != 'u')
		return memchr("\"\\/bfnrt", c, 8) != NULL;
	for (int i = 0; i < 4; i++, j->at++)
		if (j->at == j->end || !memchr("0123456789abcdefABCDEF", *j->at, 22))
			return false;
	return true;
}

static bool json_string(struct json *j)
{
	if (!json_take(j, '"'))
		return false;
	while (j->at < j->end) {
		char c = *j->at++;

		if (c == '"')
			return true;
		/* portd escapes all that is not ASCII. */
		if ((unsigned char)c < ' ' || (unsigned char)c > '~')
			return false;
		if (c == '\\' && !json_escape(j))
			return false;
	}
	return false;
}

/* What stands between open and close: values, for an object with names. */
static bool json_many(struct json *j, char close, bool named)
{
	json_blanks(j);
	if (json_take(j, close))
		return true;
	do {
		json_blanks(j);
		if (named && !json_string(j))
			return false;
		json_blanks(j);
		if (named && !json_take(j, ':'))
			return false;
		if (!json_value(j))
			return false;
	} while (json_take(j, ','));
	return json_take(j, close);
}

static bool json_value(struct json *j)
{
	bool is = false;

	json_blanks(j);
	if (j->at == j->end || j->depth == DEPTH_MAX)
		return false;
	j->depth++;
	if (json_take(j, '{'))
		is = json_many(j, '}', true);
	else if (json_take(j, '['))
		is = json_many(j, ']', false);
	else if (*j->at == '"')
		is = json_string(j);
	else
		is = json_word(j, "true") || json_word(j, "false") ||
		     json_word(j, "null") || json_number(j);
	j->depth--;
	json_blanks(j);
	return is;
}

bool fuzz_is_json(const char *text, size_t len)
{
	struct json j = {.at = text, .end = text + len};

	return json_value(&j) && j.at == j.end;
}
