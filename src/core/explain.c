/*
 * explain.c - what portd would do with a client from an address right now, rule by rule, and what it
 * has done with those that it remembers.
 *
 * Invariants: asking changes nothing: no token is taken and no entry made. The rules stand in the
 * order of sheds.def, as judge.c asks them.
 *
 * Reads next: worker.c.
 */
#include "core/port.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "core/judge.h"
#include "core/worker.h"

/* Earlier ones that are told of one by one. */
#define EXPLAIN_ROWS 20U

struct question {
	struct port *port;
	const struct config *config;
	const struct addr *peer;
	struct prefix net;
	uint64_t now;
	bool priority;
	enum shed_reason verdict; /* the first rule that holds; SHED_COUNT: none */
	FILE *out;
};

/* One rule. Its line begins here, and the caller ends it. */
static void rule(struct question *q, enum shed_reason reason, bool holds)
{
	(void)fprintf(q->out, "  %-14s%-5s", counters_shed_name(reason),
	        holds ? "yes:" : "no:");
	if (holds && q->verdict == SHED_COUNT)
		q->verdict = reason;
}

static void explain_lists(struct question *q)
{
	const struct config *c = q->config;
	struct prefix found;
	char text[PREFIX_TEXT_MAX];
	bool denied = prefix_set_find(c->source_deny, q->peer, &found) == 0;
	bool listed = prefix_set_count(c->source_allow) > 0;
	bool allowed = !listed || prefix_set_match(c->source_allow, q->peer);

	rule(q, SHED_DENIED, denied || !allowed);
	if (denied)
		(void)fprintf(
		        q->out, "%s is in [source] deny\n", prefix_format(&found, text));
	else
		(void)fprintf(q->out, "not in [source] deny; %s\n",
		        !listed   ? "[source] allow is empty"
		        : allowed ? "in [source] allow"
		                  : "not in [source] allow");
	rule(q, SHED_DRAINING, port_phase(q->port) >= PORT_DRAINING);
	(void)fprintf(q->out, "%s\n",
	        port_phase(q->port) >= PORT_DRAINING ? "portd is draining"
	                                             : "not draining");
}

static void explain_source(struct question *q, const struct source_view *view)
{
	const struct config *c = q->config;

	rule(q, SHED_SOURCE_LIMIT,
	        c->source_max_connections > 0 && view->outcome == SOURCE_LIMIT);
	if (c->source_max_connections > 0)
		(void)fprintf(q->out, "%u of %" PRIu64 " open\n", view->open,
		        c->source_max_connections);
	else
		(void)fprintf(q->out, "[source] max_connections is 0, no limit\n");
	rule(q, SHED_SOURCE_RATE,
	        c->source_rate > 0 && !q->priority && view->outcome == SOURCE_RATE);
	if (q->priority)
		(void)fprintf(q->out, "a priority source is exempt\n");
	else if (c->source_rate > 0)
		(void)fprintf(q->out, "%u more at once by [source] rate\n", view->tokens);
	else
		(void)fprintf(q->out, "[source] rate is 0, no limit\n");
}

static void explain_load(struct question *q)
{
	const struct config *c = q->config;
	uint32_t tokens = bucket_shared_tokens(&q->port->rate, q->now);
	uint32_t max = atomic_load(&q->port->asked_max), open = port_ordinary(q->port);
	uint64_t start = (uint64_t)max * c->start_at / 100;

	rule(q, SHED_RATE, c->rate > 0 && !q->priority && tokens == 0);
	if (q->priority)
		(void)fprintf(q->out, "a priority source is exempt\n");
	else if (c->rate > 0)
		(void)fprintf(q->out, "%u more at once by [budget] rate\n", tokens);
	else
		(void)fprintf(q->out, "[budget] rate is 0, no limit\n");

	bool pressed = c->start_at < 100 && open > start && start < max;
	rule(q, SHED_PRESSURE, pressed && !q->priority && open >= max);
	if (c->start_at >= 100)
		(void)fprintf(q->out, "[shed] start_at is 100%%, off\n");
	else if (q->priority)
		(void)fprintf(q->out, "a priority source is exempt\n");
	else
		(void)fprintf(q->out, "%" PRIu64 " %% of the newcomers are shed now\n",
		        !pressed      ? 0
		        : open >= max ? 100
		                      : (open - start) * 100 / (max - start));
}

/* Slots and descriptors. Returns whether there is one for it. */
static bool explain_slots(struct question *q)
{
	struct port *port = q->port;
	struct admit *admit = &port->admit;
	uint32_t priority_max = atomic_load(&admit->priority_max);
	uint32_t priority_used = atomic_load(&admit->priority_used);
	bool able = false, is_short = false;
	struct listener_queue queue = {0};

	for (unsigned i = 0; i < port->n_workers; i++) {
		able = able || admit_can_take(admit, i);
		is_short = is_short || admit_is_short(admit, i);
	}
	(void)listener_read_queue(port->listen_fd, &queue);
	(void)fprintf(q->out, "  %-14s%-5s%s\n", counters_shed_name(SHED_FDS),
	        is_short ? "yes:" : "no:",
	        is_short ? "a worker is short of descriptors" : "descriptors are there");
	(void)fprintf(q->out,
	        "  %-14s%-5s%u of %u slots are free, %u wait in the queue\n",
	        counters_shed_name(SHED_FULL), able ? "no:" : "yes:", admit_free(admit),
	        atomic_load(&admit->max), queue.depth + atomic_load(&port->hold.count));
	(void)fprintf(q->out, "  %-14s%-5s", "priority", q->priority ? "yes:" : "no:");
	if (q->priority)
		(void)fprintf(q->out, "%u of %u priority slots are taken\n",
		        priority_used, priority_max);
	else
		(void)fprintf(q->out, "not in [source] priority\n");
	return able || (q->priority && priority_used < priority_max);
}

