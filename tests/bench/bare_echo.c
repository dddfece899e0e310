/*
 * bare_echo.c - the floor: an echo server that is one epoll loop and nothing else. What portd costs
 * beyond this is what its promises cost. Never installed.
 *
 * Usage: bare_echo PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void echo(int fd)
{
	static char bytes[65536];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
		(void)close(fd);
}

static void accept_one(int epoll_fd, int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	if (fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		(void)close(fd);
}

int main(int argc, char **argv)
{
	int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC), on = 1;
	struct sockaddr_in at = {.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 0)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listen_fd}, batch[64];
	(void)setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listen_fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	        listen(listen_fd, 4096) < 0 ||
	        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0) {
		perror("bare_echo");
		return 1;
	}
	for (;;) {
		int n = epoll_wait(epoll_fd, batch, 64, -1);
		for (int i = 0; i < n; i++) {
			if (batch[i].data.fd == listen_fd)
				accept_one(epoll_fd, listen_fd);
			else
				echo(batch[i].data.fd);
		}
	}
}
