/*
 * config_file.c - the lines of configuration files: bounded, counted, and of a clear
 * shape before inih sees them.
 *
 * Why a reader of our own stands in front of inih: Debian's inih 55 splits a line of more
 * than 199 bytes in two, so that the tail of a long comment becomes a live setting; takes
 * an indented line for more of the value above; takes "key : value" for "key = value";
 * never reports an unknown section that is empty; cuts the names of sections and keys at
 * 49 bytes; and reads a directory as an empty file. Its handler is not told the line
 * either. So ini_parse_stream() gets its lines from line_next(), which hands it nothing
 * but "[section]" of a wanted section and "key=", both short and of plain characters. No
 * setting of inih changes what they mean, whatever options it was built with, and inih
 * finds no error. The value, which may be long, stays here for the handler.
 *
 * Invariants: one line of the file is at most one line for inih; `line` is the number of
 * the line that the handler is called for; every byte of the file has been looked at: a
 * NUL, a control character or broken UTF-8 is a mistake, in comments too, for such a file
 * is not what its author believes it to be. A UTF-8 byte order mark at the start, CRLF
 * line ends and a last line without an end are accepted. A file is read whole before its
 * first line is judged (config_read.c); a line then gets its NUL where it stands.
 */
#include "core/config_file.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/drop_in.h"
#include "base/own.h"
#include "base/parse.h"
#include "core/config_read.h"

/* So many lines are read between two looks at the clock. */
#define FILE_LINES 256U

static const char shape[] =
        "[section], key = value, or a comment after # or ; at the line's start";

struct lines {
	struct config_reader *reader;
	struct config_place place;
	char *at, *end; /* what is left of the file, and a byte for a NUL behind it */
	bool in_section;
	bool wanted; /* the section's keys are */
	char section[CONFIG_WORD_MAX + 1];
	const char *value;
};

/* A mistake of this line's shape. */
static void line_mistake(struct lines *l, const char *bytes, size_t len, const char *what)
{
	struct config_seen seen = {bytes, len};

	config_mistake(l->reader, &l->place, l->in_section ? l->section : NULL, NULL,
	        &seen, "%s; allowed: %s", what, shape);
}

/* The next line with sound bytes, where it stands in the file, with a NUL for its end. Returns NULL
 * at the end of the file, or of the time for it. */
