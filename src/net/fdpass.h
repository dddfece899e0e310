/*
 * fdpass.h - a descriptor from one table to another, by SCM_RIGHTS (unix(7)) over a socket that keeps
 * message boundaries.
 */
#ifndef NET_FDPASS_H
#define NET_FDPASS_H

#include <stddef.h>
#include <sys/socket.h>

/* Sends a descriptor; the caller's stays open. Works for a sender that has no descriptor free.
 * Never blocks. Returns 0 or -errno (ETOOMANYREFS: too many on their way). */
int fdpass_send(int socket_fd, int fd);

/* The same to an address (NULL: the socket is connected), with len bytes of data, at least one, and
 * with a descriptor or without (-1). Any thread. Never blocks. Returns 0 or -errno. */
int fdpass_send_to(int socket_fd, const struct sockaddr *to, socklen_t to_len,
        const void *data, size_t len, int fd);

/* Receives the next one, close-on-exec. Never blocks. Returns the descriptor; -1 if none was there,
 * or if this table had no place for it (MSG_CTRUNC): then it is lost, and closed by the kernel. */
int fdpass_receive(int socket_fd);

#endif
