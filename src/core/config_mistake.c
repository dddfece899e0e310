/*
 * config_mistake.c - what is wrong with a configuration, and where it stands, in words.
 *
 * Invariant: a mistake is one line, whatever bytes the file has.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/config_file.h"

/* What is shown of what was seen. */
#define SEEN_MAX 120

char *config_place_format(const struct config_place *place, char *buf, size_t size)
{
	size_t len;

	if (place->override) {
		(void)snprintf(buf, size, "-o ");
		config_escape(
		        buf + 3, size - 3, place->override, strlen(place->override));
		return buf;
	}
	/* Room for a colon and a line number. */
	config_escape(buf, size - 12, place->name, strlen(place->name));
	len = strlen(buf);
	if (place->line > 0)
		(void)snprintf(buf + len, size - len, ":%u", place->line);
	return buf;
}

void config_mistake(struct config_reader *reader, const struct config_place *place,
        const char *section, const char *key, const struct config_seen *seen,
        const char *format, ...)
{
	char text[1024];
	va_list args;
	bool named = config_names_next(reader);

	reader->mistakes += reader->mistakes < INT_MAX;
	if (!named)
		return;
	(void)fprintf(
	        reader->errors, "%s: ", config_place_format(place, text, sizeof(text)));
	if (section) {
		config_escape(text, sizeof(text), section, strlen(section));
		(void)fprintf(reader->errors, key ? "[%s] " : "[%s]: ", text);
	}
	if (key) {
		config_escape(text, sizeof(text), key, strlen(key));
		(void)fprintf(reader->errors, "%s: ", text);
	}
	if (seen) {
		bool cut = seen->len > SEEN_MAX;

		config_escape(
		        text, sizeof(text), seen->bytes, cut ? SEEN_MAX : seen->len);
		(void)fprintf(reader->errors, "'%s%s' ", text, cut ? "..." : "");
	}
	va_start(args, format);
	(void)vfprintf(reader->errors, format, args);
	va_end(args);
	(void)fputc('\n', reader->errors);
}
