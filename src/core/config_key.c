/*
 * config_key.c - how the value of each key is read, written and explained.
 *
 * config.def says everything about a key but what its type means; that is the table of
 * kinds. No function here names a key.
 *
 * Invariants: what is written reads back as the same value; a field is written on success
 * only.
 */
#include "core/config_key.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"

#define LIVE  true
#define FIXED false
const struct config_key config_keys[CONFIG_KEY_COUNT] = {
#define X(section_, name_, field_, type_, default_, least_, greatest_, live_, help_) \
	{.section = #section_, \
	        .name = #name_, \
	        .type = CONFIG_TYPE_##type_, \
	        .live = (live_), \
	        .offset = offsetof(struct config, field_), \
	        .size = sizeof(((struct config *)NULL)->field_), \
	        .least = (least_), \
	        .greatest = (greatest_), \
	        .fallback = (default_), \
	        .help = (help_)},
#include "core/config.def"
#undef X
};

/* How a type is read, written and explained. */
struct kind {
	/* Returns 0; -EINVAL: not of this form; -ERANGE: of it, but out of range. */
	int (*set)(const struct config_key *key, const char *text, void *field);
	/* buf has CONFIG_VALUE_MAX bytes. */
	void (*format)(const struct config_key *key, const void *field, char *buf);
	const char *allowed;      /* NULL: the words, or the range */
	const char *const *words; /* in the order of the enum */
	bool may_be_empty;
};

static int address_set(const struct config_key *key, const char *text, void *field)
{
	struct addr_named named;
	int r = addr_parse_named(text, &named);

	(void)key;
	/* Each interface has its own fe80::1: nobody could say which is meant. */
	if (r == 0 && addr_is_link_local(&named.addr) && named.addr.scope == 0 &&
	        !*named.interface)
		r = -EINVAL;
	if (r == 0)
		*(struct addr_named *)field = named;
	return r;
}

static void address_format(const struct config_key *key, const void *field, char *buf)
{
	(void)key;
	(void)addr_format_named(field, buf);
}

static bool key_is_time(const struct config_key *key)
{
	return key->type == CONFIG_TYPE_DURATION || key->type == CONFIG_TYPE_TIMEOUT;
}

static int number_set(const struct config_key *key, const char *text, void *field)
{
	uint64_t v;
	int r;

	if (key->type == CONFIG_TYPE_AUTO_COUNT && strcmp(text, "auto") == 0) {
		*(uint64_t *)field = CONFIG_AUTO;
		return 0;
	}
	if (key_is_time(key))
		r = parse_duration(text, &v);
	else if (key->type == CONFIG_TYPE_PERCENT)
		r = parse_percent(text, &v);
	else
		r = parse_size(text, &v);
	if (r < 0)
		return r;
	if (key->type == CONFIG_TYPE_TIMEOUT && v == CLOCK_INFINITY)
		v = 0;
	if ((v < key->least || v > key->greatest) && !(key_is_time(key) && v == 0))
		return -ERANGE;
	*(uint64_t *)field = v;
	return 0;
}

static void number_format(const struct config_key *key, const void *field, char *buf)
{
	unsigned long long v = *(const uint64_t *)field;

	if (key_is_time(key))
		(void)parse_format_duration(v, buf);
	else if (key->type == CONFIG_TYPE_AUTO_COUNT && v == CONFIG_AUTO)
		(void)strcpy(buf, "auto");
	else
		(void)snprintf(buf, CONFIG_VALUE_MAX, "%llu%s", v,
		        key->type == CONFIG_TYPE_PERCENT ? "%" : "");
}

static const char *const fd_table_words[] = {"shared", "private", NULL};
static const char *const answer_words[] = {"reset", "close", "message", NULL};
static const char *const switch_words[] = {"off", "on", NULL};
static const char *const yes_no_words[] = {"no", "yes", NULL};
static const char *const level_words[] = {"error", "warning", "info", "debug", NULL};

