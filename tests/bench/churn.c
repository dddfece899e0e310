/*
 * churn.c - connects, sends four bytes, reads them back, closes with a reset; COUNT times, WIDTH at
 * once, from 127.0.0.2 on in turn so that no source address runs out of ports. Never installed.
 *
 * Usage: churn PORT COUNT WIDTH [SOURCES]; prints "served N turned_away N".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int epoll_fd;
static struct sockaddr_in target;
static unsigned sources = 16, started;
static unsigned long served, turned_away;

static void end(int fd, bool good)
{
	*(good ? &served : &turned_away) += 1;
	(void)close(fd);
}

static void start(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
	struct linger reset = {.l_onoff = 1};
	struct sockaddr_in from = {.sin_family = AF_INET,
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + started++ % sources)};
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ||
	        (connect(fd, (struct sockaddr *)&target, sizeof(target)) < 0 &&
	                errno != EINPROGRESS))
		end(fd, false);
}

static void step(int fd, uint32_t events)
{
	char bytes[4] = "ping";
	if (events & EPOLLOUT) {
		struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
		if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
			end(fd, false);
		else
			(void)epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
		return;
	}
	end(fd, recv(fd, bytes, sizeof(bytes), 0) == sizeof(bytes));
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		(void)fprintf(stderr, "usage: churn PORT COUNT WIDTH [SOURCES]\n");
		return 64;
	}
	unsigned long count = strtoul(argv[2], NULL, 10),
	              width = strtoul(argv[3], NULL, 10);
	if (argc > 4)
		sources = (unsigned)strtoul(argv[4], NULL, 10);
	target = (struct sockaddr_in){.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	while (served + turned_away < count) {
		while (started < count && started - served - turned_away < width)
			start();
		struct epoll_event batch[64];
		int n = epoll_wait(epoll_fd, batch, 64, -1);
		for (int i = 0; i < n; i++)
			step(batch[i].data.fd, batch[i].events);
	}
	printf("served %lu turned_away %lu\n", served, turned_away);
	return 0;
}