static char *line_take(struct lines *l)
{
	while (l->at < l->end) {
		if (l->place.line % FILE_LINES == FILE_LINES - 1 &&
		        config_reader_is_late(l->reader))
			return NULL;
		char *line = l->at;
		size_t left = (size_t)(l->end - line);
		char *eol = memchr(line, '\n', left);
		size_t len = eol ? (size_t)(eol - line) : left;
		const char *wrong;

		l->at = eol ? eol + 1 : l->end;
		l->place.line++;
		if (len > 0 && line[len - 1] == '\r')
			len--;
		wrong = config_bytes_judge(line, len);
		if (!wrong && len <= CONFIG_LINE_MAX) {
			line[len] = '\0';
			return line;
		}
		if (wrong)
			line_mistake(l, line, len, wrong);
		else
			line_mistake(l, line, len, "is longer than 131072 bytes");
	}
	return NULL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *skip_blanks(char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

/* Cuts the blanks at the end. */
static char *trim(char *text)
{
	size_t len = strlen(text);

	while (len > 0 && is_blank(text[len - 1]))
		text[--len] = '\0';
	return text;
}

/* Cuts a comment: a ';' after a blank. The blank may be the one before text. */
static void cut_comment(char *text, bool after_blank)
{
	for (char *p = text; *p; p++) {
		if (*p == ';' && after_blank) {
			*p = '\0';
			return;
		}
		after_blank = is_blank(*p);
	}
}

/* A line that begins with '['. Returns whether inih is to see l->section. */
static bool line_section(struct lines *l, char *text)
{
	char *name = text + 1;
	char *close = strchr(name, ']');
	size_t len = strlen(text);

	/* However it ends, the keys below belong to the section that was meant. */
	l->in_section = false;
	if (!close) {
		line_mistake(l, text, len, "has no ']'");
		cut_comment(name, false);
		trim(name);
	} else {
		bool after_blank = is_blank(close[1]);
		char *rest = skip_blanks(close + 1);

		if (*rest && !(after_blank && *rest == ';'))
			line_mistake(l, text, len, "has text after ']'");
		*close = '\0';
	}
	l->in_section = true;
	l->wanted = l->reader->section(l->reader->arg, &l->place, name);
	(void)snprintf(l->section, sizeof(l->section), "%.*s", CONFIG_WORD_MAX, name);
	return l->wanted;
}

static bool word_is_plain(const char *word)
{
	for (const char *p = word; *p; p++)
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') &&
		        !(*p >= '0' && *p <= '9') && !strchr("_-.", *p))
			return false;
	return *word && strlen(word) <= CONFIG_WORD_MAX;
}

/* A line that should be key = value. Returns whether inih is to see the key, which is
 * text then, with the value in l->value. */
static bool line_key(struct lines *l, char *text)
{
	char *equals = strchr(text, '=');
	size_t len = strlen(text);

	if (!equals) {
		line_mistake(l, text, len,
		        strchr(text, ':') ? "has a ':' where only '=' separates"
		                          : "is no section, key or comment");
		return false;
	}
	*equals = '\0';
	trim(text);
	if (!word_is_plain(text)) {
		struct config_seen seen = {text, strlen(text)};

		config_mistake(l->reader, &l->place, l->in_section ? l->section : NULL,
		        NULL, &seen, "is no name of a key; allowed: key = value%s",
		        strchr(text, ':') ? ", only '=' separates" : "");
		return false;
	}
	if (!l->in_section) {
		struct config_seen seen = {text, strlen(text)};

		config_mistake(l->reader, &l->place, NULL, NULL, &seen,
		        "stands before any section; allowed: keys below a [section]");
		return false;
	}
	bool after_blank = is_blank(equals[1]);
	char *value = skip_blanks(equals + 1);

	cut_comment(value, after_blank);
	l->value = trim(value);
	return l->wanted;
}

/* inih's reader, in the form of fgets(3): the next line that it is to see. */
static char *line_next(char *buf, int size, void *arg)
{
	struct lines *l = arg;
	char *line;

	while ((line = line_take(l))) {
		char *text = skip_blanks(line);

		trim(text);
		if (*text == '\0' || *text == '#' || *text == ';')
			continue;
		if (text != line)
			line_mistake(l, text, strlen(text), "is indented");
		if (*text == '[') {
			if (!line_section(l, text))
				continue;
			(void)snprintf(buf, (size_t)size, "[%s]\n", l->section);
			return buf;
		}
		if (!line_key(l, text))
			continue;
		(void)snprintf(buf, (size_t)size, "%.*s=\n", CONFIG_WORD_MAX, text);
		return buf;
	}
	return NULL;
}

/* inih's handler. */
static int line_handle(void *arg, const char *section, const char *key, const char *value)
{
	struct lines *l = arg;

	(void)value; /* always empty: l->value has it */
	l->reader->key(l->reader->arg, &l->place, section, key, l->value);
	return 1;
}

/* A mistake of a file or folder as a whole. why: NULL if it took too long. */
static void place_refuse(
        struct config_reader *reader, const struct config_place *place, const char *why)
{
	char patience[PARSE_DURATION_TEXT_MAX];

	if (why)
		config_mistake(reader, place, NULL, NULL, NULL,
		        "cannot be read: %s; allowed: what portd may read", why);
	else
		config_mistake(reader, place, NULL, NULL, NULL,
		        "cannot be read: it did not end within %s, in which all files "
		        "have to be read; allowed: files that are there at once",
		        parse_format_duration(reader->patience, patience));
}

int config_file_read(
        struct config_reader *reader, const char *path, enum config_file_kind kind)
{
	struct lines l = {.reader = reader, .place.name = path};
	struct config_bytes bytes;
	const char *why;

	if (reader->late)
		return 0;
	int r = config_read_file(reader, path, kind, &bytes, &why);

	if (r != 0)
		return r;
	OWN_MEM char *data = bytes.data;

	if (why || reader->late)
		place_refuse(reader, &l.place, why);
	if (!data)
		return 0;
	l.at = data;
	l.end = data + bytes.len;
	if (bytes.len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0)
		l.at += 3;
	reader->begin(reader->arg);
	/* Only inih's own want of memory can fail: no line that it gets has an error. */
	if (ini_parse_stream(line_next, &l, line_handle, &l) < 0)
		return -ENOMEM;
	l.place.line = 0;
	if (reader->late)
		place_refuse(reader, &l.place, NULL);
	return 0;
}

int config_file_read_directory(struct config_reader *reader, const char *path)
{
	struct dirent **names = NULL;
	int n = drop_in_scan(path, &names);
	int r = 0;

	if (n < 0 && errno == ENOMEM)
		return -ENOMEM;
	const char *why = n < 0 ? config_name_judge(path, errno) : NULL;
	if (why)
		place_refuse(reader, &(struct config_place){.name = path}, why);
	for (int i = 0; i < n; i++) {
		OWN_MEM char *file = NULL;

		if (r == 0 && asprintf(&file, "%s/%s", path, names[i]->d_name) < 0) {
			file = NULL;
			r = -ENOMEM;
		}
		if (r == 0)
			r = config_file_read(reader, file, CONFIG_FILE_DROP_IN);
		free(names[i]);
	}
	free(names);
	return r < 0 ? r : n < 0 ? 0 : n;
}