static int word_find(const char *const *words, const char *text)
{
	for (int i = 0; words && words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	return -EINVAL;
}

static const struct kind kinds[];

/* The fields of words are enums, which gcc and clang keep in an unsigned. */
_Static_assert(sizeof(enum config_answer) == sizeof(unsigned), "an enum is an unsigned");

static int word_set(const struct config_key *key, const char *text, void *field)
{
	int i = word_find(kinds[key->type].words, text);

	if (i < 0)
		return i;
	*(unsigned *)field = (unsigned)i;
	return 0;
}

static void word_format(const struct config_key *key, const void *field, char *buf)
{
	(void)strcpy(buf, kinds[key->type].words[*(const unsigned *)field]);
}

static int text_set(const struct config_key *key, const char *text, void *field)
{
	size_t len = strlen(text);

	if (len >= key->size)
		return -ERANGE;
	/* All of it, so that nothing of an earlier value stays behind. */
	memset(field, 0, key->size);
	memcpy(field, text, len);
	return 0;
}

static void text_format(const struct config_key *key, const void *field, char *buf)
{
	(void)key;
	(void)snprintf(buf, CONFIG_VALUE_MAX, "%s", (const char *)field);
}

static int path_set(const struct config_key *key, const char *text, void *field)
{
	/* A blank would more likely be a comment gone wrong («/run/x # here») than meant.
	 */
	if (text[0] != '/' || text[strlen(text) - 1] == '/' || strpbrk(text, " \t"))
		return -EINVAL;
	return text_set(key, text, field);
}

static int group_set(const struct config_key *key, const char *text, void *field)
{
	for (const char *p = text; *p; p++)
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') &&
		        !(*p >= '0' && *p <= '9') && !strchr("_.-", *p))
			return -EINVAL;
	return *text == '-' ? -EINVAL : text_set(key, text, field);
}

static int message_set(const struct config_key *key, const char *text, void *field)
{
	struct config parsed = {.message.len = 0};
	int r = parse_escapes(text, sizeof(parsed.message.bytes), parsed.message.bytes,
	        &parsed.message.len);

	if (r == 0)
		memcpy(field, &parsed.message, key->size);
	return r;
}

static void message_format(const struct config_key *key, const void *field, char *buf)
{
	struct config had;

	memcpy(&had.message, field, key->size);
	(void)parse_format_escapes(
	        had.message.bytes, had.message.len, buf, CONFIG_VALUE_MAX);
}

/* As the fallback of the key, which is empty. */
static int prefixes_clear(const struct config_key *key, const char *text, void *field)
{
	struct prefix_set **set = (struct prefix_set **)field;

	(void)key;
	(void)text;
	*set = prefix_set_free(*set);
	return 0;
}

static void prefixes_format(const struct config_key *key, const void *field, char *buf)
{
	(void)key;
	(void)prefix_set_format(
	        *(struct prefix_set *const *)field, buf, CONFIG_VALUE_MAX);
}

static int mode_set(const struct config_key *key, const char *text, void *field)
{
	(void)key;
	return parse_mode(text, field);
}

static void mode_format(const struct config_key *key, const void *field, char *buf)
{
	(void)key;
	(void)snprintf(buf, CONFIG_VALUE_MAX, "%04o", *(const unsigned *)field);
}

