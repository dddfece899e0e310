/*
 * fdpass.c - see fdpass.h. One byte goes with each descriptor: SCM_RIGHTS needs data to travel with.
 */
#include "net/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int fdpass_send_to(int socket_fd, const struct sockaddr *to, socklen_t to_len,
        const void *data, size_t len, int fd)
{
	/* sendmsg(2) writes to neither; struct msghdr, which recvmsg(2) fills, knows no const. */
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {.msg_name = (void *)(uintptr_t)to,
	        .msg_namelen = to_len,
	        .msg_iov = &iov,
	        .msg_iovlen = 1};
	if (fd >= 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	return sendmsg(socket_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int fdpass_send(int socket_fd, int fd)
{
	return fdpass_send_to(socket_fd, NULL, 0, "", 1, fd);
}

int fdpass_receive(int socket_fd)
{
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov,
	        .msg_iovlen = 1,
	        .msg_control = control.space,
	        .msg_controllen = sizeof(control.space)};
	if (recvmsg(socket_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -1;
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
		return -1;
	int fd = -1;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}
