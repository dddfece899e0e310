/*
 * test_ctl_client.c - portctl's side of the control socket, with somebody else at the other: time, lines
 * and bytes are bounded. Its clock runs a hundred times as fast (the linker wraps clock_gettime).
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/own.h"
#include "ctl/client.h"

#define FASTER 100

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = __real_clock_gettime(clock, ts);
	uint64_t ns = ((uint64_t)ts->tv_sec * CLOCK_SEC + (uint64_t)ts->tv_nsec) * FASTER;

	ts->tv_sec = (time_t)(ns / CLOCK_SEC);
	ts->tv_nsec = (long)(ns % CLOCK_SEC);
	return r;
}

static struct {
	char path[CLIENT_PATH_MAX];
	int fd;
	const char *says; /* again and again */
	unsigned pause_us;
	pthread_t thread;
} fake;

static void *speak(void *arg)
{
	OWN_FD int fd = accept(fake.fd, NULL, NULL);

	while (send(fd, fake.says, strlen(fake.says), MSG_NOSIGNAL) > 0)
		if (fake.pause_us)
			(void)usleep(fake.pause_us);
	return arg;
}

static void fake_open(const char *says, unsigned pause_us)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	fake.says = says;
	fake.pause_us = pause_us;
	(void)snprintf(fake.path, sizeof(fake.path), "/tmp/fake-portd-%d", (int)getpid());
	memcpy(sa.sun_path, fake.path, strlen(fake.path));
	fake.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(fake.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(fake.fd, 1), 0);
	cr_assert_eq(pthread_create(&fake.thread, NULL, speak, NULL), 0);
}

static void fake_close(void)
{
	cr_assert_eq(pthread_join(fake.thread, NULL), 0);
	(void)unlink(fake.path);
	(void)own_close(fake.fd);
}

static int count(void *arg, char *line)
{
	for (const char *c = line; *c; c++)
		cr_assert(*c >= ' ' && *c <= '~', "byte %d", *c);
	++*(unsigned *)arg;
	return 0;
}

Test(ctl_client, lines_that_never_end_have_a_time_in_all)
{
	unsigned lines = 0;

	/* Each comes within its patience. */
	fake_open("a \x1b[31m \x9b \x7f b\n", 10000);
	uint64_t began = clock_now();
	cr_assert_eq(client_ask_lines(fake.path, "conns", 60 * CLOCK_SEC, count, &lines),
	        CLIENT_TIMEOUT);
	cr_assert_geq(clock_now() - began, CLIENT_LINES_NS);
	cr_assert_gt(lines, 10);
	fake_close();
}

Test(ctl_client, more_lines_than_portd_has_are_refused)
{
	struct client_answer answer;

	fake_open("\n\n\n\n\n\n\n\n", 0);
	cr_assert_eq(
	        client_ask(fake.path, "stats", 3600 * CLOCK_SEC, &answer), CLIENT_HUGE);
	fake_close();
}

Test(ctl_client, a_line_without_end_is_refused)
{
	unsigned lines = 0;

	fake_open("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	          "xx",
	        0);
	cr_assert_eq(
	        client_ask_lines(fake.path, "conns", 3600 * CLOCK_SEC, count, &lines),
	        CLIENT_HUGE);
	cr_assert_eq(lines, 0);
	fake_close();
}

Test(ctl_client, what_a_terminal_obeys_is_cleaned)
{
	char bytes[256], seen[256];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)i;
	memcpy(seen, bytes, sizeof(seen));
	client_clean(seen, sizeof(seen));
	for (unsigned i = 0; i < sizeof(bytes); i++)
		cr_assert_eq(seen[i],
		        (i >= ' ' && i <= '~') || i == '\n' ? bytes[i] : '?', "byte %u",
		        i);
}
