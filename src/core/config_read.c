/*
 * config_read.c - a configuration file, read whole.
 *
 * Invariants: what is read is bounded, and so is the time it takes, for a reload must not hang on a
 * pipe that nobody writes to. Memory grows with what the file has: 1 MiB for each would take longer
 * to get than a short file takes to read.
 */
#include "core/config_read.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/own.h"

/* So often a wait looks whether portd was asked to stop. */
#define FILE_SLICE_MS 50
/* Room at first: most files have less. */
#define FILE_ROOM 4096

const char *config_name_judge(const char *path, int err)
{
	struct stat st;

	if (err != ENOENT)
		return strerrordesc_np(err);
	return lstat(path, &st) == 0 ? "No such file or directory where this link leads"
	                             : NULL;
}

/* Opens what can be read as a file. Returns the descriptor, or -1 and the reason in
 * *ret_why. */
static int file_open(const char *path, enum config_file_kind kind, const char **ret_why)
{
	/* Without O_NONBLOCK open(2) waits for a writer of a FIFO. */
	OWN_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	*ret_why = NULL;
	if (fd < 0) {
		*ret_why = config_name_judge(path, errno);
		if (!*ret_why && kind != CONFIG_FILE_DEFAULT)
			*ret_why = strerrordesc_np(ENOENT);
		return -1;
	}
	if (fstat(fd, &st) < 0) {
		*ret_why = strerrordesc_np(errno);
		return -1;
	}
	/* Character devices are /dev/stdin on a terminal, and /dev/null. */
	if (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode) ||
	        (S_ISFIFO(st.st_mode) && kind != CONFIG_FILE_DROP_IN))
		return TAKE_FD(fd);
	*ret_why = S_ISDIR(st.st_mode)    ? "it is a directory"
	           : S_ISFIFO(st.st_mode) ? "it is a pipe"
	                                  : "it is not a file";
	return -1;
}

/* A pipe that is empty has said nothing, where an empty file says «the defaults». */
static bool is_pipe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

/* Twice the room, up to one byte more than a file may have. Returns 0 or -ENOMEM. */
static int bytes_grow(struct config_bytes *b)
{
	size_t room = b->room ? 2 * b->room : FILE_ROOM;

	if (room > CONFIG_FILE_MAX + 1)
		room = CONFIG_FILE_MAX + 1;
	char *data = realloc(b->data, room + 1);

	if (!data)
		return -ENOMEM;
	b->data = data;
	b->room = room;
	return 0;
}

/* A stop signal that is blocked, and so waits for this to be over. */
static bool is_asked_to_stop(void)
{
	sigset_t set;

	return sigpending(&set) == 0 &&
	       (sigismember(&set, SIGTERM) == 1 || sigismember(&set, SIGINT) == 1);
}

/* Waits a little for more of a file. Returns whether there is time for more. */
static bool file_wait(struct config_reader *reader, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	reader->late |= is_asked_to_stop();
	if (config_reader_is_late(reader))
		return false;
	(void)poll(&p, 1, FILE_SLICE_MS);
	return true;
}

/* Reads all of it, but no more than one byte beyond CONFIG_FILE_MAX. Returns 0, with *ret_why if it
 * could not be read, or the reader late; -ENOMEM. */
static int file_take(struct config_reader *reader, int fd, struct config_bytes *ret,
        const char **ret_why)
{
	while (ret->len <= CONFIG_FILE_MAX) {
		if (ret->len == ret->room && bytes_grow(ret) < 0)
			return -ENOMEM;
		ssize_t n = read(fd, ret->data + ret->len, ret->room - ret->len);

		if (n == 0)
			break;
		if (n > 0) {
			ret->len += (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			*ret_why = strerrordesc_np(errno);
			break;
		} else if (!file_wait(reader, fd)) {
			break;
		}
	}
	return 0;
}

int config_read_file(struct config_reader *reader, const char *path,
        enum config_file_kind kind, struct config_bytes *ret, const char **ret_why)
{
	*ret = (struct config_bytes){.len = 0};
	OWN_FD int fd = file_open(path, kind, ret_why);
	int r = 0;

	if (fd < 0)
		return *ret_why ? 0 : CONFIG_FILE_MISSING;
	if (!config_reader_is_late(reader))
		r = file_take(reader, fd, ret, ret_why);
	if (!*ret_why && ret->len > CONFIG_FILE_MAX)
		*ret_why = "it has more than 1 MiB";
	if (!*ret_why && !reader->late && ret->len == 0 && is_pipe(fd))
		*ret_why =
		        "it is a pipe with nothing in it: nobody writes to it, or it was "
		        "read before, and only a file can be read again";
	if (r < 0 || *ret_why || reader->late) {
		free(ret->data);
		*ret = (struct config_bytes){.len = 0};
	}
	return r;
}
