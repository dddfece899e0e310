/*
 * history_text.c - entries of the history in words, and as JSON.
 *
 * Invariants: an entry is one line, whatever its texts hold; the names in JSON are an interface.
 */
#include "daemon/history_text.h"

#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/plural.h"

static const char *cause_name(enum state_cause cause)
{
	return cause == STATE_CAUSE_FDS ? "fds" : "slots";
}

static uint64_t to_ms(uint64_t ns)
{
	return (ns + CLOCK_MSEC / 2) / CLOCK_MSEC;
}

static uint64_t lasted_ms(const struct history_spells *s)
{
	return to_ms(s->lasted);
}

static void text_full(const struct history_render *r, const struct history_full *f)
{
	(void)fprintf(r->out,
	        "%" PRIu64 " of %" PRIu64 " connections; queue %" PRIu64 "/%" PRIu64 "; ",
	        f->connections, f->max, f->depth, f->depth_max);
	if (f->cause == STATE_CAUSE_FDS)
		(void)fprintf(r->out, "out of descriptors");
	else
		(void)fprintf(r->out, "no slot left (%s)", limits_bound_name(f->bound));
}

static void text_nets(const struct history_render *r, const struct history_spells *s)
{
	char net[PREFIX_TEXT_MAX];

	for (unsigned i = 0; i < s->n_nets; i++)
		(void)fprintf(r->out, "%s%s (%u)", i ? ", " : "; most of them from ",
		        prefix_format(&s->net[i].net, net), s->net[i].shed);
}

static void text_spells(const struct history_render *r, const struct history_entry *e)
{
	const struct history_spells *s = &e->spells;

	if (e->kind == HISTORY_SPELLS)
		(void)fprintf(r->out, "%" PRIu64 " spell%s of being full, ", e->summed,
		        PLURAL(e->summed));
	else
		(void)fprintf(r->out, "after ");
	(void)fprintf(r->out,
	        "%" PRIu64 ".%03" PRIu64 " s%s: %" PRIu64 " shed; queue peak %" PRIu64,
	        lasted_ms(s) / 1000, lasted_ms(s) % 1000,
	        e->kind == HISTORY_SPELLS ? " in all" : "", s->shed, s->depth_peak);
	text_nets(r, s);
	if (s->goes_on)
		(void)fprintf(r->out, "; the last one goes on");
}

static void text_worker(const struct history_render *r, const struct history_entry *e)
{
	const struct history_worker *w = &e->worker;
	const char *error = strerrordesc_np(w->err);

	if (e->kind == HISTORY_ACCEPT_ERROR)
		(void)fprintf(r->out, "worker %u cannot accept: %s (errno %d)", w->id,
		        error ? error : "unknown error", w->err);
	else if (e->kind == HISTORY_STALLED)
		(void)fprintf(r->out, "worker %u does not turn; %u of %u stalled", w->id,
		        w->stalled, w->workers);
	else if (w->stalled)
		(void)fprintf(r->out, "%u of %u workers still stalled, the first: %u",
		        w->stalled, w->workers, w->id);
	else
		(void)fprintf(r->out, "worker %u turns; none is stalled", w->id);
}

/* What can be on or off. */
static void text_switch(const struct history_render *r, enum history_kind kind)
{
	if (kind == HISTORY_GATE_CLOSED)
		(void)fprintf(r->out, "SYNs stay unanswered while portd is full");
	else if (kind == HISTORY_GATE_OPEN)
		(void)fprintf(r->out, "SYNs are answered again");
	else if (kind == HISTORY_DRAIN_ON)
		(void)fprintf(r->out, "newcomers are shed until portctl drain --off");
	else
		(void)fprintf(r->out, "newcomers are served again");
}

static void text_down(const struct history_render *r, const struct history_entry *e)
{
	if (e->kind == HISTORY_DOWN)
		(void)fprintf(r->out, "%s", e->text);
	else
		(void)fprintf(r->out,
		        "the port works again, after %" PRIu64 ".%03" PRIu64 " s",
		        to_ms(e->lasted) / 1000, to_ms(e->lasted) % 1000);
}

