/*
 * client.c - see client.h.
 *
 * Invariants: each attempt gets exactly one outcome (decide), or is given up as undecided by
 * engine.c; every socket closes with a reset, so that no TIME_WAIT holds its port. Events
 * are edge-triggered: reading goes on until there is no more.
 */
#include "load/client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "load/target.h"

#define READ_BYTES 65536U
/* Below, a payload fits one segment, and Nagle's algorithm has nothing to hold back. */
#define SEGMENT_BYTES 512U

static const bool is_turned_away[OUTCOME_COUNT] = {
#define X(name, word, turned_away, text) [OUTCOME_##name] = (turned_away),
#include "load/outcomes.def"
#undef X
};

static uint64_t since(uint64_t due)
{
	uint64_t now = clock_now();
	return now > due ? now - due : 0;
}

/* Counts what became of it, once; of a connection that stood, how it was lost. */
static void decide(struct engine *e, struct client *c, enum outcome outcome)
{
	struct figures *f = &e->shared->figures;

	if (c->flags & CLIENT_DECIDED) {
		if (c->state == CLIENT_HELD || c->state == CLIENT_SAMPLED) {
			figure_add(&f->lost[outcome], 1);
			figure_add(&f->standing, (uint64_t)-1);
		}
		return;
	}
	c->flags |= CLIENT_DECIDED;
	figure_add(&f->outcome[outcome], 1);
	e->waiting--;
	e->last_connect = clock_now();
	if (is_turned_away[outcome])
		hist_add(&f->shed, since(c->due));
}

static void connect_over(struct engine *e, struct client *c, enum client_state state)
{
	if (c->state == CLIENT_CONNECTING)
		e->pending--;
	c->state = (uint8_t)state;
}

void client_drop(struct engine *e, int fd)
{
	struct client *c = &e->clients[fd];

	connect_over(e, c, CLIENT_NONE);
	engine_list_remove(e, fd);
	e->source_used[c->source]--;
	figure_add(&e->shared->figures.open, (uint64_t)-1);
	if (fd == e->sample_fd)
		e->sample_fd = -1;
	(void)own_close(fd);
}

static void finish(struct engine *e, int fd, enum outcome outcome)
{
	struct client *c = &e->clients[fd];

	if (c->state == CLIENT_SAMPLED)
		figure_add(&e->shared->figures.unsampled, 1);
	decide(e, c, outcome);
	client_drop(e, fd);
}

static enum outcome outcome_of(int error)
{
	if (error == ECONNREFUSED)
		return OUTCOME_REFUSED;
	if (error == ECONNRESET || error == EPIPE)
		return OUTCOME_RESET;
	if (error == ETIMEDOUT)
		return OUTCOME_TIMED_OUT;
	return OUTCOME_FAILED;
}

static void finish_error(struct engine *e, int fd, int error)
{
	enum outcome outcome = outcome_of(error);

	if (outcome == OUTCOME_FAILED)
		engine_count_error(e, error);
	finish(e, fd, outcome);
}

static int open_socket(struct engine *e, uint32_t source)
{
	const struct options *o = e->options;
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	const int on = 1;
	OWN_FD int fd = socket(o->target.family == AF_INET ? AF_INET : AF_INET6,
	        SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (fd >= e->fds)
		return -EMFILE;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
		return -errno;
	if (o->payload_len > SEGMENT_BYTES &&
	        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	if (o->sources.base.family != AF_UNSPEC) {
		struct sockaddr_storage from;
		struct addr addr;
		target_source(
		        &o->sources, e->share.first + source * e->share.step, &addr);
		socklen_t len = addr_to_sockaddr(&addr, &from);
		/* The port is chosen by connect(2), which knows the target: the same port can
		 * then go to two targets, and none is searched for twice (ip(7)). */
		if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) <
		                0 ||
		        bind(fd, (struct sockaddr *)&from, len) < 0)
			return -errno;
	}
	return TAKE_FD(fd);
}

/* An attempt that has not got as far as a connection. */
static int fail_early(struct engine *e, uint32_t source, int error)
{
	e->source_used[source]--;
	figure_add(&e->shared->figures.outcome[OUTCOME_FAILED], 1);
	e->last_connect = clock_now();
	engine_count_error(e, error);
	return -error;
}

/* Where nobody listens a connect(2) to a port of the ephemeral range can get that very port for its
 * own end, and be connected to itself (RFC 9293, 3.5: simultaneous open). */
static bool may_meet_itself(const struct engine *e, uint32_t source)
{
	const struct options *o = e->options;
	struct addr from;

	if (o->sources.base.family == AF_UNSPEC)
		return target_is_loopback(&o->target);
	target_source(&o->sources, e->share.first + source * e->share.step, &from);
	return memcmp(from.bytes, o->target.bytes, sizeof(from.bytes)) == 0;
}

static bool has_met_itself(int fd, const struct client *c)
{
	struct tuple ends;

	return c->flags & CLIENT_NEAR && tuple_from_socket(fd, &ends) == 0 &&
	       ends.src.port == ends.dst.port;
}

