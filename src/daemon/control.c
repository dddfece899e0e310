/*
 * control.c - the clients of the control socket, each a small struct with a deadline.
 *
 * A client reads (its request comes in), writes (its answer goes out), then lingers: the answer is with
 * the kernel, shutdown(SHUT_WR) has ended it, and what else the client sends is thrown away, up to a
 * bound. Closing with unread input would turn the client's end of file into a reset.
 *
 * Invariants:
 * - clients are in the order of accept, so the first of a kind is the oldest;
 * - hundreds of silent clients must not lock an operator out. So when all places are taken, one whose
 *   answer is out already, else the oldest that has not sent its whole request and is not privileged,
 *   makes room for the newcomer. Clients with something to read are served before anybody is accepted (priorities), and a
 *   newcomer's request is read at once: one that has asked is not the one to go, but for root and
 *   portd's own user: the oldest of the others who do not read their answers;
 * - no descriptor left: a kept one is lent, then somebody makes room, then the source pauses. It is
 *   level-triggered, and must not spin.
 */
#include "daemon/control.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/own.h"
#include "daemon/peer.h"
#include "net/fdtable.h"

#define CONTROL_PAUSE_USEC UINT64_C(100000)
#define CONTROL_LINGER_MAX 65536U
#define CONTROL_CHUNK      4096U
/* Requests before newcomers; signals and the tick (priority normal) before both. */
#define CONTROL_PRIORITY_CLIENT (SD_EVENT_PRIORITY_NORMAL + 1)
#define CONTROL_PRIORITY_ACCEPT (SD_EVENT_PRIORITY_NORMAL + 2)
/* A stream is long: everybody else comes first, and between any two pieces. So does, where this thread
 * was late, whatever a client has done before its deadline is looked at. */
#define CONTROL_PRIORITY_STREAM (SD_EVENT_PRIORITY_NORMAL + 3)
/* But the stream of one who is privileged takes turns with newcomers, or a flood of them would starve it. */
#define CONTROL_PRIORITY_PRIVILEGED CONTROL_PRIORITY_ACCEPT

enum client_phase {
	CLIENT_READS,
	CLIENT_WRITES,
	CLIENT_LINGERS
};

struct client {
	struct list link;
	struct control *control;
	int fd;
	sd_event_source *io;
	sd_event_source *deadline;
	enum client_phase phase;
	bool privileged;
	size_t request_len;
	/* One byte more than may be, to know a request that is too long. */
	char request[CONTROL_REQUEST_MAX + 1];
	char *answer;
	size_t answer_len;
	size_t answer_sent;
	struct control_stream *stream; /* what comes after this; NULL: nothing */
	uint64_t stream_end;           /* and until when, ns */
	size_t lingered;               /* bytes thrown away */
};

struct control {
	sd_event *event;
	int fd;
	sd_event_source *io;
	sd_event_source *pause;
	struct reserve *reserve;
	void (*answer)(void *arg, const struct control_request *request, FILE *out);
	void *arg;
	uid_t nobody; /* of peer_find_nobody */
	struct list clients;
	unsigned n_clients;
};

static void control_resume(struct control *c)
{
	if (c->io)
		(void)sd_event_source_set_enabled(c->io, SD_EVENT_ON);
}

static void client_end_stream(struct client *client)
{
	struct control_stream *stream = TAKE_PTR(client->stream);

	if (stream)
		stream->end(stream);
}

static void client_free(struct client *client)
{
	struct control *c = client->control;

	client_end_stream(client);
	(void)sd_event_source_disable_unref(client->io);
	(void)sd_event_source_disable_unref(client->deadline);
	/* One step for everybody else who is short of descriptors. */
	fdtable_lock();
	if (reserve_available(c->reserve) < RESERVE_SIZE)
		fdtable_lend();
	client->fd = own_close(client->fd);
	(void)reserve_fill(c->reserve);
	fdtable_unlock();
	free(client->answer);
	list_remove(&client->link);
	free(client);
	c->n_clients--;
	control_resume(c);
}

