/*
 * events.c - what goes into the history, and the answer to `portctl events`.
 *
 * Invariant: while spells are summed up, port_top_shed counts over all of them.
 */
#include "daemon/events.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "core/overload.h"
#include "core/port_explain.h"
#include "daemon/daemon.h"
#include "daemon/history_text.h"
#include "daemon/status.h"

/* How often at most the networks of a sum are looked up: that takes 2 ns for each that is in the books.
 */
#define NETS_PACE_NS CLOCK_SEC

/* Longest cursor, two numbers of 64 bits. */
#define CURSOR_MAX 48

static struct history_entry entry_of(enum history_kind kind)
{
	return (struct history_entry){.kind = kind, .at = clock_now()};
}

static struct history_entry port_entry(struct daemon *d, enum history_kind kind)
{
	struct history_entry e = entry_of(kind);

	e.port = (struct history_port){
	        .bound = d->budget.bound_by, .max = d->budget.max_connections};
	(void)addr_format_named(&d->address, e.port.address);
	return e;
}

void events_open(struct daemon *d)
{
	static const char *const from[] = {
	        [LISTENER_BOUND] = "own",
	        [LISTENER_STORED] = "stored",
	        [LISTENER_SOCKET] = "socket",
	};
	struct history_entry e = port_entry(d, HISTORY_OPEN);

	e.port.from = from[d->origin];
	history_add(&d->history, &e);
}

void events_stored(struct daemon *d)
{
	const struct history_entry e = port_entry(d, HISTORY_STORED);

	history_add(&d->history, &e);
}

void events_full(struct daemon *d, const struct state_spell *spell, const struct stats *s)
{
	struct history_entry e = entry_of(HISTORY_FULL);

	e.at = spell->began;
	e.full = (struct history_full){.cause = spell->cause,
	        .bound = s->budget.bound_by,
	        .connections = s->connections,
	        .max = s->budget.max_connections,
	        .depth = spell->depth_began,
	        .depth_max = s->backlog_effective};
	if (!history_begin_spell(&d->history, &e))
		port_top_sum(d->port, true);
}

/* The networks that were shed most, as the history has them. */
static unsigned top_nets(struct daemon *d, struct history_net ret[HISTORY_NETS_MAX])
{
	struct source_view top[HISTORY_NETS_MAX];
	unsigned n = (unsigned)port_top_shed(d->port, HISTORY_NETS_MAX, top);

	for (unsigned i = 0; i < n; i++)
		ret[i] = (struct history_net){top[i].net, top[i].shed_spell};
	return n;
}

/* The networks of the sum. Not while they are those of a spell, too, that is not in it yet. */
static void note_nets(struct daemon *d, uint64_t now)
{
	struct history_net nets[HISTORY_NETS_MAX];

	if (now < d->nets_at ||
	        port_top_spells(d->port) > history_sum_spells(&d->history))
		return;
	d->nets_at = now + NETS_PACE_NS;
	unsigned n = top_nets(d, nets);
	history_set_nets(&d->history, nets, n);
}

void events_not_full(struct daemon *d, const struct state_spell *spell)
{
	struct history_entry e = entry_of(HISTORY_NOT_FULL);

	e.at = clock_add(spell->began, spell->lasted);
	e.spells = (struct history_spells){.cause = spell->cause,
	        .n = 1,
	        .lasted = spell->lasted,
	        .shed = spell->shed,
	        .depth_peak = spell->depth_peak};
	/* Where the next spell has begun already, the networks would be those of that one. */
	if (history_tells_end(&d->history) && port_top_is_of(d->port, spell))
		e.spells.n_nets = top_nets(d, e.spells.net);
	history_end_spell(&d->history, &e);
	if (history_sums_spells(&d->history))
		note_nets(d, e.at);
}

void events_gate(struct daemon *d, bool closed)
{
	const struct history_entry e =
	        entry_of(closed ? HISTORY_GATE_CLOSED : HISTORY_GATE_OPEN);

	history_add(&d->history, &e);
}

void events_drain(struct daemon *d, bool on)
{
	const struct history_entry e =
	        entry_of(on ? HISTORY_DRAIN_ON : HISTORY_DRAIN_OFF);

	history_add(&d->history, &e);
}

