/*
 * socket_file.c - the file under which the control socket is found.
 *
 * Invariants: nothing is unlinked that is not a socket, and no socket that answers: who looks at one
 * and makes another holds the lock beside it (socket_lock.h), and who gives one up removes its file
 * while it still answers. A file that was replaced under us is somebody else's by then, and stays. No
 * name is trusted twice: what was made is opened once, without following a link, and gets its group
 * and mode through that descriptor.
 */
#include "daemon/socket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/own.h"
#include "daemon/socket_lock.h"

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

/* The directory part of path, or "" if there is none to be made. */
static void socket_file_directory(const char *path, char ret[CONFIG_SOCKET_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	memcpy(ret, path, len);
	ret[len] = '\0';
}

/* Why this file can be neither made nor replaced: `err` was said of `what`; directory_err: of its
 * directory, which was to be made. Returns 1 after logging it with what helps. */
static int socket_file_explain(
        const char *path, const char *what, int err, int directory_err)
{
	static const char remedy[] =
	        "; -o control.socket=FILE takes another place, which portctl is told by "
	        "-s FILE or $PORTD_SOCKET";
	char directory[CONFIG_SOCKET_MAX];
	struct stat st;

	socket_file_directory(path, directory);
	if (err == ENOENT && directory_err < 0)
		log_error("control socket %s: its directory %s cannot be made: %s%s",
		        path, directory, strerrordesc_np(-directory_err), remedy);
	else if ((err == EACCES || err == EPERM) && *directory &&
	         stat(directory, &st) == 0 && st.st_uid != geteuid())
		log_error("control socket %s: %s: %s; %s belongs to user %u (mode %04o), "
		          "and portd runs as user %u%s",
		        path, what, strerrordesc_np(err), directory, st.st_uid,
		        st.st_mode & 07777, geteuid(), remedy);
	else
		log_error("control socket %s: %s: %s%s", path, what, strerrordesc_np(err),
		        remedy);
	return 1;
}

/* The name of the file in its directory. */
static const char *socket_file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Unlinks the socket that `st` describes, if it still has the name. Nobody listens on it, and with the
 * lock held no other portd makes one. As socket_file_clear. */
static int socket_file_unlink_stale(int dir, const char *path, const struct stat *st)
{
	const char *name = socket_file_name(path);
	struct stat now;

	if (fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
	        now.st_dev != st->st_dev || now.st_ino != st->st_ino)
		return socket_file_refuse(
		        path, "its file changes while it is looked at; try again");
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	return socket_file_explain(
	        path, "cannot replace what another portd left behind", errno, 0);
}

/* Does anybody listen on the socket at path? Returns 0 if not, 1 if so, or -errno: it cannot be told. */
static int socket_file_probe(const char *path)
{
	struct sockaddr_un sa = socket_file_address(path);
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* EAGAIN: its queue is full, so somebody has it open. */
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EAGAIN)
		return 1;
	return errno == ECONNREFUSED ? 0 : -errno;
}

