/*
 * drop_in.c - which files of a directory are drop-ins.
 */
#include "base/drop_in.h"

#include <string.h>

static int name_is_drop_in(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 &&
	       strcmp(entry->d_name + len - 5, ".conf") == 0;
}

/* Not alphasort(3), which looks at the locale. */
static int name_compare(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int drop_in_scan(const char *directory, struct dirent ***ret)
{
	return scandir(directory, ret, name_is_drop_in, name_compare);
}