/* Returns 0 to go on, or 1 when the client is through. */
static int client_linger(struct client *client)
{
	char buf[CONTROL_CHUNK];

	for (;;) {
		ssize_t n = recv(client->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0)
			return err_is_again(errno) ? 0 : 1;
		client->lingered += (size_t)n;
		if (n == 0 || client->lingered > CONTROL_LINGER_MAX)
			return 1;
	}
}

/* The client has done its part: it gets the time for another one, as long as there is some. As
 * client_linger. */
static int client_extend(struct client *client)
{
	uint64_t now = clock_now();
	uint64_t left = client->stream_end > now ? client->stream_end - now : 0;

	if (left > CONTROL_DEADLINE_NS)
		left = CONTROL_DEADLINE_NS;
	return sd_event_source_set_time_relative(client->deadline, left / CLOCK_USEC) < 0;
}

/* The next piece of a stream; it is sent in a later turn of the event loop. As client_linger. */
static int client_next_piece(struct client *client)
{
	own_free_p(&client->answer);
	client->answer_len = client->answer_sent = 0;
	OWN_FILE FILE *out = open_memstream(&client->answer, &client->answer_len);
	if (!out)
		return 1;
	int r = client->stream->next(client->stream, out);
	bool failed = r < 0 || fflush(out) != 0 || ferror(out);
	own_fclose_p(&out);
	if (failed || client_extend(client) != 0)
		return 1;
	if (r == CONTROL_LAST)
		client_end_stream(client);
	/* Without any event a hang-up is told all the same. */
	return sd_event_source_set_io_events(
	               client->io, r == CONTROL_LATER ? 0 : EPOLLOUT) < 0;
}

/* As client_linger. */
static int client_write(struct client *client)
{
	while (client->answer_sent < client->answer_len) {
		ssize_t n = send(client->fd, client->answer + client->answer_sent,
		        client->answer_len - client->answer_sent,
		        MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && err_is_again(errno))
			return sd_event_source_set_io_events(client->io, EPOLLOUT) < 0;
		if (n < 0)
			return 1;
		client->answer_sent += (size_t)n;
	}
	if (client->stream)
		return client_next_piece(client);
	client->phase = CLIENT_LINGERS;
	if (shutdown(client->fd, SHUT_WR) < 0)
		return 1;
	if (sd_event_source_set_io_events(client->io, EPOLLIN) < 0)
		return 1;
	return client_linger(client);
}

void control_stream_cut(struct control_stream *stream)
{
	client_free(stream->client);
}

static void client_begin_stream(struct client *client, struct control_stream *stream)
{
	client->stream = stream;
	client->stream_end = clock_add(clock_now(), CONTROL_STREAM_NS);
	stream->client = client;
	(void)sd_event_source_set_priority(
	        client->io, client->privileged ? CONTROL_PRIORITY_PRIVILEGED
	                                       : CONTROL_PRIORITY_STREAM);
}

void control_stream_ready(struct control_stream *stream)
{
	struct client *client = stream->client;

	/* Where this fails the deadline ends it. */
	if (client->phase == CLIENT_WRITES && client_extend(client) == 0)
		(void)sd_event_source_set_io_events(client->io, EPOLLOUT);
}

/* Makes the answer to the request, line_len bytes of what was read. As client_linger. */
static int client_answer(struct client *client, size_t line_len, bool too_long)
{
	OWN_FILE FILE *out = open_memstream(&client->answer, &client->answer_len);
	struct control_stream *stream = NULL;

	if (!out)
		return 1;
	if (too_long) {
		(void)fputs("error: request too long\n", out);
	} else {
		if (line_len && client->request[line_len - 1] == '\r')
			line_len--;
		client->request[line_len] = '\0';
		client->control->answer(client->control->arg,
		        &(struct control_request){.line = client->request,
		                .len = line_len,
		                .privileged = client->privileged,
		                .stream = &stream},
		        out);
	}
	bool failed = fflush(out) != 0 || ferror(out);
	own_fclose_p(&out);
	if (stream)
		client_begin_stream(client, stream);
	if (failed)
		return 1;
	client->phase = CLIENT_WRITES;
	return client_write(client);
}