void events_reload(struct daemon *d, bool rejected)
{
	struct history_entry e = port_entry(d, HISTORY_RELOADED);

	if (rejected) {
		e = entry_of(HISTORY_REJECTED);
		history_set_text(&e, d->reload_error);
	}
	history_add(&d->history, &e);
}

void events_stall(struct daemon *d, enum history_kind kind, unsigned id, unsigned stalled)
{
	struct history_entry e = entry_of(kind);

	e.worker = (struct history_worker){
	        .id = id, .stalled = stalled, .workers = d->budget.workers};
	history_add(&d->history, &e);
}

void events_accept_error(struct daemon *d, unsigned worker, int err)
{
	struct history_entry e = entry_of(HISTORY_ACCEPT_ERROR);

	e.worker = (struct history_worker){.id = worker, .err = err};
	history_add(&d->history, &e);
}

void events_down(struct daemon *d)
{
	struct history_entry e = entry_of(HISTORY_DOWN);

	history_set_text(&e, d->down_why);
	history_add(&d->history, &e);
}

void events_up(struct daemon *d, uint64_t lasted)
{
	struct history_entry e = entry_of(HISTORY_UP);

	e.lasted = lasted;
	history_add(&d->history, &e);
}

void events_reports_lost(struct daemon *d, uint64_t lost)
{
	struct history_entry e = entry_of(HISTORY_REPORTS_LOST);

	e.lost = lost;
	history_add(&d->history, &e);
}

void events_stopping(struct daemon *d)
{
	struct history_entry e = port_entry(d, HISTORY_STOPPING);
	struct stats s;

	status_collect(d, &s);
	e.port.connections = s.connections;
	history_add(&d->history, &e);
}

void events_flush(struct daemon *d)
{
	uint64_t now = clock_now();

	history_flush(&d->history, now);
	if (!history_spells_are_due(&d->history, now))
		return;
	d->nets_at = 0;
	note_nets(d, now);
	history_write_spells(&d->history, now);
	port_top_sum(d->port, false);
	d->nets_at = 0;
}

/* Reads «ID.N»; an ID is the start of a portd. Returns 0, 1 if it is another portd's, -EINVAL. */
static int read_cursor(const struct daemon *d, const char *text, uint64_t *ret)
{
	char buf[CURSOR_MAX];
	uint64_t id;
	char *dot;

	if (strcmp(text, "0") == 0) {
		*ret = 0;
		return 0;
	}
	if (strlen(text) >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, strlen(text) + 1);
	dot = strchr(buf, '.');
	if (!dot)
		return -EINVAL;
	*dot = '\0';
	if (parse_uint(buf, &id) < 0 || parse_uint(dot + 1, ret) < 0)
		return -EINVAL;
	return id == d->started && *ret <= d->history.n ? 0 : 1;
}

/* What is kept back, as it would be written now. */
static void render_kept(struct daemon *d, const struct history_render *r)
{
	if (history_sums_spells(&d->history)) {
		d->nets_at = 0;
		note_nets(d, clock_now());
	}
	for (enum history_topic_id id = 0; id < HISTORY_TOPIC_COUNT; id++) {
		struct history_entry e = d->history.topic[id].kept;
		if (e.summed == 0)
			continue;
		e.number = 0;
		e.at = e.last;
		if (id == HISTORY_TOPIC_SPELL)
			e.spells.goes_on = d->history.spell_on;
		history_render(r, &e);
	}
}

void events_answer(struct daemon *d, bool json, const char *cursor, FILE *out)
{
	const struct history_render r = {.out = out, .wall = wall_read(), .json = json};
	const struct history_entry *e;
	uint64_t since = 0, lost;

	int result = cursor ? read_cursor(d, cursor, &since) : 0;
	if (result != 0) {
		(void)fprintf(out, "error: %s\n",
		        result > 0 ? "portd was started again, its events begin anew"
		                   : "this is no cursor; 0 or what an answer ended with");
		return;
	}
	while ((e = history_next(&d->history, since, &lost))) {
		if (lost)
			history_render_lost(&r, lost, e->number - 1);
		history_render(&r, e);
		since = e->number;
	}
	if (cursor)
		(void)fprintf(out, "cursor %" PRIu64 ".%" PRIu64 "\n", d->started, since);
	else
		render_kept(d, &r);
}