static const struct kind kinds[] = {
        [CONFIG_TYPE_ADDRESS] = {.set = address_set,
                .format = address_format,
                .allowed = "IP:port, such as [::]:7777, 192.0.2.1:80 or "
                           "[fe80::1%eth0]:7777"},
        [CONFIG_TYPE_COUNT] = {.set = number_set, .format = number_format},
        [CONFIG_TYPE_AUTO_COUNT] = {.set = number_set, .format = number_format},
        [CONFIG_TYPE_PERCENT] = {.set = number_set, .format = number_format},
        [CONFIG_TYPE_DURATION] = {.set = number_set, .format = number_format},
        [CONFIG_TYPE_TIMEOUT] = {.set = number_set, .format = number_format},
        [CONFIG_TYPE_FD_TABLE] = {.set = word_set,
                .format = word_format,
                .words = fd_table_words},
        [CONFIG_TYPE_ANSWER] = {.set = word_set,
                .format = word_format,
                .words = answer_words},
        [CONFIG_TYPE_LEVEL] = {.set = word_set,
                .format = word_format,
                .words = level_words},
        [CONFIG_TYPE_SERVICE] = {.set = text_set, .format = text_format},
        [CONFIG_TYPE_MESSAGE] = {.set = message_set,
                .format = message_format,
                .may_be_empty = true,
                .allowed = "at most 512 bytes, with the escapes \\r \\n \\t \\\\ \\xNN"},
        [CONFIG_TYPE_PATH] = {.set = path_set,
                .format = text_format,
                .allowed = "an absolute path of at most 107 bytes, without blanks"},
        [CONFIG_TYPE_MODE] = {.set = mode_set,
                .format = mode_format,
                .allowed = "three or four octal digits, 0000 to 0777"},
        [CONFIG_TYPE_GROUP] = {.set = group_set,
                .format = text_format,
                .may_be_empty = true,
                .allowed = "nothing, or a name of at most 31 letters, digits, _ . -"},
        [CONFIG_TYPE_SWITCH] = {.set = word_set,
                .format = word_format,
                .words = switch_words},
        [CONFIG_TYPE_YES_NO] = {.set = word_set,
                .format = word_format,
                .words = yes_no_words},
        [CONFIG_TYPE_PREFIXES] = {.set = prefixes_clear,
                .format = prefixes_format,
                .may_be_empty = true,
                .allowed =
                        "addresses and networks, such as 203.0.113.0/24 2001:db8::/32"},
};

const struct config_key *config_key_find(const char *section, const char *name)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		if (strcmp(config_keys[i].section, section) == 0 &&
		        strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	return NULL;
}

bool config_key_has_section(const char *section)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	return false;
}

int config_key_set(const struct config_key *key, const char *text,
        const char *const *services, struct config *config)
{
	const struct kind *kind = &kinds[key->type];

	if (*text == '\0' && !kind->may_be_empty)
		return -ENODATA;
	if (key->type == CONFIG_TYPE_SERVICE && services && word_find(services, text) < 0)
		return -EINVAL;
	return kind->set(key, text, (char *)config + key->offset);
}

int config_key_set_prefixes(const struct config_key *key, const char *text,
        struct config *config, void (*mistake)(const char *what, void *arg), void *arg)
{
	struct prefix_set **field =
	        (struct prefix_set **)(void *)((char *)config + key->offset);
	struct prefix_set *set = NULL;
	int r = prefix_set_parse(text, &set, mistake, arg);

	if (r != 0)
		return r;
	(void)prefix_set_free(*field);
	/* NULL is the empty set: a default owns no memory, however it was written. */
	*field = prefix_set_count(set) > 0 ? set : prefix_set_free(set);
	return 0;
}

void config_key_print(
        const struct config_key *key, const struct config *config, FILE *out)
{
	char value[CONFIG_VALUE_MAX];

	if (key->type != CONFIG_TYPE_PREFIXES) {
		(void)config_key_format(key, config, value);
		(void)fprintf(out, "%s%s", *value ? " " : "", value);
		return;
	}
	const struct prefix_set *set =
	        *(struct prefix_set *const *)(const void *)((const char *)config +
	                                                    key->offset);
	size_t size = prefix_set_format(set, NULL, 0) + 1;
	OWN_MEM char *text = malloc(size);
	/* Without memory the line says less than there is: out is then short as well. */
	if (text && size > 1 && prefix_set_format(set, text, size) < size)
		(void)fprintf(out, " %s", text);
}

char *config_key_format(const struct config_key *key, const struct config *config,
        char buf[static CONFIG_VALUE_MAX])
{
	kinds[key->type].format(key, (const char *)config + key->offset, buf);
	return buf;
}

