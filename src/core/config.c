/*
 * config.c - what the user asked: loading, printing, comparing.
 *
 * All of it goes over the table of keys (config_key.c); the functions that name keys
 * are contradictions_check and config_warn.
 *
 * Invariants: a key with a mistake keeps the value it had, so that the rest of the files
 * is still checked in full; within a file a key is set once, a later file may set it
 * again, an override always may; what is printed reads back as the same struct.
 */
#include "core/config.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "base/plural.h"
#include "core/config_file.h"
#include "core/config_found.h"
#include "core/config_key.h"

/* The members that are memory of their own. */
static const size_t config_lists[] = {
        offsetof(struct config, source_allow),
        offsetof(struct config, source_deny),
        offsetof(struct config, source_priority),
};

static struct prefix_set **list_of(struct config *config, size_t i)
{
	return (struct prefix_set **)(void *)((char *)config + config_lists[i]);
}

/* One config_load(). */
struct load {
	struct config_reader reader;
	const struct config_source *source;
	struct config *config;
	unsigned line[CONFIG_KEY_COUNT]; /* where this file has set it; 0: not yet */
	bool is_wrong[CONFIG_KEY_COUNT]; /* somebody tried to set it, and could not */
	bool no_memory;
};

static struct config_seen seen_text(const char *text)
{
	return (struct config_seen){.bytes = text, .len = strlen(text)};
}

/* The same text for as long as the process lives: configurations are copied, and workers
 * may look at an old one. No more are kept than files and overrides were ever named.
 * Returns NULL without memory. */
static const char *text_keep(const char *text)
{
	struct kept_text {
		struct kept_text *next;
		char text[];
	};
	static struct kept_text *all;
	size_t size = strlen(text) + 1;

	for (struct kept_text *t = all; t; t = t->next)
		if (strcmp(t->text, text) == 0)
			return t->text;
	struct kept_text *t = malloc(sizeof(*t) + size);
	if (!t)
		return NULL;
	memcpy(t->text, text, size);
	t->next = all;
	all = t;
	return t->text;
}

char *config_format_key(const struct config *config, enum config_key_index key,
        char buf[static CONFIG_PLACE_MAX])
{
	const struct config_place *place = &config->origin[key];
	/* ": [section] key" and its NUL. */
	const size_t room = 2 * CONFIG_WORD_MAX + 8;
	size_t len = 0;

	if (place->name) {
		len = strlen(config_place_format(place, buf, CONFIG_PLACE_MAX - room));
		len += (size_t)snprintf(buf + len, room, ": ");
	}
	(void)snprintf(buf + len, CONFIG_PLACE_MAX - len, "[%s] %s",
	        config_keys[key].section, config_keys[key].name);
	return buf;
}

static void config_set_defaults(struct config *config)
{
	memset(config, 0, sizeof(*config));
	/* Cannot fail: a test loads nothing but the defaults. */
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		(void)config_key_set(
		        &config_keys[i], config_keys[i].fallback, NULL, config);
}

struct prefixes_mistakes {
	struct load *load;
	const struct config_place *place;
	const struct config_key *key;
};

static void load_prefixes_mistake(const char *what, void *arg)
{
	struct prefixes_mistakes *m = arg;

	config_mistake(&m->load->reader, m->place, m->key->section, m->key->name, NULL,
	        "%s", what);
}

/* Sets a list. Some addresses are longer as they are printed than as they were typed, and what is printed
 * must read back: it has to fit a line, too. Returns 0; 1 after a mistake; -ENOMEM. */
static int load_set_prefixes(struct load *load, const struct config_place *place,
        const struct config_key *key, const char *value)
{
	struct prefixes_mistakes mistakes = {load, place, key};
	struct prefix_set **list =
	        (struct prefix_set **)(void *)((char *)load->config + key->offset);
	int r = config_key_set_prefixes(
	        key, value, load->config, load_prefixes_mistake, &mistakes);
	size_t len = strlen(key->name) + strlen(" = ");

	if (r != 0)
		return r;
	len += prefix_set_format(*list, NULL, 0);
	if (len <= CONFIG_LINE_MAX)
		return 0;
	*list = prefix_set_free(*list);
	config_mistake(&load->reader, place, key->section, key->name, NULL,
	        "takes a line of %zu bytes as portd -T prints it; allowed: %d bytes", len,
	        CONFIG_LINE_MAX);
	return 1;
}

