/*
 * drop_in.h - which files of a directory are drop-ins, and in which order they are read.
 */
#ifndef BASE_DROP_IN_H
#define BASE_DROP_IN_H

#include <dirent.h>

/* Those named *.conf that do not begin with a dot, in the order of their bytes, whatever the locale
 * is; the last one wins. As scandir(3): returns how many there are, with *ret and each of its entries
 * to be freed by the caller, or -1 with errno. */
int drop_in_scan(const char *directory, struct dirent ***ret);

#endif
