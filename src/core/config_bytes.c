/*
 * config_bytes.c - which bytes are text, and how others are shown.
 */
#include "core/config_file.h"

#include "base/own.h"

void config_escape(char *buf, size_t size, const char *bytes, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (size_t i = 0; i < len && n + 5 <= size; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c >= 32 && c <= 126) {
			buf[n++] = bytes[i];
			continue;
		}
		buf[n++] = '\\';
		buf[n++] = 'x';
		buf[n++] = hex[c >> 4];
		buf[n++] = hex[c & 15];
	}
	buf[n] = '\0';
}

/* The length of the UTF-8 sequence at p, 0 if there is none (RFC 3629). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	static const struct {
		unsigned char first, last, least,
		        greatest; /* of the first byte; of the second */
		size_t len;
	} forms[] = {
	        {0xc2, 0xdf, 0x80, 0xbf, 2},
	        {0xe0, 0xe0, 0xa0, 0xbf, 3},
	        {0xe1, 0xec, 0x80, 0xbf, 3},
	        {0xed, 0xed, 0x80, 0x9f, 3},
	        {0xee, 0xef, 0x80, 0xbf, 3},
	        {0xf0, 0xf0, 0x90, 0xbf, 4},
	        {0xf1, 0xf3, 0x80, 0xbf, 4},
	        {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	if (*p < 0x80)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (*p < forms[i].first || *p > forms[i].last)
			continue;
		if (left < forms[i].len || p[1] < forms[i].least ||
		        p[1] > forms[i].greatest)
			return 0;
		for (size_t n = 2; n < forms[i].len; n++)
			if ((p[n] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

const char *config_bytes_judge(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len;) {
		const unsigned char *p = (const unsigned char *)bytes + i;
		size_t n = utf8_length(p, len - i);

		if (*p == 0)
			return "has a NUL byte";
		if ((*p < 32 && *p != '\t') || *p == 127)
			return "has a control character";
		if (n == 0)
			return "is not UTF-8";
		i += n;
	}
	return NULL;
}