/* Appends to a text in a buffer of CONFIG_ADVICE_MAX bytes; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void append(
        char *buf, const char *format, ...)
{
	size_t len = strlen(buf);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(buf + len, CONFIG_ADVICE_MAX - len, format, args);
	va_end(args);
}

static void append_duration_range(const struct config_key *key, char *buf)
{
	char least[PARSE_DURATION_TEXT_MAX], greatest[PARSE_DURATION_TEXT_MAX];

	parse_format_duration(key->least, least);
	parse_format_duration(key->greatest, greatest);
	if (key->least > 0)
		append(buf, "0s, or %s to %s", least, greatest);
	else
		append(buf, "0s to %s", greatest);
	append(buf, ", a number with us, ms, s, min or h");
}

char *config_key_advise(const struct config_key *key, const char *const *services,
        char buf[static CONFIG_ADVICE_MAX])
{
	const struct kind *kind = &kinds[key->type];
	const char *const *words =
	        key->type == CONFIG_TYPE_SERVICE ? services : kind->words;
	const char *unit = key->type == CONFIG_TYPE_PERCENT ? "%" : "";

	(void)strcpy(buf, "allowed: ");
	if (kind->allowed) {
		append(buf, "%s", kind->allowed);
	} else if (key_is_time(key)) {
		append_duration_range(key, buf);
	} else if (kind->set == number_set) {
		append(buf, "%s%llu%s to %llu%s",
		        key->type == CONFIG_TYPE_AUTO_COUNT ? "auto, or " : "",
		        (unsigned long long)key->least, unit,
		        (unsigned long long)key->greatest, unit);
	} else {
		for (size_t i = 0; words && words[i]; i++)
			append(buf, "%s%s", i > 0 ? ", " : "", words[i]);
	}
	return buf;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* How many letters have to be changed, added or left out to make a of b (Levenshtein);
 * the case of a letter does not count. Both are cut at 49 letters, above what any name
 * here has. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[50];
	size_t len = strnlen(b, ARRAY_SIZE(row) - 1);

	for (unsigned i = 0; i <= len; i++)
		row[i] = i;
	for (unsigned i = 1; i < ARRAY_SIZE(row) && a[i - 1]; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			unsigned least = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));

			if (least > row[j] + 1)
				least = row[j] + 1;
			if (least > row[j - 1] + 1)
				least = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = least;
		}
	}
	return row[len];
}

/* The nearest name, or NULL if none is near: the key's in this section, or a section's if
 * section is NULL. */
static const char *nearest(const char *section, const char *word)
{
	const char *best = NULL;
	unsigned best_distance = strlen(word) < 5 ? 2 : 3;

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];
		const char *name = section ? key->name : key->section;

		if (section && strcmp(key->section, section) != 0)
			continue;
		if (distance(word, name) < best_distance) {
			best = name;
			best_distance = distance(word, name);
		}
	}
	return best;
}

char *config_key_advise_section(const char *section, char buf[static CONFIG_ADVICE_MAX])
{
	const char *near = nearest(NULL, section);
	const char *last = "";

	*buf = '\0';
	if (near)
		append(buf, "did you mean '%s'?; ", near);
	append(buf, "allowed: ");
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		if (strcmp(config_keys[i].section, last) == 0)
			continue;
		append(buf, "%s%s", *last ? ", " : "", config_keys[i].section);
		last = config_keys[i].section;
	}
	return buf;
}

char *config_key_advise_name(
        const char *section, const char *name, char buf[static CONFIG_ADVICE_MAX])
{
	const char *near = nearest(section, name);
	bool first = true;

	*buf = '\0';
	if (near)
		append(buf, "did you mean '%s'?; ", near);
	for (size_t i = 0; i < CONFIG_KEY_COUNT && !near; i++)
		if (strcmp(config_keys[i].name, name) == 0)
			append(buf, "did you mean [%s] %s?; ", config_keys[i].section,
			        name);
	append(buf, "allowed: ");
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		if (strcmp(config_keys[i].section, section) != 0)
			continue;
		append(buf, "%s%s", first ? "" : ", ", config_keys[i].name);
		first = false;
	}
	return buf;
}