/* Sets a key that exists. Returns 0, or 1 after a mistake. */
static int load_set(struct load *load, const struct config_place *place,
        const struct config_key *key, const char *value)
{
	size_t i = (size_t)(key - config_keys);
	char text[CONFIG_ADVICE_MAX];
	bool is_list = key->type == CONFIG_TYPE_PREFIXES;
	int r = is_list ? load_set_prefixes(load, place, key, value)
	                : config_key_set(
	                          key, value, load->source->services, load->config);

	if (is_list && r != 0) {
		load->is_wrong[i] = true;
		load->no_memory |= r < 0;
		return 1;
	}
	if (r < 0) {
		struct config_seen seen = seen_text(value);
		const char *wrong = r == -ERANGE    ? "is out of range"
		                    : r == -ENODATA ? "is empty"
		                                    : "is not understood";

		load->is_wrong[i] = true;
		config_mistake(&load->reader, place, key->section, key->name, &seen,
		        "%s; %s", wrong,
		        config_key_advise(key, load->source->services, text));
		return 1;
	}
	struct config_place *origin = &load->config->origin[i];

	*origin = *place;
	origin->name = text_keep(place->name);
	if (place->override)
		origin->override = text_keep(place->override);
	load->no_memory |= !origin->name || (place->override && !origin->override);
	return 0;
}

static bool load_section(void *arg, const struct config_place *place, const char *name)
{
	struct load *load = arg;
	struct config_seen seen = seen_text(name);
	char advice[CONFIG_ADVICE_MAX] = "";

	if (config_key_has_section(name))
		return true;
	if (config_names_next(&load->reader))
		(void)config_key_advise_section(name, advice);
	config_mistake(
	        &load->reader, place, name, NULL, &seen, "is no section; %s", advice);
	return false;
}

static const struct config_key *load_find(struct load *load,
        const struct config_place *place, const char *section, const char *name)
{
	const struct config_key *key = config_key_find(section, name);
	struct config_seen seen = seen_text(name);
	char advice[CONFIG_ADVICE_MAX] = "";

	if (key)
		return key;
	if (config_names_next(&load->reader))
		(void)config_key_advise_name(section, name, advice);
	config_mistake(&load->reader, place, section, name, &seen,
	        "is no key of this section; %s", advice);
	return NULL;
}

static void load_key(void *arg, const struct config_place *place, const char *section,
        const char *name, const char *value)
{
	struct load *load = arg;
	const struct config_key *key = load_find(load, place, section, name);
	struct config_seen seen = seen_text(value);

	if (!key)
		return;
	unsigned *line = &load->line[key - config_keys];

	(void)load_set(load, place, key, value);
	if (*line == 0)
		*line = place->line;
	else
		config_mistake(&load->reader, place, section, name, &seen,
		        "comes after line %u has set this key; allowed: once in a file",
		        *line);
}

static void load_begin(void *arg)
{
	struct load *load = arg;

	memset(load->line, 0, sizeof(load->line));
}

/* SECTION.KEY=VALUE, the value as it stands: no comment, nothing trimmed. */
static int load_override(struct load *load, const char *text)
{
	struct config_place place = {.name = "-o", .override = text};
	OWN_MEM char *section = strdup(text);
	struct config_seen seen = seen_text(text);
	const struct config_key *key;

	if (!section)
		return -ENOMEM;
	char *value = strchr(section, '=');
	char *name = value ? memchr(section, '.', (size_t)(value - section)) : NULL;
	const char *wrong = config_bytes_judge(text, seen.len);

	if (!name || wrong) {
		config_mistake(&load->reader, &place, NULL, NULL, &seen,
		        "%s; allowed: SECTION.KEY=VALUE",
		        wrong ? wrong : "names no section and key");
		return 0;
	}
	*name++ = '\0';
	*value++ = '\0';
	if (!load_section(load, &place, section))
		return 0;
	key = load_find(load, &place, section, name);
	if (key)
		(void)load_set(load, &place, key, value);
	return 0;
}

