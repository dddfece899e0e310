/*
 * talk.c - connections that stay: each sends four bytes, waits until they are back, and sends again,
 * for so many seconds. What they get while others are shed is the goodput. Prints one JSON object.
 * Never installed.
 *
 * Usage: talk PORT CONNECTIONS SECONDS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEC  1000000000ULL
#define FDS  20000
#define STEP 2000U /* ns in a bin of the histogram */

static uint64_t sent_at[FDS], echoes;
static uint32_t bins[500000]; /* up to 1 s */

static uint64_t now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SEC + (uint64_t)ts.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(71);
}

static void say(int fd)
{
	sent_at[fd] = now_ns();
	if (send(fd, "ping", 4, MSG_NOSIGNAL) != 4)
		fail("talk: send");
}

static void hear(int fd)
{
	char bytes[4];
	if (recv(fd, bytes, sizeof(bytes), 0) != sizeof(bytes))
		fail("talk: the server has not echoed");
	uint64_t bin = (now_ns() - sent_at[fd]) / STEP;
	size_t last = sizeof(bins) / sizeof(*bins) - 1;
	bins[bin < last ? bin : last]++;
	echoes++;
	say(fd);
}

static double percentile(double share)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < sizeof(bins) / sizeof(*bins); i++) {
		sum += bins[i];
		if ((double)sum >= share * (double)echoes)
			return (double)(i + 1) * STEP / 1e9;
	}
	return 1;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 64;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct sockaddr_in target = {.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct linger reset = {.l_onoff = 1};
	for (unsigned long i = strtoul(argv[2], NULL, 10); i > 0; i--) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
		if (fd < 0 || fd >= FDS ||
		        connect(fd, (struct sockaddr *)&target, sizeof(target)) < 0 ||
		        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) <
		                0 ||
		        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
			fail("talk: connect");
		say(fd);
	}
	uint64_t begin = now_ns(),
	         until = begin + (uint64_t)(strtod(argv[3], NULL) * 1e9), now;
	while ((now = now_ns()) < until) {
		struct epoll_event batch[64];
		int n = epoll_wait(epoll_fd, batch, 64, 100);
		for (int i = 0; i < n; i++)
			hear(batch[i].data.fd);
	}
	printf("{\"seconds\":%.6f,\"echoes\":%llu,\"p50\":%.6f,\"p99\":%.6f}\n",
	        (double)(now - begin) / 1e9, (unsigned long long)echoes, percentile(0.5),
	        percentile(0.99));
	return 0;
}
