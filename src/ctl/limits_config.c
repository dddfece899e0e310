/*
 * limits_config.c - where the keys that a remedy names are set: as a running portd says, or, for one
 * that would be started, as its default files do.
 *
 * Invariants: the place is the one that wins, for a value anywhere else has no effect; a file that
 * cannot be read has no place in it. Whether the files are right is for portd to say: of a line no
 * more is looked at than whether it is a section or sets a key.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/drop_in.h"
#include "base/own.h"
#include "ctl/limits.h"

static const struct {
	const char *section, *name;
} keys[LIMITS_KEY_COUNT] = {
        [LIMITS_KEY_WORKERS] = {"workers", "count"},
        [LIMITS_KEY_FD_TABLE] = {"workers", "fd_table"},
        [LIMITS_KEY_FDS] = {"budget", "fds"},
        [LIMITS_KEY_MAX_CONNECTIONS] = {"budget", "max_connections"},
        [LIMITS_KEY_PRIORITY] = {"budget", "priority"},
        [LIMITS_KEY_BACKLOG] = {"listener", "backlog"},
};

const char *limits_key_section(enum limits_key key)
{
	return keys[key].section;
}

const char *limits_key_name(enum limits_key key)
{
	return keys[key].name;
}

/* LIMITS_KEY_COUNT: none of them. */
static enum limits_key key_find(const char *section, const char *name)
{
	for (unsigned i = 0; i < LIMITS_KEY_COUNT; i++)
		if (strcmp(keys[i].section, section) == 0 &&
		        strcmp(keys[i].name, name) == 0)
			return (enum limits_key)i;
	return LIMITS_KEY_COUNT;
}

void limits_place_take(struct limits_portd *p, const char *key, const char *place)
{
	char section[LIMITS_WORD_MAX] = "";
	const char *dot = strchr(key, '.');

	if (!dot || dot - key >= LIMITS_WORD_MAX)
		return;
	memcpy(section, key, (size_t)(dot - key));
	enum limits_key found = key_find(section, dot + 1);
	if (found == LIMITS_KEY_COUNT)
		return;

	struct limits_place *to = &p->place[found];
	const char *colon = strrchr(place, ':');
	size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;

	*to = (struct limits_place){.line = 0};
	if (strncmp(place, "-o ", 3) == 0) {
		(void)snprintf(to->option, sizeof(to->option), "%s", place);
	} else if (digits > 0 && colon[1 + digits] == '\0') {
		(void)snprintf(
		        to->file, sizeof(to->file), "%.*s", (int)(colon - place), place);
		to->line = strtoul(colon + 1, NULL, 10);
	} else {
		(void)snprintf(to->file, sizeof(to->file), "%s", place);
	}
}

/* The text without the blanks around it, cut before `end`. */
static char *word_cut(char *text, char end)
{
	char *stop = strchr(text, end);

	if (stop)
		*stop = '\0';
	text += strspn(text, " \t");
	size_t len = strlen(text);

	while (len > 0 && strchr(" \t", text[len - 1]))
		text[--len] = '\0';
	return text;
}

/* Takes the keys that root/path sets. */
static void file_scan(const char *root, const char *path, struct limits_portd *p)
{
	OWN_MEM char *full = NULL, *line = NULL;
	char section[LIMITS_WORD_MAX] = "";
	size_t size = 0;

	if (asprintf(&full, "%s%s", root, path) < 0) {
		full = NULL;
		return;
	}
	OWN_FILE FILE *f = fopen(full, "re");
	for (unsigned long n = 1; f && getline(&line, &size, f) > 0; n++) {
		char *text = line + strspn(line, " \t");

		if (*text == '[') {
			(void)snprintf(
			        section, sizeof(section), "%s", word_cut(text + 1, ']'));
			continue;
		}
		if (*text == '#' || *text == ';' || !strchr(text, '='))
			continue;
		enum limits_key key = key_find(section, word_cut(text, '='));

		if (key == LIMITS_KEY_COUNT)
			continue;
		p->place[key].line = n;
		(void)snprintf(
		        p->place[key].file, sizeof(p->place[key].file), "%s", path);
	}
}

void limits_config_read(const char *root, struct limits_portd *p)
{
	static const char directory[] = LIMITS_CONFIG_DEFAULT ".d";
	struct dirent **names = NULL;
	OWN_MEM char *full = NULL;

	file_scan(root, LIMITS_CONFIG_DEFAULT, p);
	if (asprintf(&full, "%s%s", root, directory) < 0) {
		full = NULL;
		return;
	}
	int n = drop_in_scan(full, &names);

	for (int i = 0; i < n; i++) {
		OWN_MEM char *path = NULL;

		if (asprintf(&path, "%s/%s", directory, names[i]->d_name) < 0)
			path = NULL;
		if (path)
			file_scan(root, path, p);
		free(names[i]);
	}
	free(names);
}
