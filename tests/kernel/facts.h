/*
 * facts.h - what the programs of tests/kernel/ share. Each test states a fact that portd
 * relies on and fails with its words when this kernel behaves otherwise.
 */
#ifndef TESTS_KERNEL_FACTS_H
#define TESTS_KERNEL_FACTS_H

#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* linux/tcp.h rather than netinet/tcp.h: the kernel's own struct tcp_info. */
#include <linux/tcp.h>

/* True, or this kernel is not one that portd was written for. */
#define FACT(condition, text) \
	cr_assert(condition, "this kernel does not keep to: %s (%s; errno: %m)", text, \
	        #condition)

/* Becomes true within 2 s, or the same. */
#define FACT_SOON(condition, text) \
	do { \
		uint64_t fact_end_ = fact_now_ms() + 2000; \
		while (!(condition) && fact_now_ms() < fact_end_) \
			(void)poll(NULL, 0, 1); \
		FACT(condition, text); \
	} while (0)

static __attribute__((noinline, unused)) uint64_t fact_now_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct fact_listener {
	int fd;
	struct sockaddr_in sa;
};

/* port: host order, 0 for any. */
static __attribute__((noinline, unused)) struct fact_listener fact_listen_at(
        uint16_t port, int backlog)
{
	struct fact_listener l = {.sa = {.sin_family = AF_INET,
	                                  .sin_port = htons(port),
	                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(l.sa);
	l.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_geq(l.fd, 0);
	int on = 1;
	cr_assert_eq(setsockopt(l.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	cr_assert_eq(bind(l.fd, (struct sockaddr *)&l.sa, len), 0);
	cr_assert_eq(getsockname(l.fd, (struct sockaddr *)&l.sa, &len), 0);
	cr_assert_eq(listen(l.fd, backlog), 0);
	return l;
}

static __attribute__((noinline, unused)) struct fact_listener fact_listen(int backlog)
{
	return fact_listen_at(0, backlog);
}

/* A client socket that connects; its errno in *ret_err, 0 if it is connected. */
static __attribute__((noinline, unused)) int fact_try_connect(
        const struct fact_listener *l, int flags, int *ret_err)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	cr_assert_geq(fd, 0);
	int r = connect(fd, (const struct sockaddr *)&l->sa, sizeof(l->sa));
	*ret_err = r < 0 ? errno : 0;
	return fd;
}

static __attribute__((noinline, unused)) struct tcp_info fact_info(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info;
}

static __attribute__((noinline, unused)) unsigned fact_depth(
        const struct fact_listener *l)
{
	return fact_info(l->fd).tcpi_unacked;
}

/* A client that is in the queue when this returns. */
static __attribute__((noinline, unused)) int fact_connect(const struct fact_listener *l)
{
	unsigned before = fact_depth(l);
	int err;
	int fd = fact_try_connect(l, 0, &err);
	cr_assert_eq(err, 0, "connect: errno %d", err);
	FACT_SOON(fact_depth(l) > before,
	        "TCP_INFO on a listener: tcpi_unacked counts the queue");
	return fd;
}

static __attribute__((noinline, unused)) int fact_accept(const struct fact_listener *l)
{
	return accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Takes all descriptors but `spare` of this table, by a lowered limit. */
#define FACT_LIMIT 96

struct fact_full {
	struct rlimit before;
	int fd[FACT_LIMIT];
	unsigned n;
};

static __attribute__((noinline, unused)) void fact_fill(struct fact_full *f)
{
	f->n = 0;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &f->before), 0);
	struct rlimit limit = {FACT_LIMIT, f->before.rlim_max};
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	int fd;
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		f->fd[f->n++] = fd;
	cr_assert_eq(errno, EMFILE);
}

static __attribute__((noinline, unused)) void fact_free(struct fact_full *f)
{
	while (f->n > 0)
		(void)close(f->fd[--f->n]);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &f->before), 0);
}

#endif
