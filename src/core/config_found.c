/*
 * config_found.c - files that were there and are gone. See config_found.h.
 */
#include "core/config_found.h"

#include <sys/stat.h>

void config_found_look(struct config_found *found, const char *directory)
{
	struct stat st;

	found->directory = stat(directory, &st) == 0;
	if (!found->directory)
		return;
	found->dev = st.st_dev;
	found->ino = st.st_ino;
}

static bool found_same_directory(
        const struct config_found *a, const struct config_found *b)
{
	return a->directory && b->directory && a->dev == b->dev && a->ino == b->ino;
}

void config_found_compare(struct config_reader *reader, const struct config_found *before,
        const struct config_found *now, const char *file, const char *directory)
{
	const struct config_place of_file = {.name = file},
	                          of_directory = {.name = directory};

	if (before->file && !now->file)
		config_mistake(reader, &of_file, NULL, NULL, NULL,
		        "is gone, and the configuration in force was read from it; "
		        "allowed: the "
		        "file, or an empty one for the defaults");
	if (before->drop_ins > 0 && now->drop_ins == 0 &&
	        !found_same_directory(before, now))
		config_mistake(reader, &of_directory, NULL, NULL, NULL,
		        "is gone, or another directory without drop-ins, and the "
		        "configuration "
		        "in force was read from it; allowed: the drop-ins, or an empty "
		        "one to do without");
}