/* Makes room for a socket at path. Returns 0, or 1 after logging why not. */
static int socket_file_clear(int dir, const char *path)
{
	struct stat st;

	if (fstatat(dir, socket_file_name(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT
		               ? 0
		               : socket_file_explain(path, "cannot look at it", errno, 0);
	if (!S_ISSOCK(st.st_mode))
		return socket_file_refuse(path, "something that is not a socket has this "
		                                "name; it is left alone, choose "
		                                "another [control] socket");
	int r = socket_file_probe(path);
	if (r > 0)
		return socket_file_refuse(path, "another portd answers here; stop it, or "
		                                "choose another [control] socket");
	if (r < 0)
		return socket_file_explain(
		        path, "cannot tell whether another portd answers here", -r, 0);
	return socket_file_unlink_stale(dir, path, &st);
}

/* chmod(2) of what fd, of O_PATH perhaps, stands for, whatever has its name by now. Returns 0 or -errno. */
static int socket_file_chmod(int fd, mode_t mode)
{
	char link[sizeof("/proc/self/fd/-2147483648")];

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return chmod(link, mode) < 0 ? -errno : 0;
}

/* Returns 0, also if it is there already, or -errno: that matters only if nothing can be made in
 * it. */
static int socket_file_make_directory(struct socket_file *file)
{
	char directory[CONFIG_SOCKET_MAX];
	struct stat st;

	socket_file_directory(file->path, directory);
	if (!*directory)
		return 0;
	if (mkdir(directory, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	file->made_directory = true;
	/* The umask may have taken more. */
	OWN_FD int fd = open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid())
		(void)socket_file_chmod(fd, 0755);
	return 0;
}

/* Gives the bound socket its mode and group, and remembers the file. Returns 0, 1 if another file has
 * its name by now, or -errno. */
static int socket_file_finish(
        struct socket_file *file, int dir, unsigned mode, gid_t group)
{
	struct stat st;
	/* From here on it is this file, not its name. */
	OWN_FD int fd = openat(
	        dir, socket_file_name(file->path), O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 1 : -errno;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1 ||
	        (st.st_mode & 07777U) != 0)
		return 1;
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	file->made = true;
	/* What is so already needs no permission: a confined unit has none. */
	if (group != SOCKET_FILE_NO_GROUP && group != st.st_gid &&
	        fchownat(fd, "", (uid_t)-1, group, AT_EMPTY_PATH) < 0)
		return -errno;
	return socket_file_chmod(fd, (mode_t)mode);
}

/* Returns 0 with *ret_fd, or 1 after logging why not. */
static int socket_file_bind(
        struct socket_file *file, int dir, unsigned mode, gid_t group, int *ret_fd)
{
	struct sockaddr_un sa = socket_file_address(file->path);
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* The file takes the mode of the unbound socket: nobody gets in before it has its
	 * own, and the process's umask stays as it is. */
	if (fd < 0 || fchmod(fd, 0) < 0) {
		log_error("control socket: %m");
		return 1;
	}
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		return socket_file_explain(file->path, "cannot make it", errno, 0);
	/* First what remembers the file, so that it goes in any case. */
	int r = socket_file_finish(file, dir, mode, group);
	if (r > 0)
		return socket_file_refuse(file->path,
		        "another file took its place while it was made; who else may "
		        "write to its directory?");
	if (r == 0 && listen(fd, SOCKET_FILE_BACKLOG) < 0) {
		log_error("control socket %s: cannot listen: %m", file->path);
		return 1;
	}
	if (r < 0) {
		errno = -r;
		log_error("control socket %s: cannot set its mode and group: %m%s",
		        file->path,
		        r == -EPERM || r == -EINVAL
		                ? "; portd's user must be a member of [control] group "
		                  "(in portd.service: Group=)"
		                : "");
		return 1;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

bool socket_file_is_there(const struct socket_file *file)
{
	struct stat st;

	return file->made && stat(file->path, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
}

enum socket_file_instead socket_file_look(const char *path, const char **ret_what)
{
	struct stat st;

	*ret_what = "it cannot be looked at; see who may enter its directory";
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? SOCKET_FILE_NOTHING : SOCKET_FILE_OTHER;
	*ret_what = S_ISLNK(st.st_mode)
	                    ? "a symbolic link has this name; remove it"
	                    : "something that is not a socket has this name; remove it";
	if (!S_ISSOCK(st.st_mode))
		return SOCKET_FILE_OTHER;
	int r = socket_file_probe(path);
	if (r == 0)
		return SOCKET_FILE_DEAD;
	if (r == -ENOENT)
		return SOCKET_FILE_NOTHING;
	*ret_what = r > 0 ? "another process answers here; stop it"
	                  : "another socket has this name; remove it";
	return SOCKET_FILE_OTHER;
}

/* Unlinks the file, if it is still the one made. */
static void socket_file_unlink(struct socket_file *file)
{
	struct stat st;

	if (file->made && lstat(file->path, &st) == 0 && st.st_dev == file->dev &&
	        st.st_ino == file->ino)
		(void)unlink(file->path);
	file->made = false;
}

/* As socket_file_bind, in an orderly manner among other portd. directory_err: what came of making its
 * directory. */
static int socket_file_make(struct socket_file *file, int directory_err, unsigned mode,
        gid_t group, int *ret_fd)
{
	char directory[CONFIG_SOCKET_MAX];

	socket_file_directory(file->path, directory);
	const char *there = *directory ? directory : *file->path == '/' ? "/" : ".";
	OWN_FD int dir = open(there, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return socket_file_explain(
		        file->path, "cannot open its directory", errno, directory_err);
	OWN_SOCKET_LOCK struct socket_lock lock = SOCKET_LOCK_NONE;
	int r = socket_lock_take(dir, socket_file_name(file->path), &lock);
	if (r > 0)
		return socket_file_refuse(
		        file->path, "another portd is being started here");
	if (r < 0) {
		char what[sizeof(lock.name) + 32];

		(void)snprintf(what, sizeof(what), "cannot make its lock %s", lock.name);
		return socket_file_explain(file->path, what, -r, 0);
	}
	r = socket_file_clear(dir, file->path);
	if (r == 0)
		r = socket_file_bind(file, dir, mode, group, ret_fd);
	if (r != 0)
		socket_file_unlink(file);
	return r;
}

int socket_file_open(const char *path, unsigned mode, gid_t group,
        struct socket_file *ret, int *ret_fd)
{
	*ret = (struct socket_file){.path = ""};
	memcpy(ret->path, path, strnlen(path, sizeof(ret->path) - 1));
	int directory_err = socket_file_make_directory(ret);
	int r = socket_file_make(ret, directory_err, mode, group, ret_fd);
	if (r != 0)
		socket_file_remove(ret);
	return r;
}

void socket_file_remove(struct socket_file *file)
{
	char directory[CONFIG_SOCKET_MAX];

	socket_file_unlink(file);
	if (file->made_directory) {
		socket_file_directory(file->path, directory);
		(void)rmdir(directory);
	}
	*file = (struct socket_file){.path = ""};
}
