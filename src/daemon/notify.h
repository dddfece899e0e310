/*
 * notify.h - what portd tells its service manager: the protocol of sd_notify(3), over one
 * socket.
 *
 * Nothing here blocks and no failure ends portd. Main thread only.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NOTIFY_TEXT_MAX 1024

struct notify {
	int fd; /* -1: nobody wants to be told */
	struct sockaddr_un address;
	socklen_t address_len;
	uint64_t watchdog_usec; /* the period WATCHDOG=1 is due in; 0: no watchdog */
	bool stores;    /* the manager keeps descriptors over a restart: $FDSTORE */
	char owed[128]; /* the last change of state that could not be sent; "": none */
};

/* Reads NOTIFY_SOCKET, FDSTORE, WATCHDOG_USEC and WATCHDOG_PID, takes them out of the environment,
 * and opens the socket. Call it before any thread runs. *ret is valid whatever is
 * returned. Returns 0; 1 if nobody asked to be told; -EAFNOSUPPORT for an address that is
 * neither a path nor
 * '@' and a name; another -errno of socket(2). */
int notify_open(struct notify *ret);

/* Sends one message, "KEY=VALUE" lines. Returns 0, also when nobody wants to be told, or
 * -errno: the message is then lost. */
int notify_send(const struct notify *n, const char *message);

/* The same with one descriptor, which stays the caller's: «FDSTORE=1», sd_pid_notify_with_fds(3). */
int notify_send_fd(const struct notify *n, const char *message, int fd);

/* The same for a change of state (READY=1, RELOADING=1, STOPPING=1): if it cannot be sent
 * now it is owed, and takes the place of an older one that still is. At most 127 bytes.
 */
void notify_state(struct notify *n, const char *message);

/* Sends what is owed. Call it with every tick. */
void notify_retry(struct notify *n);

void notify_close(struct notify *n);

#endif
