/*
 * peer.h - who is at the other end of a control connection.
 */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/* No uid is nobody's. */
#define PEER_NO_NOBODY ((uid_t)-1)

/* The uid in which all users appear that this process's user namespace does not know (user_namespaces(7)):
 * whoever has it may be anybody. PEER_NO_NOBODY where the namespace knows all users. It stays as long as
 * the process does. */
uid_t peer_find_nobody(void);

/* Is the peer of this unix socket root or portd's own user, SO_PEERCRED? nobody: of peer_find_nobody. */
bool peer_is_privileged(int fd, uid_t nobody);

#endif