/* Keys that are right by themselves and wrong together. */
static void contradictions_check(struct load *load)
{
	const struct config *c = load->config;
	const struct config_key *answer = &config_keys[CONFIG_KEY_answer];
	struct config_seen seen = seen_text("message");

	if (c->answer == CONFIG_ANSWER_MESSAGE && c->message.len == 0 &&
	        !load->is_wrong[CONFIG_KEY_message])
		config_mistake(&load->reader, &c->origin[CONFIG_KEY_answer],
		        answer->section, answer->name, &seen,
		        "needs a text, and [shed] message is empty; allowed: reset, "
		        "close, "
		        "or message with [shed] message = TEXT");
}

void config_warn(const struct config *config, FILE *warnings)
{
	char key[CONFIG_PLACE_MAX], place[CONFIG_PLACE_MAX] = "default";
	char idle[PARSE_DURATION_TEXT_MAX];
	const struct config_place *start_at = &config->origin[CONFIG_KEY_start_at];

	/* Of those that come while every slot is taken all are shed before one is looked for. A dry
	 * run sheds nobody for that. */
	if (config->start_at >= 100 || config->evict_idle == CLOCK_INFINITY ||
	        config->dry_run)
		return;
	if (start_at->name)
		(void)config_place_format(start_at, place, sizeof(place));
	(void)fprintf(warnings,
	        "%s: %s closes nobody for ordinary clients that find every slot taken: "
	        "with "
	        "[shed] start_at %" PRIu64
	        "%% (%s) they are shed at once, for pressure\n",
	        config_format_key(config, CONFIG_KEY_evict_idle, key),
	        parse_format_duration(config->evict_idle, idle), config->start_at, place);
}

static int load_files(struct load *load)
{
	const char *named = load->source->file;
	const char *file = named ? named : CONFIG_DEFAULT_FILE;
	struct config_found *found = &load->config->found;
	OWN_MEM char *directory = NULL;

	int r = config_file_read(
	        &load->reader, file, named ? CONFIG_FILE_NAMED : CONFIG_FILE_DEFAULT);
	if (r < 0)
		return r;
	found->file = r != CONFIG_FILE_MISSING;
	if (asprintf(&directory, "%s.d", file) < 0) {
		directory = NULL;
		return -ENOMEM;
	}
	config_found_look(found, directory);
	r = config_file_read_directory(&load->reader, directory);
	if (r < 0)
		return r;
	found->drop_ins = (unsigned)r;
	if (load->source->before)
		config_found_compare(
		        &load->reader, load->source->before, found, file, directory);
	return 0;
}

/* How many mistakes there were beyond those that are named. Returns as config_load. */
static int load_finish(const struct load *load)
{
	const struct config_reader *r = &load->reader;
	unsigned more = r->named && r->mistakes > r->named ? r->mistakes - r->named : 0;

	if (more)
		(void)fprintf(r->errors, "and %u more mistake%s%s\n", more, PLURAL(more),
		        r->named < CONFIG_NAMED_CHECK ? "; portd -t names them" : "");
	return (int)r->mistakes;
}

int config_load(const struct config_source *source, struct config *ret, FILE *errors)
{
	struct load load = {
	        .reader = {.section = load_section,
	                .key = load_key,
	                .begin = load_begin,
	                .errors = errors,
	                .named = source->named,
	                .patience =
	                        source->patience ? source->patience : CONFIG_PATIENCE},
	        .source = source,
	        .config = ret,
	};
	int r;

	load.reader.arg = &load;
	load.reader.deadline = clock_now() + load.reader.patience;
	config_set_defaults(ret);
	r = load_files(&load);
	for (size_t i = 0; r == 0 && i < source->n_overrides; i++)
		r = load_override(&load, source->overrides[i]);
	if (r == 0 && load.no_memory)
		r = -ENOMEM;
	if (r == 0)
		contradictions_check(&load);
	if (r == 0)
		r = load_finish(&load);
	if (r != 0)
		config_release(ret);
	return r;
}

