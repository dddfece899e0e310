/*
 * config.c - a configuration: the file, then what a drop-in has, then -o, one a line; FUZZ_NEXT between
 * them.
 */
#include "files.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/config.h"
#include "core/config_key.h"

#define OVERRIDES_MAX 16
/* portd keeps the text of every -o that it has taken for as long as it lives, which is why a process
 * that lives on must not invent them without end. */
#define KEPT_MAX 4096

static const char *const services[] = {"tuple", "echo", "discard", NULL};

/* What is loaded: texts of the input. */
struct asked {
	struct fuzz_piece main, drop_in;
	bool has_drop_in;
	char *overrides[OVERRIDES_MAX];
	size_t n_overrides;
};

static unsigned count_lines(struct fuzz_piece piece)
{
	unsigned n = 1;

	for (size_t i = 0; i < piece.len; i++)
		n += piece.bytes[i] == '\n';
	return n;
}

/* Would this -o be taken? */
static bool override_is_taken(const char *text)
{
	struct config scratch = {.backlog = 0};
	OWN_MEM char *section = strdup(text);
	char *value = section ? strchr(section, '=') : NULL;
	char *name = value ? memchr(section, '.', (size_t)(value - section)) : NULL;

	if (!name)
		return false;
	*name++ = '\0';
	*value++ = '\0';
	const struct config_key *key = config_key_find(section, name);
	int r = 1;

	if (key && key->type == CONFIG_TYPE_PREFIXES)
		r = config_key_set_prefixes(key, value, &scratch, NULL, NULL);
	else if (key)
		r = config_key_set(key, value, services, &scratch);
	config_release(&scratch);
	return r == 0;
}

/* May it be asked for, or is it one too many? */
static bool override_is_welcome(const char *text)
{
	static uint64_t kept[KEPT_MAX];
	static size_t n_kept;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	if (!override_is_taken(text))
		return true;
	for (const char *p = text; *p; p++)
		hash = (hash ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	for (size_t i = 0; i < n_kept; i++)
		if (kept[i] == hash)
			return true;
	if (n_kept == KEPT_MAX)
		return false;
	kept[n_kept++] = hash;
	return true;
}

static void asked_read(struct asked *a, struct fuzz_piece rest)
{
	*a = (struct asked){.main = fuzz_cut(&rest, FUZZ_NEXT)};
	a->has_drop_in = rest.len > 0;
	a->drop_in = fuzz_cut(&rest, FUZZ_NEXT);
	while (rest.len > 0 && a->n_overrides < OVERRIDES_MAX) {
		char *text = fuzz_text(fuzz_cut(&rest, "\n"));

		if (override_is_welcome(text))
			a->overrides[a->n_overrides++] = text;
		else
			free(text);
	}
}

/* Is this where something of `a` stands? Returns what follows it, or NULL. */
static const char *place_skip(const struct asked *a, const char *text)
{
	const char *const files[] = {FILES_MAIN ":", FILES_DROP_IN ":"};
	const struct fuzz_piece pieces[] = {a->main, a->drop_in};

	if (strncmp(text, "-o ", 3) == 0)
		return a->n_overrides > 0 ? text + 3 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *end;

		if (strncmp(text, files[i], strlen(files[i])) != 0)
			continue;
		text += strlen(files[i]);
		if (*text == ' ')
			return text;
		unsigned long line = strtoul(text, &end, 10);
		bool is = line >= 1 && line <= count_lines(pieces[i]) && end[0] == ':' &&
		          end[1] == ' ';
		return is ? end : NULL;
	}
	return NULL;
}

/* Every mistake is a line that says where, and what would be right. */
static void check_mistakes(const struct asked *a, char *said)
{
	char *rest = NULL;

	for (char *line = strtok_r(said, "\n", &rest); line;
	        line = strtok_r(NULL, "\n", &rest)) {
		FUZZ_CHECK(place_skip(a, line), "a mistake without its place: %s", line);
		FUZZ_CHECK(strstr(line, "allowed: ") || strstr(line, "; `ip link` "),
		        "a mistake without an advice: %s", line);
	}
}

/* Loads it. Returns the number of mistakes, with what was said checked. */
static int load(const struct asked *a, struct config *ret)
{
	const struct config_source source = {.file = FILES_MAIN,
	        .overrides = (const char *const *)a->overrides,
	        .n_overrides = a->n_overrides,
	        .services = services};
	struct fuzz_taken said;

	files_set_main(a->main);
	files_set_drop_in(a->has_drop_in ? &a->drop_in : NULL);
	int r = config_load(&source, ret, fuzz_take(&said));
	fuzz_taken(&said);
	FUZZ_CHECK(r >= 0, "config_load: %d", r);
	FUZZ_CHECK(
	        (r > 0) == (said.len > 0), "config_load: %d, and said: %s", r, said.text);
	fuzz_check_plain("a mistake", said.text, said.len);
	check_mistakes(a, said.text);
	fuzz_drop(&said);
	return r;
}

static uint64_t number_of(const struct config *c, const struct config_key *key)
{
	return *(const uint64_t *)(const void *)((const char *)c + key->offset);
}

static unsigned word_of(const struct config *c, const struct config_key *key)
{
	return *(const unsigned *)(const void *)((const char *)c + key->offset);
}

