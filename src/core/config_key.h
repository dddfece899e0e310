/*
 * config_key.h - the table of keys (config.def) and how the value of each is read,
 * written and explained. For config.c only.
 */
#ifndef CORE_CONFIG_KEY_H
#define CORE_CONFIG_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/config.h"

/* Above what fs.nr_open can be. */
#define CONFIG_COUNT_MAX UINT64_C(1073741816)
/* The longest value is a message of nothing but \xNN. */
#define CONFIG_VALUE_MAX (4 * CONFIG_MESSAGE_MAX + 1)
/* What a mistake says about what would be right. */
#define CONFIG_ADVICE_MAX 512

enum config_type {
	CONFIG_TYPE_ADDRESS,
	CONFIG_TYPE_COUNT,
	CONFIG_TYPE_AUTO_COUNT,
	CONFIG_TYPE_PERCENT,
	CONFIG_TYPE_DURATION,
	CONFIG_TYPE_TIMEOUT, /* a duration in which infinity means the same as 0s */
	CONFIG_TYPE_FD_TABLE,
	CONFIG_TYPE_ANSWER,
	CONFIG_TYPE_LEVEL,
	CONFIG_TYPE_SERVICE,
	CONFIG_TYPE_MESSAGE,
	CONFIG_TYPE_PATH,
	CONFIG_TYPE_MODE,
	CONFIG_TYPE_GROUP,
	CONFIG_TYPE_SWITCH, /* off, on */
	CONFIG_TYPE_YES_NO, /* no, yes */
	CONFIG_TYPE_PREFIXES, /* read by config_key_set_prefixes, written by config_key_print */
};

struct config_key {
	const char *section, *name;
	enum config_type type;
	bool live;
	size_t offset, size; /* of the field */
	uint64_t least, greatest;
	const char *fallback, *help;
};

extern const struct config_key config_keys[CONFIG_KEY_COUNT];

/* NULL if there is none. */
const struct config_key *config_key_find(const char *section, const char *name);
bool config_key_has_section(const char *section);

/* Reads text into the key's field. services: as in struct config_source; NULL: any name.
 * Returns 0; -EINVAL: not of this form; -ERANGE: of it, but out of range; -ENODATA: empty
 * where that means nothing. A field that could not be set keeps its value. */
int config_key_set(const struct config_key *key, const char *text,
        const char *const *services, struct config *config);

/* The same for a list of prefixes, with each item that is wrong said to mistake, a line without its
 * end. Returns 0; 1 after a mistake; -ENOMEM. */
int config_key_set_prefixes(const struct config_key *key, const char *text,
        struct config *config, void (*mistake)(const char *what, void *arg), void *arg);

/* Writes the value as a file has it behind its '=', of any type and length: a blank before it, unless it
 * is empty. */
void config_key_print(
        const struct config_key *key, const struct config *config, FILE *out);

/* The text that config_key_set reads back. Two values are the same if their texts are. */
char *config_key_format(const struct config_key *key, const struct config *config,
        char buf[static CONFIG_VALUE_MAX]);

/* «allowed: …» for a value of the key. */
char *config_key_advise(const struct config_key *key, const char *const *services,
        char buf[static CONFIG_ADVICE_MAX]);

/* «did you mean …?; allowed: …» for a section, or a key of this section, that does not
 * exist. */
char *config_key_advise_section(const char *section, char buf[static CONFIG_ADVICE_MAX]);
char *config_key_advise_name(
        const char *section, const char *name, char buf[static CONFIG_ADVICE_MAX]);

#endif