/* The [section] line before the first key of each. */
static void section_print(size_t i, FILE *out)
{
	if (i > 0 && strcmp(config_keys[i].section, config_keys[i - 1].section) == 0)
		return;
	(void)fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", config_keys[i].section);
}

static void key_print(const struct config_key *key, const struct config *config,
        const char *prefix, FILE *out)
{
	(void)fprintf(out, "%s%s =", prefix, key->name);
	config_key_print(key, config, out);
	(void)fputc('\n', out);
}

void config_print(const struct config *config, FILE *out)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		section_print(i, out);
		key_print(&config_keys[i], config, "", out);
	}
}

/* Writes text as comment lines of at most 90 columns. */
static void comment_print(const char *text, FILE *out)
{
	size_t column = 0;

	for (const char *word = text; *word;) {
		size_t len = strcspn(word, " ");

		if (column > 0 && column + 1 + len > 90) {
			(void)fputc('\n', out);
			column = 0;
		}
		if (column == 0)
			(void)fputc('#', out);
		(void)fprintf(out, " %.*s", (int)len, word);
		column += 1 + len + (column == 0);
		word += len;
		word += strspn(word, " ");
	}
	(void)fputc('\n', out);
}

static const char template_head[] =
        "# portd.conf - configuration of portd(8), described in portd.conf(5).\n"
        "#\n"
        "# Every key stands here at its default; take the # away to change it. Key and\n"
        "# value are separated by = alone. A comment begins with # or ; where a line\n"
        "# starts, or with ; after a blank within one. Durations need a unit: us, ms, s, "
        "min or h;\n"
        "# 'infinity' is a duration, too. Other numbers may have K, M or G, powers\n"
        "# of 1024.\n"
        "#\n"
        "# 'portd -t' checks this file and 'portctl reload' takes it into use, but\n"
        "# for the keys that need a restart. The *.conf of /etc/portd.conf.d/ are\n"
        "# read after it, in the order of their names; a key set there wins.\n"
        "\n";

void config_print_template(FILE *out)
{
	struct config defaults;

	config_set_defaults(&defaults);
	(void)fputs(template_head, out);
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		/* Before the first key of a section section_print writes it. */
		if (i > 0 &&
		        strcmp(config_keys[i].section, config_keys[i - 1].section) == 0)
			(void)fputc('\n', out);
		section_print(i, out);
		comment_print(config_keys[i].help, out);
		if (!config_keys[i].live)
			comment_print("A change needs a restart.", out);
		key_print(&config_keys[i], &defaults, "#", out);
	}
}

void config_share(const struct config *config, struct config *ret)
{
	*ret = *config;
	for (size_t i = 0; i < ARRAY_SIZE(config_lists); i++)
		(void)prefix_set_share(*list_of(ret, i));
}

void config_release(struct config *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_lists); i++)
		*list_of(config, i) = prefix_set_free(*list_of(config, i));
}

unsigned config_keep_fixed(const struct config *a, struct config *b,
        void (*changed)(const char *key, void *arg), void *arg)
{
	char old[CONFIG_VALUE_MAX], new[CONFIG_VALUE_MAX];
	unsigned n = 0;

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];
		char name[2 * CONFIG_WORD_MAX + 2];

		if (key->live || strcmp(config_key_format(key, a, old),
		                         config_key_format(key, b, new)) == 0)
			continue;
		memcpy((char *)b + key->offset, (const char *)a + key->offset, key->size);
		b->origin[i] = a->origin[i];
		(void)snprintf(name, sizeof(name), "%s.%s", key->section, key->name);
		changed(name, arg);
		n++;
	}
	return n;
}
