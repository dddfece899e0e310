/*
 * files.c - see files.h.
 */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/drop_in.h"

/* Beyond what a harness has for itself. */
#define FD_FIRST 200

static struct {
	int fd; /* 0: not yet */
	bool exists;
} files[2];

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_drop_in_scan(const char *directory, struct dirent ***ret);

static void file_set(unsigned i, struct fuzz_piece piece)
{
	if (!files[i].fd) {
		int fd = memfd_create("fuzz", MFD_CLOEXEC);

		files[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST);
		FUZZ_CHECK(files[i].fd > 0, "no memfd");
		(void)close(fd);
	}
	files[i].exists = true;
	FUZZ_CHECK(ftruncate(files[i].fd, 0) == 0 &&
	                   pwrite(files[i].fd, piece.bytes, piece.len, 0) ==
	                           (ssize_t)piece.len,
	        "no room in a memfd");
}

void files_set_main(struct fuzz_piece piece)
{
	file_set(0, piece);
}

void files_set_drop_in(const struct fuzz_piece *piece)
{
	if (piece)
		file_set(1, *piece);
	else
		files[1].exists = false;
}

int __wrap_open(const char *path, int flags, ...)
{
	unsigned i = strcmp(path, FILES_DROP_IN) == 0;
	va_list args;

	va_start(args, flags);
	mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (strncmp(path, "/fuzz/", 6) != 0)
		return __real_open(path, flags, mode);
	if (!files[i].exists || (i == 0 && strcmp(path, FILES_MAIN) != 0)) {
		errno = ENOENT;
		return -1;
	}
	/* Who opened it before has closed it by now. */
	(void)lseek(files[i].fd, 0, SEEK_SET);
	return fcntl(files[i].fd, F_DUPFD_CLOEXEC, 0);
}

int __wrap_drop_in_scan(const char *directory, struct dirent ***ret)
{
	struct dirent **names = calloc(1, sizeof(struct dirent *));
	struct dirent *name = calloc(1, sizeof(*name));

	FUZZ_CHECK(names && name, "out of memory");
	if (!files[1].exists || strcmp(directory, FILES_MAIN ".d") != 0) {
		free(name);
		free(names);
		errno = ENOENT;
		return -1;
	}
	(void)snprintf(name->d_name, sizeof(name->d_name), "1.conf");
	names[0] = name;
	*ret = names;
	return 1;
}