static void text_words(const struct history_render *r, const struct history_entry *e)
{
	const struct history_port *p = &e->port;

	switch (e->kind) {
	case HISTORY_OPEN:
		(void)fprintf(r->out,
		        "on %s%s; up to %" PRIu64 " connection%s, bound by %s",
		        p->address,
		        strcmp(p->from, "stored") == 0   ? ", kept from before"
		        : strcmp(p->from, "socket") == 0 ? ", from a socket unit"
		                                         : "",
		        p->max, PLURAL(p->max), limits_bound_name(p->bound));
		break;
	case HISTORY_STORED:
		(void)fprintf(r->out, "the service manager keeps the listener on %s",
		        p->address);
		break;
	case HISTORY_FULL:
		text_full(r, &e->full);
		break;
	case HISTORY_NOT_FULL:
	case HISTORY_SPELLS:
		text_spells(r, e);
		break;
	case HISTORY_GATE_CLOSED:
	case HISTORY_GATE_OPEN:
	case HISTORY_DRAIN_ON:
	case HISTORY_DRAIN_OFF:
		text_switch(r, e->kind);
		break;
	case HISTORY_RELOADED:
		(void)fprintf(r->out, "up to %" PRIu64 " connection%s, bound by %s",
		        p->max, PLURAL(p->max), limits_bound_name(p->bound));
		break;
	case HISTORY_REJECTED:
		(void)fprintf(r->out, "the old configuration stays: %s", e->text);
		break;
	case HISTORY_STALLED:
	case HISTORY_TURNS_AGAIN:
	case HISTORY_ACCEPT_ERROR:
		text_worker(r, e);
		break;
	case HISTORY_DOWN:
	case HISTORY_UP:
		text_down(r, e);
		break;
	case HISTORY_REPORTS_LOST:
		(void)fprintf(r->out,
		        "%" PRIu64 " report%s of workers did not fit and %s lost",
		        e->lost, PLURAL(e->lost), e->lost == 1 ? "is" : "are");
		break;
	case HISTORY_STOPPING:
		(void)fprintf(r->out, "%" PRIu64 " connection%s open", p->connections,
		        p->connections == 1 ? " is" : "s are");
		break;
	case HISTORY_KIND_COUNT:
		break;
	}
}

static void json_number(FILE *out, const char *name, uint64_t n)
{
	(void)fprintf(out, ",\"%s\":%" PRIu64, name, n);
}

static void json_seconds(FILE *out, const char *name, uint64_t ns)
{
	(void)fprintf(out, ",\"%s\":%" PRIu64 ".%03" PRIu64, name, to_ms(ns) / 1000,
	        to_ms(ns) % 1000);
}

static void json_text(FILE *out, const char *name, const char *text)
{
	(void)fprintf(out, ",\"%s\":", name);
	json_put_string(out, text);
}

static void json_time(const struct history_render *r, const char *name, uint64_t at)
{
	char text[WALL_TEXT_MAX];

	json_text(r->out, name, wall_format(&r->wall, at, text));
}

static void json_full(FILE *out, const struct history_full *f)
{
	json_text(out, "cause", cause_name(f->cause));
	json_text(out, "bound_by", limits_bound_name(f->bound));
	json_number(out, "connections", f->connections);
	json_number(out, "max_connections", f->max);
	json_number(out, "queue_depth", f->depth);
	json_number(out, "queue_max", f->depth_max);
}

static void json_spells(FILE *out, const struct history_entry *e)
{
	const struct history_spells *s = &e->spells;
	char net[PREFIX_TEXT_MAX];

	json_text(out, "cause", cause_name(s->cause));
	json_seconds(out, "lasted_seconds", s->lasted);
	json_number(out, "shed", s->shed);
	json_number(out, "queue_peak", s->depth_peak);
	(void)fprintf(
	        out, ",\"goes_on\":%s,\"networks\":[", s->goes_on ? "true" : "false");
	for (unsigned i = 0; i < s->n_nets; i++)
		(void)fprintf(out, "%s{\"network\":\"%s\",\"shed\":%u}", i ? "," : "",
		        prefix_format(&s->net[i].net, net), s->net[i].shed);
	(void)putc(']', out);
}

static void json_worker(FILE *out, const struct history_entry *e)
{
	const char *name = strerrorname_np(e->worker.err);

	json_number(out, "worker", e->worker.id);
	if (e->kind == HISTORY_ACCEPT_ERROR) {
		json_text(out, "error", name ? name : "unknown");
		return;
	}
	json_number(out, "stalled", e->worker.stalled);
	json_number(out, "workers", e->worker.workers);
}

