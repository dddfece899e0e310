/*
 * client.c - one request to portd's control socket, and its answer.
 *
 * Invariants: one deadline covers all of client_ask, from connect to end of file, so neither a
 * portd that stands still nor one that sends a byte now and then can keep the caller;
 * memory is bounded by CLIENT_ANSWER_MAX, and by a few lines for client_ask_lines; whoever sits behind
 * the socket, nothing leaves this file that a terminal would obey; an answer is complete or it is none: end of
 * file is the only mark of its end, so one that stops in the midst of a line was cut.
 */
#include "ctl/client.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"

/* How long to wait before asking again a socket whose own queue is full. */
#define RETRY_MS 20

/* What is left until the deadline, for poll(2): rounded up, at most an hour; 0: it has
 * passed. */
static int left_ms(uint64_t deadline)
{
	uint64_t now = clock_now();
	uint64_t ms = now < deadline ? (deadline - now + CLOCK_MSEC - 1) / CLOCK_MSEC : 0;

	return ms > 3600000 ? 3600000 : (int)ms;
}

/* Waits for events. Returns 0, CLIENT_TIMEOUT, or -errno. */
static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		int ms = left_ms(deadline);
		int n = ms ? poll(&p, 1, ms) : 0;

		if (n > 0)
			return 0;
		if (n == 0)
			return CLIENT_TIMEOUT;
		if (!err_is_again(errno))
			return -errno;
	}
}

static int connect_to(int fd, const char *path, uint64_t deadline)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	/* A non-blocking unix socket never connects in the background: EAGAIN means that
	 * portd's queue is full. */
	while (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int ms = left_ms(deadline);

		if (!err_is_again(errno))
			return CLIENT_NOBODY;
		if (ms == 0)
			return CLIENT_TIMEOUT;
		(void)poll(NULL, 0, ms < RETRY_MS ? ms : RETRY_MS);
	}
	return 0;
}

static uint64_t find_peer(int fd)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid < 0)
		return 0;
	return (uint64_t)peer.pid;
}

/* Sends all of it. A peer that has closed already may have left an answer all the same.
 */
static int send_request(int fd, const char *request, uint64_t deadline)
{
	char line[256];
	int len = snprintf(line, sizeof(line), "%s\n", request);

	if (len < 0 || (size_t)len >= sizeof(line))
		return -EINVAL;
	for (int done = 0; done < len;) {
		ssize_t n = send(fd, line + done, (size_t)(len - done), MSG_NOSIGNAL);

		if (n >= 0) {
			done += (int)n;
		} else if (err_is_disconnect(errno)) {
			return 0;
		} else if (err_is_again(errno)) {
			int r = wait_for(fd, POLLOUT, deadline);
			if (r)
				return r;
		} else {
			return -errno;
		}
	}
	return 0;
}

void client_clean(char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((bytes[i] < ' ' || bytes[i] > '~') && bytes[i] != '\n')
			bytes[i] = '?';
}

static size_t count_lines(const char *bytes, size_t len)
{
	size_t n = 0;

	for (const char *at = bytes, *end = bytes + len;
	        (at = memchr(at, '\n', (size_t)(end - at))); at++)
		n++;
	return n;
}

/* Makes room for at least one byte more and the NUL. */
static int make_room(struct client_answer *a, size_t *size)
{
	if (a->len + 1 < *size)
		return 0;
	if (*size >= CLIENT_ANSWER_MAX)
		return CLIENT_HUGE;

	size_t bigger = *size ? *size * 2 : 16384;
	char *bytes = realloc(a->bytes, bigger);

	if (!bytes)
		return -ENOMEM;
	a->bytes = bytes;
	*size = bigger;
	return 0;
}

static int receive_answer(int fd, uint64_t deadline, struct client_answer *a)
{
	size_t size = 0, lines = 0;

	for (;;) {
		int r = make_room(a, &size);
		if (r == 0)
			r = wait_for(fd, POLLIN, deadline);
		if (r)
			return r;

		ssize_t n = recv(fd, a->bytes + a->len, size - a->len - 1, 0);
		/* A reset is how a peer closes that has not read all of the request. */
		if (n == 0 || (n < 0 && err_is_disconnect(errno)))
			break;
		if (n < 0 && !err_is_again(errno))
			return -errno;
		if (n < 0)
			continue;
		lines += count_lines(a->bytes + a->len, (size_t)n);
		if (lines > CLIENT_ANSWER_LINES_MAX)
			return CLIENT_HUGE;
		a->len += (size_t)n;
	}
	if (a->len == 0)
		return CLIENT_EMPTY;
	a->bytes[a->len] = '\0';
	client_clean(a->bytes, a->len);
	return a->bytes[a->len - 1] == '\n' ? 0 : CLIENT_CUT;
}

int client_ask(const char *path, const char *request, uint64_t timeout_ns,
        struct client_answer *ret)
{
	uint64_t deadline = clock_add(clock_now(), timeout_ns);
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;

	*ret = (struct client_answer){0};
	int r = connect_to(fd, path, deadline);
	if (r == 0) {
		ret->peer = find_peer(fd);
		r = send_request(fd, request, deadline);
	}
	if (r == 0)
		r = receive_answer(fd, deadline, ret);
	if (r)
		client_answer_destroy(ret);
	return r;
}

/* Hands on the whole lines of buf, and moves what is left to its beginning. Returns 0 or -errno. */
static int take_lines(char *buf, size_t *len, client_line_fn *take, void *arg)
{
	char *at = buf, *end;
	int r = 0;

	while (r == 0 && (end = memchr(at, '\n', (size_t)(buf + *len - at)))) {
		*end = '\0';
		r = take(arg, at);
		at = end + 1;
	}
	*len -= (size_t)(at - buf);
	memmove(buf, at, *len);
	return r;
}

static int receive_lines(int fd, uint64_t patience_ns, client_line_fn *take, void *arg)
{
	uint64_t end = clock_add(clock_now(), CLIENT_LINES_NS);
	size_t len = 0, size = 16 * CLIENT_LINE_MAX;
	bool any = false;
	OWN_MEM char *buf = malloc(size);

	if (!buf)
		return -ENOMEM;
	for (;;) {
		uint64_t now = clock_now(), patient = clock_add(now, patience_ns);
		int r = now < end ? wait_for(fd, POLLIN, patient < end ? patient : end)
		                  : CLIENT_TIMEOUT;
		if (r)
			return r;
		ssize_t n = recv(fd, buf + len, size - len, 0);
		if (n == 0 || (n < 0 && err_is_disconnect(errno)))
			break;
		if (n < 0 && !err_is_again(errno))
			return -errno;
		if (n < 0)
			continue;
		any = true;
		client_clean(buf + len, (size_t)n);
		len += (size_t)n;
		r = take_lines(buf, &len, take, arg);
		if (r)
			return r;
		if (len > CLIENT_LINE_MAX)
			return CLIENT_HUGE;
	}
	if (!any)
		return CLIENT_EMPTY;
	return len == 0 ? 0 : CLIENT_CUT;
}

int client_ask_lines(const char *path, const char *request, uint64_t patience_ns,
        client_line_fn *take, void *arg)
{
	uint64_t deadline = clock_add(clock_now(), patience_ns);
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	int r = connect_to(fd, path, deadline);
	if (r == 0)
		r = send_request(fd, request, deadline);
	return r ? r : receive_lines(fd, patience_ns, take, arg);
}

void client_answer_destroy(struct client_answer *answer)
{
	own_free_p(&answer->bytes);
	answer->len = 0;
}
