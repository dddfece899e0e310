/*
 * json.c - see json.h.
 */
#include "base/json.h"

void json_put_string(FILE *out, const char *text)
{
	(void)putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			(void)fprintf(out, "\\%c", c);
		else if (c < ' ' || c > '~')
			(void)fprintf(out, "\\u%04x", c);
		else
			(void)putc(c, out);
	}
	(void)putc('"', out);
}