int client_start(struct engine *e, uint64_t due)
{
	struct figures *f = &e->shared->figures;
	int64_t source = engine_take_source(e);

	figure_add(&f->attempted, 1);
	if (source < 0) {
		/* Shares are made so that this cannot be; a port short is a failure like any. */
		figure_add(&f->outcome[OUTCOME_FAILED], 1);
		engine_count_error(e, EADDRNOTAVAIL);
		return -EADDRNOTAVAIL;
	}
	e->source_used[source]++;
	int fd = open_socket(e, (uint32_t)source);
	if (fd < 0)
		return fail_early(e, (uint32_t)source, -fd);

	struct sockaddr_storage to;
	socklen_t len = addr_to_sockaddr(&e->options->target, &to);
	int error = connect(fd, (struct sockaddr *)&to, len) < 0 ? errno : 0;
	if (error == EINPROGRESS)
		error = 0;

	e->clients[fd] = (struct client){.due = due,
	        .began_ms = (uint32_t)((clock_now() - e->began) / CLOCK_MSEC),
	        .state = CLIENT_CONNECTING,
	        .flags = may_meet_itself(e, (uint32_t)source) ? CLIENT_NEAR : 0,
	        .prev = -1,
	        .next = -1,
	        .source = (uint32_t)source};
	e->pending++;
	e->waiting++;
	figure_add(&f->open, 1);
	if (figure_get(&f->open) > figure_get(&f->open_peak))
		figure_set(&f->open_peak, figure_get(&f->open));
	engine_list_append(e, fd);

	struct epoll_event event = {
	        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
	if (error == 0 && epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		error = errno;
	if (error == 0)
		return 0;
	finish_error(e, fd, error);
	return outcome_of(error) == OUTCOME_FAILED ? -error : 0;
}

/* The server has answered. What happens then is the command's. */
static void answered(struct engine *e, int fd, struct client *c)
{
	const struct options *o = e->options;

	if (!(c->flags & CLIENT_DECIDED))
		hist_add(&e->shared->figures.first_byte,
		        (uint64_t)c->first_us * CLOCK_USEC);
	if (o->command == COMMAND_CHURN || o->command == COMMAND_RAMP) {
		if (o->speaks) {
			finish(e, fd, OUTCOME_SERVED);
			return;
		}
		decide(e, c, OUTCOME_SERVED);
		c->state = CLIENT_ENDING;
		return;
	}
	if (!(c->flags & CLIENT_DECIDED)) {
		decide(e, c, OUTCOME_SERVED);
		figure_add(&e->shared->figures.standing, 1);
	}
	if (c->state == CLIENT_WAITING)
		engine_list_remove(e, fd);
	c->state = CLIENT_HELD;
}

static void echo_came(struct engine *e, int fd, struct client *c)
{
	hist_add(&e->shared->figures.sample, since(e->sample_asked));
	figure_add(&e->shared->figures.sampled, 1);
	c->state = CLIENT_HELD;
	if (fd == e->sample_fd)
		e->sample_fd = -1;
}

void client_unanswered(struct engine *e, int fd)
{
	figure_add(&e->shared->figures.unsampled, 1);
	e->clients[fd].state = CLIENT_HELD;
	if (fd == e->sample_fd)
		e->sample_fd = -1;
}

/* Does what came, n bytes behind the c->got before, go on as text does? */
static bool goes_on(const struct client *c, const uint8_t *bytes, size_t n,
        const uint8_t *text, size_t len)
{
	size_t have = c->got < len ? len - c->got : 0;
	return have > 0 && memcmp(bytes, text + c->got, n < have ? n : have) == 0;
}

static void take_bytes(struct engine *e, int fd, struct client *c, size_t n)
{
	const struct options *o = e->options;
	size_t echo_len = o->speaks || c->state == CLIENT_SAMPLED ? o->payload_len : 0;

	if (c->got == 0) {
		uint64_t us = since(c->due) / CLOCK_USEC;
		c->first_us = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
		c->flags |= CLIENT_ECHO | CLIENT_MESSAGE;
	}
	if (c->flags & CLIENT_ECHO && (!goes_on(c, e->buffer, n, o->payload, echo_len) ||
	                                      c->got + n > echo_len))
		c->flags &= (uint8_t)~CLIENT_ECHO;
	if (c->flags & CLIENT_MESSAGE && c->got < o->message_len &&
	        !goes_on(c, e->buffer, n, o->message, o->message_len))
		c->flags &= (uint8_t)~CLIENT_MESSAGE;
	if (o->message_len == 0)
		c->flags &= (uint8_t)~CLIENT_MESSAGE;
	c->got += (uint32_t)(n < UINT32_MAX - c->got ? n : UINT32_MAX - c->got);

	if (c->state == CLIENT_SAMPLED) {
		if (!(c->flags & CLIENT_ECHO)) /* an answer, and not the echo */
			client_unanswered(e, fd);
		else if (c->got >= echo_len)
			echo_came(e, fd, c);
		return;
	}
	if (c->flags & CLIENT_DECIDED)
		return;
	if (c->flags & CLIENT_MESSAGE && c->got >= o->message_len)
		finish(e, fd, OUTCOME_MESSAGE);
	else if (!(c->flags & (CLIENT_MESSAGE | CLIENT_ECHO)) ||
	         (c->flags & CLIENT_ECHO && c->got == echo_len))
		answered(e, fd, c);
}

/* The server has sent its end. A message that is cut short is one all the same. */
static void ended(struct engine *e, int fd, const struct client *c)
{
	if (c->got > 0 && c->flags & CLIENT_MESSAGE)
		finish(e, fd, OUTCOME_MESSAGE);
	else
		finish(e, fd, c->flags & CLIENT_RESET ? OUTCOME_RESET : OUTCOME_CLOSED);
}

/* Reads until there is no more, or until the connection is over. */
static void receive(struct engine *e, int fd, uint32_t events)
{
	struct client *c = &e->clients[fd];

	while (c->state != CLIENT_NONE) {
		ssize_t n = recv(fd, e->buffer, READ_BYTES, 0);
		if (n > 0) {
			take_bytes(e, fd, c, (size_t)n);
			/* An end that comes later makes an event of its own. */
			if ((size_t)n < READ_BYTES &&
			        !(events & ~(uint32_t)(EPOLLIN | EPOLLOUT)))
				return;
		} else if (n == 0) {
			ended(e, fd, c);
		} else if (errno != EINTR) {
			if (!err_is_again(errno))
				finish_error(e, fd, errno);
			return;
		}
	}
}

/* Sends what is left of the payload. What the server said before a reset is still there to be read,
 * but send(2) has used the error up: recv(2) will end in 0, as after a FIN. */
static void speak(struct engine *e, int fd, struct client *c)
{
	const struct options *o = e->options;

	while (c->sent < o->payload_len) {
		ssize_t n = send(
		        fd, o->payload + c->sent, o->payload_len - c->sent, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == ECONNRESET || errno == EPIPE)
				c->flags |= CLIENT_RESET;
			return;
		}
		c->sent += (uint32_t)n;
	}
}

static void connected(struct engine *e, int fd, struct client *c)
{
	const struct options *o = e->options;

	if (has_met_itself(fd, c)) {
		finish(e, fd, OUTCOME_REFUSED);
		return;
	}
	hist_add(&e->shared->figures.connect, since(c->due));
	connect_over(e, c, CLIENT_WAITING);
	if (!o->speaks && o->command == COMMAND_HOLD) {
		c->state = CLIENT_HELD;
		e->last_connect = clock_now();
		engine_list_remove(e, fd);
		return;
	}
	if (o->speaks)
		speak(e, fd, c);
}

/* connect(2) is over, one way or the other. Returns false if the connection is gone. */
static bool connect_ready(struct engine *e, int fd, struct client *c, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (events & (EPOLLERR | EPOLLHUP)) {
		(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
		/* A server that says something and resets may be faster than this process: then
		 * what it said is still there. */
		uint8_t byte;
		if (error == ECONNRESET && recv(fd, &byte, 1, MSG_PEEK) == 1) {
			c->flags |= CLIENT_RESET;
			error = 0;
		}
		if (error != 0) {
			finish_error(e, fd, error);
			return false;
		}
	} else if (!(events & EPOLLOUT)) {
		return false;
	}
	connected(e, fd, c);
	return true;
}

static bool is_speaking(const struct engine *e, const struct client *c)
{
	return c->state == CLIENT_SAMPLED ||
	       (e->options->speaks && c->state == CLIENT_WAITING);
}

void client_ready(struct engine *e, int fd, uint32_t events)
{
	struct client *c = &e->clients[fd];

	if (c->state == CLIENT_NONE)
		return;
	if (c->state == CLIENT_CONNECTING) {
		if (!connect_ready(e, fd, c, events))
			return;
	} else if (events & EPOLLOUT && is_speaking(e, c)) {
		speak(e, fd, c);
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		receive(e, fd, events);
}

void client_expire(struct engine *e, int fd)
{
	const struct client *c = &e->clients[fd];
	bool connecting = c->state == CLIENT_CONNECTING;
	struct pollfd late = {.fd = fd, .events = connecting ? POLLIN | POLLOUT : POLLIN};

	/* This process may have been late, and not the server. */
	if (poll(&late, 1, 0) > 0)
		client_ready(e, fd, (uint32_t)late.revents);
	if (c->state != CLIENT_NONE && (e->first == fd || e->sample_fd == fd))
		finish(e, fd, OUTCOME_TIMED_OUT);
}

void client_settle(struct engine *e, int fd)
{
	struct client *c = &e->clients[fd];

	if (c->state != CLIENT_HELD || c->flags & CLIENT_DECIDED)
		return;
	decide(e, c, OUTCOME_SERVED);
	figure_add(&e->shared->figures.standing, 1);
}

void client_ask(struct engine *e, int fd)
{
	struct client *c = &e->clients[fd];

	c->state = CLIENT_SAMPLED;
	c->got = c->sent = 0;
	e->sample_asked = clock_now();
	speak(e, fd, c);
}
