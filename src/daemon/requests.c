/*
 * requests.c - what the control socket can be asked, and the answers.
 */
#include "daemon/requests.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "core/config_key.h"
#include "core/port.h"
#include "core/stats.h"
#include "daemon/conns.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/explain.h"
#include "daemon/gate.h"
#include "daemon/listening.h"
#include "daemon/options.h"
#include "daemon/reload.h"
#include "daemon/status.h"

#define REQUESTS_LIST \
	"stats [text|json|prometheus|openmetrics], health [live], limits, " \
	"events [json] [CURSOR], explain [json] ADDRESS, conns [NETWORK], drain [off], " \
	"reload, version, help"

/* The longest request has three words; a fourth makes it an unknown one. */
#define REQUESTS_WORDS 4

/* Longest text in the answer to `limits`. */
#define REQUESTS_TEXT_MAX 256U

static void requests_stats(struct daemon *d, const char *format, FILE *out)
{
	static const struct {
		const char *name;
		void (*render)(const struct stats *s, FILE *out);
	} formats[] = {
	        {"text", stats_render_text},
	        {"json", stats_render_json},
	        {"prometheus", stats_render_prometheus},
	        {"openmetrics", stats_render_openmetrics},
	};
	struct stats stats;

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		if (strcmp(format, formats[i].name) != 0)
			continue;
		status_collect(d, &stats);
		formats[i].render(&stats, out);
		return;
	}
	(void)fprintf(out,
	        "error: unknown format; one of: text, json, prometheus, openmetrics\n");
}

/* The state tells of the room for newcomers; where no worker turns, nobody serves them. */
static void requests_health(struct daemon *d, FILE *out)
{
	listening_check(d);
	enum state state = status_state(d);
	if (state != STATE_DOWN && d->stalled >= d->budget.workers)
		(void)fprintf(out, "error: every worker has stalled (%u of %u)\n",
		        d->stalled, d->budget.workers);
	else
		(void)fprintf(out, "%s\n", state_name(state));
}

static void requests_health_live(struct daemon *d, FILE *out)
{
	listening_check(d);
	if (d->down_since)
		(void)fprintf(out, "error: down: %s\n", d->down_why);
	else if (d->stalled)
		(void)fprintf(out, "error: worker %u has stalled\n", d->first_stalled);
	else
		(void)fprintf(out, "live\n");
}

/* One line of the answer to `limits`. */
static void requests_number(FILE *out, const char *name, uint64_t n)
{
	(void)fprintf(out, "%s %" PRIu64 "\n", name, n);
}

static void requests_text(FILE *out, const char *name, const char *text)
{
	char line[REQUESTS_TEXT_MAX], escaped[4 * sizeof(line) + 1];
	int len = snprintf(line, sizeof(line), "%s", text);

	if (len < 0)
		return;
	if ((size_t)len >= sizeof(line))
		len = sizeof(line) - 1;
	(void)fprintf(out, "%s %s\n", name,
	        parse_format_escapes(
	                (const uint8_t *)line, (size_t)len, escaped, sizeof(escaped)));
}

/* RLIMIT_NOFILE as it is now: prlimit(1) changes it under a running portd. */
static void requests_limits_nofile(FILE *out)
{
	struct rlimit nofile;

	if (getrlimit(RLIMIT_NOFILE, &nofile) < 0)
		return;
	if (nofile.rlim_cur != RLIM_INFINITY)
		requests_number(out, "nofile_soft", nofile.rlim_cur);
	if (nofile.rlim_max != RLIM_INFINITY)
		requests_number(out, "nofile_hard", nofile.rlim_max);
}

static void requests_limits_budget(
        const struct daemon *d, const struct stats *s, FILE *out)
{
	const struct budget *b = &s->budget;

	requests_number(out, "workers", b->workers);
	requests_number(out, "tables", b->tables);
	requests_number(
	        out, "fd_table_private", d->config.fd_table == CONFIG_FD_TABLE_PRIVATE);
	requests_number(out, "table_limit", b->table_limit);
	requests_number(out, "fds", b->fds);
	if (d->config.fds != CONFIG_AUTO)
		requests_number(out, "fds_configured", d->config.fds);
	requests_number(out, "fds_in_use", s->fds_in_use);
	requests_number(out, "fds_per_connection", b->fds_per_connection);
	requests_number(out, "max_connections", b->max_connections);
	if (d->config.max_connections != CONFIG_AUTO)
		requests_number(
		        out, "max_connections_configured", d->config.max_connections);
	requests_number(out, "priority_slots", b->priority_slots);
	requests_text(out, "bound_by", limits_bound_name(b->bound_by));
	requests_number(out, "memory", d->machine.memory);
	requests_number(out, "memory_per_connection", LIMITS_MEMORY_CONNECTION);
	requests_limits_nofile(out);
}

