/*
 * control.h - the control socket: a stream unix socket; one request line, the answer, end
 * of file.
 *
 * At most CONTROL_CLIENTS_MAX clients at once, each with CONTROL_DEADLINE_NS from accept
 * to the end and CONTROL_REQUEST_MAX bytes of request. Slow, silent or hostile clients
 * can neither block portd nor lock others out, and nobody locks root or portd's own user out. An answer may also be a stream, which comes piece by
 * piece as the client takes it: then the deadline is one for each piece, and CONTROL_STREAM_NS for all
 * of it. Main thread only.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "daemon/reserve.h"

#define CONTROL_CLIENTS_MAX 32U
#define CONTROL_REQUEST_MAX 256U
#define CONTROL_DEADLINE_NS (5 * CLOCK_SEC)
#define CONTROL_STREAM_NS   (120 * CLOCK_SEC)

struct control;
struct client;

/* A positive outcome of control_stream.next. */
enum control_outcome {
	CONTROL_LAST = 1, /* this piece is the last one */
	CONTROL_LATER     /* nothing yet: control_stream_ready says when */
};

/* An answer in pieces: embedded by whoever makes them, kept until `end`. */
struct control_stream {
	/* Writes the next piece, which is asked for when the client has taken the one before: some
	 * KiB, for it is kept. It must not block. Returns 0, or an outcome. */
	int (*next)(struct control_stream *stream, FILE *out);
	/* Nothing more is asked for: after the last piece, or without it where the client has gone.
	 */
	void (*end)(struct control_stream *stream);
	struct client *client; /* the control's */
};

struct control_request {
	const char *line; /* without its end; any bytes; ends with a NUL of ours */
	size_t len;
	bool privileged; /* the peer is root or portd's own user (peer.h) */
	struct control_stream *
	        *stream; /* where answer may put one: it follows what was written */
};

/* Takes over listen_fd (listening, non-blocking), on success. reserve is used when no
 * descriptor is left, and must outlive the control. answer writes the whole answer to a
 * request to `out`, which is memory; it must not block. Returns 0 or -errno. */
int control_open(struct control **ret, sd_event *event, int listen_fd,
        struct reserve *reserve,
        void (*answer)(void *arg, const struct control_request *request, FILE *out),
        void *arg);

/* Takes over listen_fd in place of the one before, which is closed. Its clients stay. Returns 0 or
 * -errno. */
int control_listen_on(struct control *c, int listen_fd);

/* A stream that had nothing yet is to be asked again. */
void control_stream_ready(struct control_stream *stream);
/* Ends a stream as it is, and its client: somebody else needs its place. Not the caller's own. */
void control_stream_cut(struct control_stream *stream);

/* Ends every client as it is and closes the socket. NULL is fine. Returns NULL. */
struct control *control_close(struct control *c);

/* Descriptors that it holds now. */
unsigned control_fds(const struct control *c);

#endif