/* As client_linger. */
static int client_read(struct client *client)
{
	for (;;) {
		ssize_t n = recv(client->fd, client->request + client->request_len,
		        sizeof(client->request) - client->request_len, MSG_DONTWAIT);
		if (n < 0)
			return err_is_again(errno) ? 0 : 1;
		if (n == 0) /* the end of file ends the line; nothing asked, nothing
		               answered */
			return client->request_len
			               ? client_answer(client, client->request_len, false)
			               : 1;
		char *end =
		        memchr(client->request + client->request_len, '\n', (size_t)n);
		client->request_len += (size_t)n;
		if (end)
			return client_answer(
			        client, (size_t)(end - client->request), false);
		if (client->request_len > CONTROL_REQUEST_MAX)
			return client_answer(client, 0, true);
	}
}

static int client_go_on(struct client *client)
{
	switch (client->phase) {
	case CLIENT_READS:
		return client_read(client);
	case CLIENT_WRITES:
		return client_write(client);
	case CLIENT_LINGERS:
		return client_linger(client);
	}
	return 1;
}

static int client_on_io(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct client *client = arg;

	(void)source;
	(void)fd;
	/* Lingering, a hang-up may be the half-close of a client that still reads. */
	bool gone = (events & (EPOLLHUP | EPOLLERR)) && client->phase == CLIENT_WRITES;
	if (gone || client_go_on(client) != 0)
		client_free(client);
	return 0;
}

static int client_on_deadline(sd_event_source *source, uint64_t usec, void *arg)
{
	(void)source;
	(void)usec;
	client_free(arg);
	return 0;
}

/* Takes over fd, whatever comes of it. */
static void control_add_client(struct control *c, int fd, bool privileged)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client) {
		(void)own_close(fd);
		return;
	}
	client->control = c;
	client->fd = fd;
	client->privileged = privileged;
	list_init(&client->link);
	list_append(&c->clients, &client->link);
	c->n_clients++;
	int r = sd_event_add_io(c->event, &client->io, fd, EPOLLIN, client_on_io, client);
	if (r >= 0)
		r = sd_event_source_set_priority(client->io, CONTROL_PRIORITY_CLIENT);
	if (r >= 0)
		r = sd_event_add_time_relative(c->event, &client->deadline,
		        CLOCK_MONOTONIC, CONTROL_DEADLINE_NS / CLOCK_USEC, 10000,
		        client_on_deadline, client);
	if (r >= 0)
		r = sd_event_source_set_priority(
		        client->deadline, CONTROL_PRIORITY_STREAM);
	if (r < 0 || client_read(client) != 0)
		client_free(client);
}

/* privileged: those who are count, too. */
static struct client *control_oldest(
        struct control *c, enum client_phase phase, bool privileged)
{
	for (struct list *l = c->clients.next; l != &c->clients; l = l->next) {
		struct client *client = container_of(l, struct client, link);
		if (client->phase == phase && (privileged || !client->privileged))
			return client;
	}
	return NULL;
}

/* Somebody makes room for a newcomer. Returns 0, or 1 if everybody is owed an answer, or is privileged. */
static int control_make_room(struct control *c)
{
	struct client *client = control_oldest(c, CLIENT_LINGERS, true);

	if (!client)
		client = control_oldest(c, CLIENT_READS, false);
	/* One who is privileged has connected, and will ask in a moment: only for one of his kind. */
	if (!client && !control_oldest(c, CLIENT_WRITES, false))
		client = control_oldest(c, CLIENT_READS, true);
	if (!client)
		return 1;
	client_free(client);
	return 0;
}

/* All places are taken by clients who are owed an answer, and do not read it. A newcomer who is
 * privileged gets that of the oldest who is not, anybody else an answer at once. Takes over fd. */
static void control_add_to_crowd(struct control *c, int fd, bool privileged)
{
	static const char busy[] =
	        "error: too many clients that do not read; try again\n";
	struct client *oldest =
	        privileged ? control_oldest(c, CLIENT_WRITES, false) : NULL;

	if (oldest) {
		client_free(oldest);
		control_add_client(c, fd, privileged);
		return;
	}
	(void)send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)own_close(fd);
}

static void control_pause(struct control *c)
{
	if (sd_event_source_set_time_relative(c->pause, CONTROL_PAUSE_USEC) < 0 ||
	        sd_event_source_set_enabled(c->pause, SD_EVENT_ONESHOT) < 0)
		return; /* no timer, no pause: rather busy than deaf */
	(void)sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
}