/* Where the keys are set, so that portctl's remedies name the place that wins. */
static void requests_limits_places(const struct config *config, FILE *out)
{
	char place[CONFIG_PLACE_MAX];

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		if (config->origin[i].name)
			(void)fprintf(out, "place.%s.%s %s\n", config_keys[i].section,
			        config_keys[i].name,
			        config_place_format(
			                &config->origin[i], place, sizeof(place)));
}

/* For portctl, which knows the machine but not portd: one «name value» a line. What is not
 * configured, or has no limit, has no line. */
static void requests_limits(struct daemon *d, FILE *out)
{
	char address[ADDR_TEXT_MAX];
	struct stats s;

	status_collect(d, &s);
	requests_text(out, "version", s.version);
	requests_number(out, "pid", (uint64_t)s.pid);
	requests_text(out, "state", state_name(s.state));
	requests_number(out, "uptime_seconds", s.uptime_ns / CLOCK_SEC);
	requests_text(
	        out, "config", d->source.file ? d->source.file : CONFIG_DEFAULT_FILE);
	requests_limits_places(&d->config, out);
	requests_text(out, "listener.address", addr_format_named(&s.address, address));
	requests_text(out, "service", d->config.service);
	requests_limits_budget(d, &s, out);
	requests_number(out, "connections", s.connections);
	requests_number(out, "priority_connections", s.priority_connections);
	requests_number(out, "connections_peak", s.connections_peak);
	requests_number(out, "accepted", s.total.counter[COUNTER_ACCEPTED]);
	requests_number(out, "backlog_configured", s.backlog_configured);
	requests_number(out, "backlog_effective", s.backlog_effective);
	requests_number(out, "queue_depth", s.queue_depth);
	requests_number(out, "queue_depth_peak", s.queue_depth_peak);
	requests_number(out, "kernel_drops", s.kernel_drops);
	requests_number(out, "gate_seconds", (s.gated_ns + CLOCK_SEC - 1) / CLOCK_SEC);
	requests_number(out, "arrivals_peak", s.arrivals_peak);
	requests_number(out, "accept_pause_us", s.accept_pause_ns / CLOCK_USEC);
}

/* what: the request, which may have been sent with tabs between its words. Returns 0, or 1 after
 * answering why not. */
static int requests_check_change(const struct daemon *d,
        const struct control_request *request, const char *what, FILE *out)
{
	if (!request->privileged) {
		(void)fprintf(out,
		        "error: not permitted: %s needs root or portd's own user\n",
		        what);
		return 1;
	}
	if (d->stopping) {
		(void)fprintf(out, "error: portd is stopping\n");
		return 1;
	}
	return 0;
}

static void requests_drain(
        struct daemon *d, const struct control_request *request, bool on, FILE *out)
{
	if (requests_check_change(d, request, on ? "drain" : "drain off", out) != 0)
		return;
	if (d->draining != on)
		tell(&d->tell, TELL_DRAIN, clock_now(), NULL, "%s",
		        on ? "draining: newcomers are shed until portctl drain --off"
		           : "no longer draining");
	if (d->draining != on)
		events_drain(d, on);
	d->draining = on;
	port_set_draining(d->port, on);
	gate_check(d);
	status_touch(d);
	listening_check(d);
	/* The state alone: what was asked is done, whether workers turn or not. */
	(void)fprintf(out, "%s\n", state_name(status_state(d)));
}

static void requests_reload(
        struct daemon *d, const struct control_request *request, FILE *out)
{
	if (requests_check_change(d, request, "reload", out) == 0)
		(void)reload_run(d, out);
}