static void json_port(FILE *out, const struct history_entry *e)
{
	const struct history_port *p = &e->port;

	if (e->kind == HISTORY_OPEN || e->kind == HISTORY_STORED)
		json_text(out, "address", p->address);
	if (e->kind == HISTORY_OPEN)
		json_text(out, "listener", p->from);
	if (e->kind == HISTORY_OPEN || e->kind == HISTORY_RELOADED) {
		json_number(out, "max_connections", p->max);
		json_text(out, "bound_by", limits_bound_name(p->bound));
	}
	if (e->kind == HISTORY_STOPPING)
		json_number(out, "connections", p->connections);
}

static void json_figures(FILE *out, const struct history_entry *e)
{
	switch (e->kind) {
	case HISTORY_FULL:
		json_full(out, &e->full);
		break;
	case HISTORY_NOT_FULL:
	case HISTORY_SPELLS:
		json_spells(out, e);
		break;
	case HISTORY_STALLED:
	case HISTORY_TURNS_AGAIN:
	case HISTORY_ACCEPT_ERROR:
		json_worker(out, e);
		break;
	case HISTORY_REJECTED:
		json_text(out, "mistake", e->text);
		break;
	case HISTORY_DOWN:
		json_text(out, "reason", e->text);
		break;
	case HISTORY_UP:
		json_seconds(out, "lasted_seconds", e->lasted);
		break;
	case HISTORY_REPORTS_LOST:
		json_number(out, "lost", e->lost);
		break;
	case HISTORY_OPEN:
	case HISTORY_STORED:
	case HISTORY_RELOADED:
	case HISTORY_STOPPING:
		json_port(out, e);
		break;
	case HISTORY_GATE_CLOSED:
	case HISTORY_GATE_OPEN:
	case HISTORY_DRAIN_ON:
	case HISTORY_DRAIN_OFF:
	case HISTORY_KIND_COUNT:
		break;
	}
}

static void render_json(const struct history_render *r, const struct history_entry *e)
{
	if (e->number)
		(void)fprintf(r->out, "{\"number\":%" PRIu64, e->number);
	else
		(void)fprintf(r->out, "{\"number\":null");
	json_time(r, "time", e->at);
	json_text(r->out, "event", history_kind_name(e->kind));
	json_figures(r->out, e);
	if (e->summed) {
		json_number(r->out, "summed", e->summed);
		json_number(r->out, "alike", e->alike);
		json_time(r, "since", e->since);
		json_time(r, "last", e->last);
	}
	(void)fprintf(r->out, "}\n");
}

static void text_summed(const struct history_render *r, const struct history_entry *e)
{
	uint64_t others = e->summed - e->alike;

	if (others)
		(void)fprintf(r->out, " (the last of %u like it, and of %" PRIu64 " %s)",
		        e->alike, others,
		        history_kind_name(history_kind_opposite(e->kind)));
	else
		(void)fprintf(r->out, " (the last of %u like it)", e->alike);
}

void history_render(const struct history_render *r, const struct history_entry *e)
{
	char at[WALL_TEXT_MAX], since[WALL_TEXT_MAX], last[WALL_TEXT_MAX];

	if (r->json) {
		render_json(r, e);
		return;
	}
	(void)fprintf(r->out, "%s %-13s", wall_format(&r->wall, e->at, at),
	        history_kind_name(e->kind));
	text_words(r, e);
	if (e->summed && e->kind != HISTORY_SPELLS)
		text_summed(r, e);
	if (e->summed)
		(void)fprintf(r->out, ", between %s and %s",
		        wall_format(&r->wall, e->since, since),
		        wall_format(&r->wall, e->last, last));
	(void)fprintf(r->out, "%s\n", e->number ? "" : " (so far)");
}

void history_render_lost(const struct history_render *r, uint64_t lost, uint64_t number)
{
	if (r->json)
		(void)fprintf(r->out,
		        "{\"number\":%" PRIu64
		        ",\"event\":\"forgotten\",\"entries\":%" PRIu64 "}\n",
		        number, lost);
	else
		(void)fprintf(r->out,
		        "(%" PRIu64 " entries that stood here are forgotten)\n", lost);
}
