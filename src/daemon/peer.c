/*
 * peer.c - who is at the other end of a control connection.
 */
#include "daemon/peer.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "base/parse.h"

/* Linux's own, where /proc/sys is out of sight. */
#define PEER_OVERFLOW_UID 65534U

/* Each uid as itself: what uid_map has where nobody has made a user namespace. What cannot be read is
 * taken for another one. */
static bool peer_map_is_identity(void)
{
	char line[128] = "", more[2];
	unsigned long inside, outside, count;
	OWN_FILE FILE *map = fopen("/proc/self/uid_map", "re");

	return map && fgets(line, sizeof(line), map) &&
	       sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3 &&
	       inside == 0 && outside == 0 && count == UINT32_MAX &&
	       !fgets(more, sizeof(more), map);
}

static uid_t peer_overflow_uid(void)
{
	char line[32] = "";
	uint64_t uid;
	OWN_FILE FILE *file = fopen("/proc/sys/kernel/overflowuid", "re");

	if (!file || !fgets(line, sizeof(line), file))
		return PEER_OVERFLOW_UID;
	line[strcspn(line, "\n")] = '\0';
	return parse_uint(line, &uid) == 0 && uid < UINT32_MAX ? (uid_t)uid
	                                                       : PEER_OVERFLOW_UID;
}

uid_t peer_find_nobody(void)
{
	return peer_map_is_identity() ? PEER_NO_NOBODY : peer_overflow_uid();
}

bool peer_is_privileged(int fd, uid_t nobody)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	        peer.uid == nobody)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}
