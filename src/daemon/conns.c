/*
 * conns.c - the answer to `conns`: the open connections, as a stream.
 *
 * Invariants: a listing has one walk (core/walk.h), at one worker at a time, and the memory of one
 * piece of it; the main thread never waits for a worker: one that has stalled is named as missing and
 * passed by. The pulse alone says who has (pulse.c). A clock of the listing's own would blame a worker
 * for the time in which all of portd stood still; and who answers the pulse has a piece ready with it.
 */
#include "daemon/conns.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/walk.h"
#include "daemon/daemon.h"
#include "daemon/status.h"

struct listing {
	struct control_stream stream;
	struct list link; /* of the daemon's listings */
	struct daemon *d;
	struct prefix_set *only;
	struct walk *walk;
	unsigned n_workers;
	unsigned worker; /* the one that is asked; n_workers: all were */
	uint64_t began;  /* ns */
	uint64_t told;   /* connections */
	bool waits;      /* for the worker, with nothing to send meanwhile */
	bool failed;     /* it cannot go on */
	bool privileged; /* it was asked for by one who is */
	bool missing[];  /* by worker */
};

/* Asks the worker for a piece, or the next one that turns. */
static void listing_ask(struct listing *l)
{
	struct port *port = l->d->port;

	while (l->worker < l->n_workers && !walk_worker_turns(port, l->worker)) {
		l->missing[l->worker++] = true;
		walk_begin_worker(l->walk);
	}
	if (l->worker < l->n_workers)
		walk_ask(port, l->walk, l->worker);
}

static void listing_next_worker(struct listing *l)
{
	l->worker++;
	walk_begin_worker(l->walk);
	listing_ask(l);
}

/* The rows of the piece that has come; asks for the next one. */
static void listing_write_piece(struct listing *l, FILE *out)
{
	const struct walk *walk = l->walk;
	char src[ADDR_HOST_MAX], dst[ADDR_HOST_MAX];

	for (unsigned i = 0; i < walk->n_rows; i++) {
		const struct walk_row *row = &walk->row[i];
		(void)fprintf(out,
		        "%s %u %s %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
		        "\n",
		        addr_format_host(&row->tuple.src, src), row->tuple.src.port,
		        addr_format_host(&row->tuple.dst, dst), row->tuple.dst.port,
		        l->worker, row->age / CLOCK_USEC, row->idle / CLOCK_USEC,
		        row->bytes_in, row->bytes_out);
	}
	l->told += walk->n_rows;
	if (walk->over)
		listing_next_worker(l);
	else
		listing_ask(l);
}

static int listing_write_end(const struct listing *l, FILE *out)
{
	for (unsigned i = 0; i < l->n_workers; i++) {
		if (l->missing[i])
			(void)fprintf(out, "missing %u\n", i);
	}
	(void)fprintf(out, "end %" PRIu64 "\n", l->told);
	return CONTROL_LAST;
}

static int listing_next(struct control_stream *stream, FILE *out)
{
	struct listing *l = container_of(stream, struct listing, stream);

	l->waits = false;
	if (l->failed)
		return -ENOMEM;
	if (l->worker == l->n_workers)
		return listing_write_end(l, out);
	l->waits = !walk_poll(l->walk);
	if (l->waits)
		return CONTROL_LATER;
	listing_write_piece(l, out);
	return 0;
}

static void listing_end(struct control_stream *stream)
{
	struct listing *l = container_of(stream, struct listing, stream);

	l->walk = walk_destroy(l->d->port, l->walk);
	l->only = prefix_set_free(l->only);
	list_remove(&l->link);
	free(l);
}

/* The oldest listing of one who is not privileged ends for one who is. Returns 0, or 1 if there is
 * none. */
static int listing_make_room(struct daemon *d)
{
	for (struct list *at = d->listings.next; at != &d->listings; at = at->next) {
		struct listing *l = container_of(at, struct listing, link);
		if (l->privileged)
			continue;
		control_stream_cut(&l->stream);
		return 0;
	}
	return 1;
}

static int listing_create(
        struct daemon *d, struct prefix_set *only, bool privileged, struct listing **ret)
{
	unsigned n = walk_workers(d->port);
	struct listing *l = calloc(1, sizeof(*l) + n * sizeof(l->missing[0]));

	if (!l)
		return -ENOMEM;
	uint64_t now = clock_now();
	int r = walk_create(d->port, only, now, &l->walk);
	if (r == -EBUSY && privileged && listing_make_room(d) == 0)
		r = walk_create(d->port, only, now, &l->walk);
	if (r < 0) {
		free(l);
		return r;
	}
	l->privileged = privileged;
	l->stream = (struct control_stream){.next = listing_next, .end = listing_end};
	l->d = d;
	l->began = now;
	l->only = prefix_set_share(only);
	l->n_workers = n;
	list_init(&l->link);
	list_append(&d->listings, &l->link);
	*ret = l;
	return 0;
}

static void conns_mistake(const char *what, void *out)
{
	(void)fprintf(out, "error: %s\n", what);
}

/* Returns 0 and the set, NULL for all; or 1 after saying why not. */
static int conns_read_network(const char *network, FILE *out, struct prefix_set **ret)
{
	*ret = NULL;
	if (!*network)
		return 0;
	int r = prefix_set_parse(network, ret, conns_mistake, out);
	if (r == 0 && prefix_set_count(*ret) == 1)
		return 0;
	if (r == 0) {
		(void)fprintf(out, "error: conns takes one network or address\n");
		*ret = prefix_set_free(*ret);
	} else if (r < 0) {
		(void)fprintf(out, "error: not enough memory\n");
	}
	return 1;
}

void conns_answer(struct daemon *d, const struct control_request *request,
        const char *network, FILE *out)
{
	struct prefix_set *only;
	struct listing *l = NULL;

	if (conns_read_network(network, out, &only) != 0)
		return;
	int r = listing_create(d, only, request->privileged, &l);
	only = prefix_set_free(only);
	if (r == -EBUSY) {
		(void)fprintf(out,
		        "error: %u listings of connections are under way; try again\n",
		        WALK_PLACES);
	} else if (r < 0) {
		(void)fprintf(out, "error: not enough memory\n");
	} else {
		struct stats s;
		status_collect(d, &s);
		(void)fprintf(out, "open %" PRIu64 "\n", s.connections);
		listing_ask(l);
		*request->stream = &l->stream;
	}
}

/* The worker has not answered: on with the next one. */
static void listing_pass_by(struct listing *l)
{
	int r = walk_retract(l->d->port, l->walk, l->worker);

	if (r > 0)
		return;
	l->missing[l->worker] = true;
	if (r < 0) {
		/* It has stalled in the midst of writing, and keeps that piece. */
		l->walk = walk_destroy(l->d->port, l->walk);
		l->failed = walk_create(l->d->port, l->only, l->began, &l->walk) < 0;
	}
	if (!l->failed)
		listing_next_worker(l);
}

void conns_check(struct daemon *d)
{
	for (struct list *at = d->listings.next; at != &d->listings; at = at->next) {
		struct listing *l = container_of(at, struct listing, link);
		if (!l->waits)
			continue;
		if (!walk_poll(l->walk) && !walk_worker_turns(d->port, l->worker))
			listing_pass_by(l);
		l->waits = !l->failed && l->worker < l->n_workers && !walk_poll(l->walk);
		/* Once: each time gives the client more time. */
		if (!l->waits)
			control_stream_ready(&l->stream);
	}
}
