/*
 * bare_shed.c - the floor of shedding: accept4, SO_LINGER {1, 0}, close, and nothing else. Never
 * installed.
 *
 * Usage: bare_shed PORT
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
	    on = 1;
	struct linger reset = {.l_onoff = 1};
	struct sockaddr_in at = {.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 0)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	(void)setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listen_fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	        listen(listen_fd, 4096) < 0) {
		perror("bare_shed");
		return 1;
	}
	for (;;) {
		struct pollfd ready = {.fd = listen_fd, .events = POLLIN};
		(void)poll(&ready, 1, -1);
		int fd;
		while ((fd = accept4(listen_fd, NULL, NULL,
		                SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
			(void)setsockopt(
			        fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
			(void)close(fd);
		}
	}
}