/* Is the value of this key one that portd.conf(5) allows? */
static bool key_is_in_range(const struct config *c, const struct config_key *key)
{
	const char *text = (const char *)c + key->offset;
	uint64_t v;

	switch (key->type) {
	case CONFIG_TYPE_COUNT:
	case CONFIG_TYPE_PERCENT:
	case CONFIG_TYPE_AUTO_COUNT:
		v = number_of(c, key);
		return (v >= key->least && v <= key->greatest) ||
		       (v == CONFIG_AUTO && key->type == CONFIG_TYPE_AUTO_COUNT);
	case CONFIG_TYPE_DURATION:
	case CONFIG_TYPE_TIMEOUT:
		v = number_of(c, key);
		return v == 0 ||
		       (v == CLOCK_INFINITY && v == key->greatest &&
		               key->type == CONFIG_TYPE_DURATION) ||
		       (v != CLOCK_INFINITY && v >= key->least && v <= key->greatest &&
		               v % CLOCK_USEC == 0);
	case CONFIG_TYPE_FD_TABLE:
	case CONFIG_TYPE_SWITCH:
	case CONFIG_TYPE_YES_NO:
		return word_of(c, key) < 2;
	case CONFIG_TYPE_ANSWER:
		return word_of(c, key) < 3 &&
		       (word_of(c, key) != CONFIG_ANSWER_MESSAGE || c->message.len > 0);
	case CONFIG_TYPE_LEVEL:
		return word_of(c, key) < 4;
	case CONFIG_TYPE_MODE:
		return word_of(c, key) <= 0777;
	case CONFIG_TYPE_MESSAGE:
		return c->message.len <= CONFIG_MESSAGE_MAX;
	case CONFIG_TYPE_SERVICE:
		return strcmp(text, "tuple") == 0 || strcmp(text, "echo") == 0 ||
		       strcmp(text, "discard") == 0;
	case CONFIG_TYPE_PATH:
		return text[0] == '/' && strlen(text) < CONFIG_SOCKET_MAX &&
		       !strpbrk(text, " \t");
	case CONFIG_TYPE_GROUP:
		return strlen(text) < CONFIG_NAME_MAX;
	case CONFIG_TYPE_ADDRESS:
	case CONFIG_TYPE_PREFIXES:
		return true; /* addr.c */
	}
	return false;
}

static void check_values(const struct asked *a, const struct config *c)
{
	static char value[CONFIG_VALUE_MAX], place[CONFIG_PLACE_MAX];

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];

		FUZZ_CHECK(key_is_in_range(c, key), "[%s] %s is %s", key->section,
		        key->name, config_key_format(key, c, value));
		if (!c->origin[i].name)
			continue;
		config_format_key(c, (enum config_key_index)i, place);
		FUZZ_CHECK(place_skip(a, place), "[%s] %s is said to stand at %s",
		        key->section, key->name, place);
	}
}

static void count_changed(const char *key, void *arg)
{
	unsigned *n = arg;

	FUZZ_CHECK(strchr(key, '.'), "'%s' is no key", key);
	(*n)++;
}

/* A reload from `was` to c: what needs a restart stays, all else is taken. */
static void check_kept(const struct config *was, const struct config *c)
{
	/* Sanitizers make frames large. */
	static char old[CONFIG_VALUE_MAX], new[CONFIG_VALUE_MAX], got[CONFIG_VALUE_MAX];
	unsigned n = 0, differ = 0;
	struct config next;

	config_share(c, &next);
	FUZZ_CHECK(config_keep_fixed(was, &next, count_changed, &n) == n, "not %u", n);
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];
		bool same = strcmp(config_key_format(key, was, old),
		                    config_key_format(key, c, new)) == 0;

		differ += !same && !key->live;
		FUZZ_CHECK(strcmp(config_key_format(key, &next, got),
		                   key->live ? new : old) == 0,
		        "[%s] %s was %s, is %s, and becomes %s", key->section, key->name,
		        old, new, got);
	}
	FUZZ_CHECK(n == differ, "%u keys need a restart, %u are told of", differ, n);
	config_release(&next);
}

/* What is printed reads back as the same, and prints as the same. */
static void check_printed(const struct config *c)
{
	struct fuzz_taken first, second;
	struct config back;

	config_print(c, fuzz_take(&first));
	fuzz_taken(&first);
	const struct asked again = {.main = {first.text, first.len}};
	FUZZ_CHECK(load(&again, &back) == 0, "what is printed is wrong: %s", first.text);
	config_print(&back, fuzz_take(&second));
	fuzz_taken(&second);
	FUZZ_CHECK(strcmp(first.text, second.text) == 0, "printed: %s\nand then: %s",
	        first.text, second.text);
	check_kept(&back, c);
	fuzz_drop(&second);
	fuzz_drop(&first);
	config_release(&back);
}

static void check_accepted(const struct asked *a, const struct config *c)
{
	static struct config defaults;
	static bool has_defaults;
	const struct asked nothing = {.n_overrides = 0};
	struct fuzz_taken warnings;

	if (!has_defaults)
		FUZZ_CHECK(load(&nothing, &defaults) == 0, "the defaults are wrong");
	has_defaults = true;
	check_values(a, c);
	config_warn(c, fuzz_take(&warnings));
	fuzz_taken(&warnings);
	fuzz_check_plain("a warning", warnings.text, warnings.len);
	fuzz_drop(&warnings);
	check_kept(&defaults, c);
	check_printed(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct asked a;
	static struct config c;

	asked_read(&a, (struct fuzz_piece){(const char *)data, size});
	if (load(&a, &c) == 0) {
		check_accepted(&a, &c);
		config_release(&c);
	}
	for (size_t i = 0; i < a.n_overrides; i++)
		free(a.overrides[i]);
	return 0;
}
