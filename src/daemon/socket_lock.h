/*
 * socket_lock.h - a lock beside the control socket's file, for the moment in which it is made: two
 * portd that start at once must not take each other's socket for one that is left over.
 */
#ifndef DAEMON_SOCKET_LOCK_H
#define DAEMON_SOCKET_LOCK_H

#include <limits.h>

struct socket_lock {
	int fd;                  /* -1: not held */
	int dir;                 /* of the caller's */
	char name[NAME_MAX + 1]; /* in dir */
};

#define SOCKET_LOCK_NONE \
	(struct socket_lock) \
	{ \
		.fd = -1 \
	}

/* Takes the lock for the file `name` in the directory that dir (O_PATH is enough) stands for: a file
 * name.lock there, which nobody else may open. It goes with the lock, or with the process. Waits for
 * at most 2 s for who holds it. Returns 0; 1 if it is held; -errno. dir has to stay open. */
int socket_lock_take(int dir, const char *name, struct socket_lock *ret);
/* Accepts one that is not held. */
void socket_lock_release(struct socket_lock *lock);

#define OWN_SOCKET_LOCK __attribute__((cleanup(socket_lock_release)))

#endif