static void requests_unknown(const struct control_request *request, FILE *out)
{
	char text[4 * CONTROL_REQUEST_MAX + 1];

	(void)fprintf(out, "error: unknown request '%s'; one of: " REQUESTS_LIST "\n",
	        parse_format_escapes((const uint8_t *)request->line, request->len, text,
	                sizeof(text)));
}

/* Cuts text into words at blanks. Returns their number, at most REQUESTS_WORDS. */
static size_t requests_split(char *text, const char *words[REQUESTS_WORDS])
{
	size_t n = 0;
	char *rest = NULL;

	for (char *word = strtok_r(text, " \t", &rest); word && n < REQUESTS_WORDS;
	        word = strtok_r(NULL, " \t", &rest))
		words[n++] = word;
	return n;
}

/* What follows answers one request each; operand: the word behind it, "" if there is none. */

static void answer_stats(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	requests_stats(d, *operand ? operand : "text", out);
}

static void answer_health(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	(void)operand;
	requests_health(d, out);
}

static void answer_health_live(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	(void)operand;
	requests_health_live(d, out);
}

static void answer_limits(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	(void)operand;
	requests_limits(d, out);
}

static void answer_events(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	events_answer(d, false, *operand ? operand : NULL, out);
}

static void answer_events_json(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	events_answer(d, true, *operand ? operand : NULL, out);
}

static void answer_explain(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	explain_answer(d, false, operand, out);
}

static void answer_explain_json(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)request;
	explain_answer(d, true, operand, out);
}

static void answer_conns(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	conns_answer(d, request, operand, out);
}

static void answer_drain(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)operand;
	requests_drain(d, request, true, out);
}

static void answer_drain_off(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)operand;
	requests_drain(d, request, false, out);
}

static void answer_reload(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)operand;
	requests_reload(d, request, out);
}

static void answer_version(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)d;
	(void)request;
	(void)operand;
	(void)fprintf(out, "portd %s\n", options_version());
}

static void answer_help(struct daemon *d, const struct control_request *request,
        const char *operand, FILE *out)
{
	(void)d;
	(void)request;
	(void)operand;
	(void)fprintf(out, "requests: " REQUESTS_LIST "\n");
}

/* The first row that fits. least, most: how many words may stand behind those of the row. */
static const struct request_row {
	const char *name, *second;
	size_t least, most;
	void (*answer)(struct daemon *d, const struct control_request *request,
	        const char *operand, FILE *out);
} request_rows[] = {
        {"stats", NULL, 0, 1, answer_stats},
        {"health", NULL, 0, 0, answer_health},
        {"health", "live", 0, 0, answer_health_live},
        {"limits", NULL, 0, 0, answer_limits},
        {"events", "json", 0, 1, answer_events_json},
        {"events", NULL, 0, 1, answer_events},
        {"explain", "json", 1, 1, answer_explain_json},
        {"explain", NULL, 1, 1, answer_explain},
        {"conns", NULL, 0, 1, answer_conns},
        {"drain", NULL, 0, 0, answer_drain},
        {"drain", "off", 0, 0, answer_drain_off},
        {"reload", NULL, 0, 0, answer_reload},
        {"version", NULL, 0, 0, answer_version},
        {"help", NULL, 0, 0, answer_help},
};

static const struct request_row *requests_find(const char *const words[], size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(request_rows); i++) {
		const struct request_row *row = &request_rows[i];
		size_t own = row->second ? 2 : 1;
		if (n >= own + row->least && n <= own + row->most &&
		        strcmp(words[0], row->name) == 0 &&
		        (!row->second || strcmp(words[1], row->second) == 0))
			return row;
	}
	return NULL;
}

void requests_answer(void *arg, const struct control_request *request, FILE *out)
{
	struct daemon *d = arg;
	char text[CONTROL_REQUEST_MAX + 2];
	const char *words[REQUESTS_WORDS] = {"", "", "", ""};

	memcpy(text, request->line, request->len + 1);
	size_t n = requests_split(text, words);
	const struct request_row *row = requests_find(words, n);
	/* A NUL inside would hide what follows it. */
	if (!row || strlen(request->line) != request->len)
		requests_unknown(request, out);
	else
		row->answer(
		        d, request, n > (row->second ? 2U : 1U) ? words[n - 1] : "", out);
}
