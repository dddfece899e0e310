/*
 * minimal_service.c - what one writes in a few minutes behind systemd-socket-activate: descriptor 3
 * listens, a thread for each connection echoes until its client goes. Never installed.
 */
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

static void *echo(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char bytes[4096];
	ssize_t n;
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0 &&
	        send(fd, bytes, (size_t)n, MSG_NOSIGNAL) == n)
		;
	(void)close(fd);
	return NULL;
}

int main(void)
{
	for (;;) {
		pthread_t thread;
		int fd = accept4(3, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, echo, (void *)(intptr_t)fd) == 0)
			(void)pthread_detach(thread);
		else
			(void)close(fd);
	}
}