static void explain_verdict(struct question *q, bool has_slot)
{
	char wait[PARSE_DURATION_TEXT_MAX];

	(void)fprintf(q->out, "verdict: ");
	if (q->verdict != SHED_COUNT)
		(void)fprintf(q->out, "it would %s: %s\n",
		        q->config->dry_run && q->verdict != SHED_DRAINING
		                ? "be counted as would_shed, and served"
		                : "be shed",
		        counters_shed_name(q->verdict));
	else if (has_slot)
		(void)fprintf(q->out, "it would be served\n");
	else
		(void)fprintf(q->out, "it would wait for a slot, for %s at most\n",
		        parse_format_duration(q->config->queue_timeout, wait));
}

/* ns of the monotonic clock as local time. */
static const char *format_time(uint64_t at, uint64_t now, char *buf, size_t size)
{
	struct timespec wall;
	struct tm tm;

	(void)clock_gettime(CLOCK_REALTIME, &wall);
	time_t seconds = wall.tv_sec - (time_t)((now - at) / CLOCK_SEC);
	if (!localtime_r(&seconds, &tm) ||
	        strftime(buf, size, "%Y-%m-%dT%H:%M:%S%z", &tm) == 0)
		(void)snprintf(buf, size, "?");
	return buf;
}

static int later_first(const void *a, const void *b)
{
	const struct record_row *x = a, *y = b;

	return x->at < y->at ? 1 : x->at > y->at ? -1 : 0;
}

static void explain_earlier(struct question *q, const struct source_view *view)
{
	struct port *port = q->port;
	const struct config *c = q->config;
	size_t n = 0, shown = 0;
	char text[64], net[PREFIX_TEXT_MAX], host[ADDR_HOST_MAX];

	(void)fprintf(q->out, "shed before, of %s:", prefix_format(&q->net, net));
	for (unsigned i = 0; i < SHED_COUNT; i++) {
		if (view->shed[i])
			(void)fprintf(
			        q->out, " %s %u", counters_shed_name(i), view->shed[i]);
		n += view->shed[i];
	}
	(void)fprintf(q->out, "%s\n", n ? "" : " none that is remembered");

	OWN_MEM struct record_row *rows =
	        calloc((size_t)port->n_workers * RECORD_SIZE, sizeof(*rows));
	n = 0;
	for (unsigned i = 0; rows && i < port->n_workers; i++)
		n += record_read(&port->workers[i].record, rows + n, RECORD_SIZE);
	if (n > 0)
		qsort(rows, n, sizeof(*rows), later_first);
	for (size_t i = 0; i < n && shown < EXPLAIN_ROWS; i++) {
		struct prefix of = prefix_mask(
		        &rows[i].peer, (unsigned)c->prefix4, (unsigned)c->prefix6);
		if (!prefix_equal(&of, &q->net))
			continue;
		(void)fprintf(q->out, "  %s  %s  %s\n",
		        format_time(rows[i].at, q->now, text, sizeof(text)),
		        addr_format_host(&rows[i].peer, host),
		        counters_shed_name(rows[i].reason));
		shown++;
	}
}

void port_explain(struct port *port, const struct addr *peer, FILE *out)
{
	const struct config *c = atomic_load(&port->config);
	char net[PREFIX_TEXT_MAX], host[ADDR_HOST_MAX];
	struct source_view view;
	struct question q = {.port = port,
	        .config = c,
	        .peer = peer,
	        .net = prefix_mask(peer, (unsigned)c->prefix4, (unsigned)c->prefix6),
	        .now = clock_now(),
	        .priority = prefix_set_match(c->source_priority, peer),
	        .verdict = SHED_COUNT,
	        .out = out};

	(void)source_find(port->sources, &q.net, q.now, &view);
	(void)fprintf(out, "a client from %s, of the source network %s, right now:\n",
	        addr_format_host(peer, host), prefix_format(&q.net, net));
	explain_lists(&q);
	explain_source(&q, &view);
	explain_load(&q);
	bool has_slot = explain_slots(&q);
	explain_verdict(&q, has_slot);
	explain_earlier(&q, &view);
}

char *port_format_top_shed(struct port *port, char buf[static PORT_TOP_MAX])
{
	struct source_view top[3];
	char net[PREFIX_TEXT_MAX];
	size_t len = 0;
	size_t n = source_top_shed(port->sources, clock_now(), ARRAY_SIZE(top), top);

	buf[0] = '\0';
	for (size_t i = 0; i < n && len < PORT_TOP_MAX; i++)
		len += (size_t)snprintf(buf + len, PORT_TOP_MAX - len, "%s%s (%u)",
		        i == 0 ? "; most of them from " : ", ",
		        prefix_format(&top[i].net, net), top[i].shed_spell);
	return buf;
}