static int control_on_pause_end(sd_event_source *source, uint64_t usec, void *arg)
{
	(void)source;
	(void)usec;
	control_resume(arg);
	return 0;
}

static int control_accept(struct control *c)
{
	/* What a worker lends is not for this client: it has the reserve. */
	if (!fdtable_enter()) {
		errno = EMFILE;
		return -1;
	}
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), err = errno;
	fdtable_leave();
	errno = err;
	return fd;
}

/* accept4 on a descriptor of the reserve, of which `keep` stay. As control_accept. */
static int control_accept_lent(struct control *c, unsigned keep)
{
	fdtable_lock();
	if (reserve_available(c->reserve) > keep)
		(void)reserve_lend(c->reserve, 1);
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int err = errno;
	fdtable_unlock();
	errno = err;
	return fd;
}

/* accept4, also when there is no descriptor. Returns the descriptor, or -1 with errno. */
static int control_accept_anyhow(struct control *c)
{
	int fd = control_accept(c);

	if (fd < 0 && err_is_no_fd(errno))
		fd = control_accept_lent(c, RESERVE_RELOAD);
	/* Those before have used the reserve up. client_free fills it with what it gives
	 * back. */
	if (fd < 0 && err_is_no_fd(errno) && control_make_room(c) == 0)
		fd = control_accept_lent(c, RESERVE_RELOAD);
	/* Part of it is lost. Rather a reload that may fail than nobody who can be asked. */
	if (fd < 0 && err_is_no_fd(errno) && c->n_clients == 0)
		fd = control_accept_lent(c, 0);
	return fd;
}

static int control_on_accept(
        sd_event_source *source, int listen_fd, uint32_t events, void *arg)
{
	struct control *c = arg;

	(void)source;
	(void)listen_fd;
	(void)events;
	bool crowded = c->n_clients >= CONTROL_CLIENTS_MAX && control_make_room(c) != 0;
	int fd = control_accept_anyhow(c);
	if (fd >= 0 && crowded)
		control_add_to_crowd(c, fd, peer_is_privileged(fd, c->nobody));
	else if (fd >= 0)
		control_add_client(c, fd, peer_is_privileged(fd, c->nobody));
	else if (!err_is_again(errno) && !err_is_disconnect(errno))
		control_pause(c);
	return 0;
}

int control_open(struct control **ret, sd_event *event, int listen_fd,
        struct reserve *reserve,
        void (*answer)(void *arg, const struct control_request *request, FILE *out),
        void *arg)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->event = sd_event_ref(event);
	c->fd = -1;
	c->reserve = reserve;
	c->nobody = peer_find_nobody();
	c->answer = answer;
	c->arg = arg;
	list_init(&c->clients);
	int r = sd_event_add_io(event, &c->io, listen_fd, EPOLLIN, control_on_accept, c);
	if (r >= 0)
		r = sd_event_source_set_priority(c->io, CONTROL_PRIORITY_ACCEPT);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &c->pause, CLOCK_MONOTONIC,
		        CONTROL_PAUSE_USEC, 1000, control_on_pause_end, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->pause, SD_EVENT_OFF);
	if (r < 0) {
		(void)control_close(c);
		return r;
	}
	c->fd = listen_fd;
	*ret = c;
	return 0;
}

int control_listen_on(struct control *c, int listen_fd)
{
	int r = sd_event_source_set_io_fd(c->io, listen_fd);

	if (r < 0)
		return r;
	(void)own_close(c->fd);
	c->fd = listen_fd;
	return 0;
}

struct control *control_close(struct control *c)
{
	struct list *l;

	if (!c)
		return NULL;
	while ((l = list_first(&c->clients)))
		client_free(container_of(l, struct client, link));
	(void)sd_event_source_disable_unref(c->io);
	(void)sd_event_source_disable_unref(c->pause);
	c->fd = own_close(c->fd);
	(void)sd_event_unref(c->event);
	free(c);
	return NULL;
}

unsigned control_fds(const struct control *c)
{
	return c ? 1 + c->n_clients : 0;
}
