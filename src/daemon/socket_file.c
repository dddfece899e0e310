/*
 * socket_file.c - the file under which the control socket is found.
 *
 * Invariant: nothing is unlinked that is not a socket, and no socket that answers. A file
 * that was replaced under us is somebody else's by then, and stays.
 *
 * Reads next: reserve.c.
 */
#include "daemon/socket_file.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/own.h"

#define SOCKET_FILE_BACKLOG    128
#define SOCKET_FILE_GROUP_TEXT 65536U

int socket_file_find_group(const char *name, gid_t *ret)
{
	struct group group, *found = NULL;

	*ret = SOCKET_FILE_NO_GROUP;
	if (!*name)
		return 0;
	OWN_MEM char *text = malloc(SOCKET_FILE_GROUP_TEXT);
	if (!text)
		return -ENOMEM;
	int err = getgrnam_r(name, &group, text, SOCKET_FILE_GROUP_TEXT, &found);
	if (found) {
		*ret = found->gr_gid;
		return 0;
	}
	/* getgrnam_r(3): these too stand for "there is none". */
	return err == 0 || err == ENOENT || err == ESRCH || err == EBADF || err == EPERM
	               ? 1
	               : -err;
}

static struct sockaddr_un socket_file_address(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	memcpy(sa.sun_path, path, strnlen(path, sizeof(sa.sun_path) - 1));
	return sa;
}

static int socket_file_refuse(const char *path, const char *what)
{
	log_error("control socket %s: %s", path, what);
	return 1;
}

/* Makes room for a socket at path. Returns 0, or 1 after logging why not. */
static int socket_file_clear(const char *path)
{
	struct sockaddr_un sa = socket_file_address(path);
	struct stat st;

	if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		log_error("control socket %s: %m", path);
		return 1;
	}
	if (!S_ISSOCK(st.st_mode))
		return socket_file_refuse(path, "something that is not a socket has this "
		                                "name; it is left alone, choose "
		                                "another [control] socket");
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		log_error("control socket: %m");
		return 1;
	}
	/* EAGAIN: its queue is full, so somebody has it open. */
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN)
		return socket_file_refuse(path, "another portd answers here; stop it, or "
		                                "choose another [control] socket");
	if (errno != ECONNREFUSED) {
		log_error("control socket %s: cannot tell whether another portd answers "
		          "here: %m",
		        path);
		return 1;
	}
	if (unlink(path) < 0 && errno != ENOENT) {
		log_error("control socket %s: cannot replace what another portd left "
		          "behind: %m",
		        path);
		return 1;
	}
	return 0;
}

/* The directory part of path, or "" if there is none to be made. */
static void socket_file_directory(const char *path, char ret[CONFIG_SOCKET_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	memcpy(ret, path, len);
	ret[len] = '\0';
}

static void socket_file_make_directory(struct socket_file *file)
{
	char directory[CONFIG_SOCKET_MAX];

	socket_file_directory(file->path, directory);
	if (!*directory || mkdir(directory, 0755) < 0)
		return; /* bind(2) says what is wrong, if anything is */
	file->made_directory = true;
	(void)chmod(directory, 0755); /* the umask may have taken more */
}

/* Gives the bound socket its mode and group, and remembers the file. Returns 0 or -errno.
 */
static int socket_file_finish(struct socket_file *file, unsigned mode, gid_t group)
{
	struct stat st;

	if (lstat(file->path, &st) < 0)
		return -errno;
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	file->made = true;
	/* What is so already needs no permission: a confined unit has none. */
	if (group != SOCKET_FILE_NO_GROUP && group != st.st_gid &&
	        lchown(file->path, (uid_t)-1, group) < 0)
		return -errno;
	return chmod(file->path, (mode_t)mode) < 0 ? -errno : 0;
}

int socket_file_open(const char *path, unsigned mode, gid_t group,
        struct socket_file *ret, int *ret_fd)
{
	struct sockaddr_un sa = socket_file_address(path);

	*ret = (struct socket_file){.path = ""};
	memcpy(ret->path, path, strnlen(path, sizeof(ret->path) - 1));
	socket_file_make_directory(ret);
	if (socket_file_clear(path) != 0) {
		socket_file_remove(ret);
		return 1;
	}
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The file takes the mode of the unbound socket: nobody gets in before it has its
	 * own, and the process's umask stays as it is. */
	if (fd < 0 || fchmod(fd, 0) < 0 ||
	        bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		log_error("control socket %s: %m%s", path,
		        errno == ENOENT ? "; its directory is missing" : "");
		socket_file_remove(ret);
		return 1;
	}
	int r = listen(fd, SOCKET_FILE_BACKLOG) < 0 ? -errno : 0;
	int s = socket_file_finish(ret, mode, group);
	if (r == 0)
		r = s;
	if (r < 0) {
		errno = -r;
		log_error("control socket %s: cannot set its mode and group: %m%s", path,
		        r == -EPERM || r == -EINVAL
		                ? "; portd's user must be a member of [control] group "
		                  "(in portd.service: Group=)"
		                : "");
		socket_file_remove(ret);
		return 1;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void socket_file_remove(struct socket_file *file)
{
	char directory[CONFIG_SOCKET_MAX];
	struct stat st;

	if (file->made && lstat(file->path, &st) == 0 && st.st_dev == file->dev &&
	        st.st_ino == file->ino)
		(void)unlink(file->path);
	if (file->made_directory) {
		socket_file_directory(file->path, directory);
		(void)rmdir(directory);
	}
	*file = (struct socket_file){.path = ""};
}
