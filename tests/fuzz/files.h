/*
 * files.h - the files of a configuration, in memory: the linker puts fuzz_files' open and directory in
 * place of the real ones (--wrap=open, --wrap=drop_in_scan).
 */
#ifndef TESTS_FUZZ_FILES_H
#define TESTS_FUZZ_FILES_H

#include "fuzz.h"

#define FILES_MAIN    "/fuzz/portd.conf"
#define FILES_DROP_IN "/fuzz/portd.conf.d/1.conf"

/* What FILES_MAIN has from now on. */
void files_set_main(struct fuzz_piece piece);
/* The same for FILES_DROP_IN; it does not exist before, nor with NULL. */
void files_set_drop_in(const struct fuzz_piece *piece);

#endif
