/*
 * socket_file.h - the file under which the control socket is found: made, replaced, taken
 * away.
 */
#ifndef DAEMON_SOCKET_FILE_H
#define DAEMON_SOCKET_FILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/config.h"

struct socket_file {
	char path[CONFIG_SOCKET_MAX];
	bool made;
	dev_t dev; /* of the file made, to know it again */
	ino_t ino;
	bool made_directory;
};

/* No group: the socket belongs to portd's own. */
#define SOCKET_FILE_NO_GROUP ((gid_t)-1)

/* Looks a group up; "" is SOCKET_FILE_NO_GROUP. It may ask the name services, so call it
 * at start, and at a reload for a name that has changed only. Returns 0; 1 if there is no such group; -errno. */
int socket_file_find_group(const char *name, gid_t *ret);

/* Makes the parent directory if it is missing (0755, one level), replaces a socket that
 * nobody listens on, and listens there with this mode and group, whatever the umask. A
 * socket that somebody answers on, and a file that is no socket, are left alone; a file that takes its
 * name meanwhile gets neither mode nor group. Of several portd that do this at once one has it. Waits
 * for others for 2 s at most. Returns 0 with *ret_fd (non-blocking, close-on-exec), or 1 after logging why not. */
int socket_file_open(const char *path, unsigned mode, gid_t group,
        struct socket_file *ret, int *ret_fd);

/* Whether its name leads to the file that was made. */
bool socket_file_is_there(const struct socket_file *file);

/* What has the name of a file that is not there. */
enum socket_file_instead {
	SOCKET_FILE_NOTHING,
	SOCKET_FILE_DEAD, /* a socket that nobody listens on: socket_file_open replaces it */
	SOCKET_FILE_OTHER /* what socket_file_open leaves alone */
};

/* Looks at path, with one descriptor. *ret_what: for SOCKET_FILE_OTHER what it is; what to do about it. */
enum socket_file_instead socket_file_look(const char *path, const char **ret_what);

/* Unlinks the file if it is still the one made, and the directory if it was made for it and is empty.
 * Before the socket is closed: nobody takes the place of one that answers. */
void socket_file_remove(struct socket_file *file);

#endif
