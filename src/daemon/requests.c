/*
 * requests.c - what the control socket can be asked, and the answers.
 *
 * Reads next: notify.c.
 */
#include "daemon/requests.h"

#include <string.h>

#include "base/own.h"
#include "base/parse.h"
#include "core/port.h"
#include "core/stats.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "daemon/reload.h"
#include "daemon/status.h"

#define REQUESTS_LIST \
	"stats [text|json|prometheus|openmetrics], health [live], drain [off], reload, " \
	"version, help"

/* The longest request has three words, so that a fourth is an unknown request too. */
#define REQUESTS_WORDS 3

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

static void requests_health(struct daemon *d, FILE *out)
{
	(void)fprintf(out, "%s\n", state_name(status_state(d)));
}

static void requests_health_live(struct daemon *d, FILE *out)
{
	if (d->stalled)
		(void)fprintf(out, "error: worker %u has stalled\n", d->first_stalled);
	else
		(void)fprintf(out, "live\n");
}

/* Returns 0, or 1 after answering why not. */
static int requests_check_change(
        const struct daemon *d, const struct control_request *request, FILE *out)
{
	if (!request->privileged) {
		(void)fprintf(out,
		        "error: not permitted: %s needs root or portd's own user\n",
		        request->line);
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
	if (requests_check_change(d, request, out) != 0)
		return;
	if (d->draining != on)
		log_info("%s",
		        on ? "draining: newcomers are shed until portctl drain --off"
		           : "no longer draining");
	d->draining = on;
	port_set_draining(d->port, on);
	status_touch(d);
	requests_health(d, out);
}

static void requests_reload(
        struct daemon *d, const struct control_request *request, FILE *out)
{
	if (requests_check_change(d, request, out) == 0)
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

void requests_answer(void *arg, const struct control_request *request, FILE *out)
{
	struct daemon *d = arg;
	char text[CONTROL_REQUEST_MAX + 2];
	const char *words[REQUESTS_WORDS] = {"", "", ""};

	memcpy(text, request->line, request->len + 1);
	size_t n = requests_split(text, words);
	/* A NUL inside would hide what follows it. */
	if (n == 0 || n > 2 || strlen(request->line) != request->len)
		requests_unknown(request, out);
	else if (strcmp(words[0], "stats") == 0)
		requests_stats(d, n == 2 ? words[1] : "text", out);
	else if (strcmp(words[0], "health") == 0 && n == 1)
		requests_health(d, out);
	else if (strcmp(words[0], "health") == 0 && strcmp(words[1], "live") == 0)
		requests_health_live(d, out);
	else if (strcmp(words[0], "drain") == 0 && n == 1)
		requests_drain(d, request, true, out);
	else if (strcmp(words[0], "drain") == 0 && strcmp(words[1], "off") == 0)
		requests_drain(d, request, false, out);
	else if (strcmp(words[0], "reload") == 0 && n == 1)
		requests_reload(d, request, out);
	else if (strcmp(words[0], "version") == 0 && n == 1)
		(void)fprintf(out, "portd %s\n", options_version());
	else if (strcmp(words[0], "help") == 0 && n == 1)
		(void)fprintf(out, "requests: " REQUESTS_LIST "\n");
	else
		requests_unknown(request, out);
}
