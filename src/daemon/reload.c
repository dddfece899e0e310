/*
 * reload.c - take a changed configuration into force, all or nothing.
 *
 * Invariant: d->config and d->budget are what the workers have. They change together,
 * after everything that can fail.
 */
#include "daemon/reload.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/plural.h"
#include "daemon/configure.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/gate.h"
#include "daemon/listening.h"
#include "daemon/start.h"
#include "daemon/status.h"
#include "net/fdtable.h"

/* What is said about one reload, a line each, as the control protocol has it. */
struct report {
	char *errors;
	size_t errors_len;
	char *notes; /* "note: …" and "warning: …" */
	size_t notes_len;
	FILE *error_out;
	FILE *note_out;
	uint64_t mistakes;
};

static int report_open(struct report *r)
{
	*r = (struct report){.errors = NULL};
	r->error_out = open_memstream(&r->errors, &r->errors_len);
	r->note_out = open_memstream(&r->notes, &r->notes_len);
	return r->error_out && r->note_out ? 0 : -ENOMEM;
}

/* What was written can be read after it. */
static void report_finish(struct report *r)
{
	own_fclose_p(&r->error_out);
	own_fclose_p(&r->note_out);
}

static void report_free(struct report *r)
{
	report_finish(r);
	free(r->errors);
	free(r->notes);
}

static void reload_note_fixed(const char *key, void *arg)
{
	const char *dot = strchr(key, '.');
	FILE *out = arg;

	if (dot)
		(void)fprintf(out, "note: [%.*s] %s needs a restart\n", (int)(dot - key),
		        key, dot + 1);
}

/* Puts what limits_compute warns of on lines of its own kind. Returns as limits_compute.
 */
static int reload_compute(struct daemon *d, const struct config *config,
        struct budget *ret, struct report *report)
{
	OWN_MEM char *text = NULL;
	size_t len = 0;
	OWN_FILE FILE *warnings = open_memstream(&text, &len);
	/* Only looked at. As many workers as run: what auto would choose now is for a restart. */
	struct config running = *config;

	if (!warnings)
		return -ENOMEM;
	running.workers = d->budget.workers;
	config_warn(config, warnings);
	int r = limits_compute(&d->machine, &running, d->service->fds_per_connection, ret,
	        report->error_out, warnings);
	own_fclose_p(&warnings);
	start_each_line(text, start_print_warning, report->note_out);
	return r;
}

/* Returns 0, or 1 with the reasons in report. */
static int reload_try(struct daemon *d, struct report *report)
{
	struct config config;
	struct budget budget;

	int r = config_load(&d->source, &config, report->error_out);
	bool is_loaded = r == 0;
	report->mistakes = r > 0 ? (uint64_t)r : 0;
	/* It needs a restart, which must not fail then. Name services may be slow: only if it is
	 * another one. */
	gid_t gid;
	if (r == 0 && strcmp(config.control_group, d->config.control_group) != 0)
		r = start_find_group(&config, &gid, report->error_out) ? 1 : 0;
	if (r == 0) {
		(void)config_keep_fixed(
		        &d->config, &config, reload_note_fixed, report->note_out);
		r = reload_compute(d, &config, &budget, report);
	}
	if (r == 0)
		r = port_reconfigure(d->port, &config, &budget);
	if (r < 0) {
		errno = -r;
		(void)fprintf(report->error_out, "the system refused it: %m\n");
	}
	if (r != 0) {
		if (is_loaded)
			config_release(&config);
		return 1;
	}
	config_release(&d->config);
	d->config = config;
	d->budget = budget;
	log_set_level(config.log_level);
	start_check_backlog(d, report->note_out);
	return 0;
}

/* Keeps the first mistake for STATUS=, which takes one line of plain text, and for the log. */
static void reload_remember(struct daemon *d, const char *errors)
{
	size_t n = 0;

	for (; errors[n] && errors[n] != '\n' && n < sizeof(d->reload_error) - 1; n++)
		d->reload_error[n] =
		        errors[n] >= ' ' && errors[n] <= '~' ? errors[n] : '?';
	d->reload_error[n] = '\0';
	memcpy(d->rejected_for, d->reload_error, sizeof(d->rejected_for));
}

static void reload_log_error(const char *line, void *arg)
{
	(void)arg;
	log_error("%s", line);
}

static void reload_log_note(const char *line, void *arg)
{
	(void)arg;
	if (strncmp(line, "warning: ", 9) == 0)
		log_warning("%s", line + 9);
	else
		log_warning("%s", strncmp(line, "note: ", 6) == 0 ? line + 6 : line);
}

static const char reload_kept[] = "configuration rejected, the old one stays in force";

static struct journal_record reload_record(
        const struct daemon *d, enum journal_event event, const struct stats *s)
{
	struct journal_record r = journal_record(event, s);

	journal_add_text(
	        &r, "PORTD_FILE", d->source.file ? d->source.file : CONFIG_DEFAULT_FILE);
	return r;
}

static void reload_count(const char *line, void *arg)
{
	uint64_t *n = arg;

	(void)line;
	(*n)++;
}

/* Whoever reloads in a loop gets each verdict, but does not fill the log: of those that it can do
 * without, it has the first mistake of the last. */
static void reload_tell_rejected(struct daemon *d, const char *errors, uint64_t mistakes)
{
	uint64_t now = clock_now();
	bool in_full = tell_is_free(&d->tell, TELL_REJECTED, now);
	struct stats s;

	status_collect(d, &s);
	reload_remember(d, errors);
	/* Not of the configuration by itself, but of this machine. */
	if (mistakes == 0)
		start_each_line(errors, reload_count, &mistakes);
	struct journal_record r = reload_record(d, JOURNAL_REJECTED, &s);
	journal_add_text(&r, "PORTD_REASON", d->rejected_for);
	journal_add_number(&r, "PORTD_MISTAKES", mistakes);
	tell(&d->tell, TELL_REJECTED, now, &r, "%s%s%s", reload_kept, in_full ? "" : ": ",
	        in_full ? "" : d->rejected_for);
	if (in_full)
		start_each_line(errors, reload_log_error, NULL);
}

static void reload_tell_fine(struct daemon *d, const char *notes)
{
	const char *bound = limits_bound_name(d->budget.bound_by);
	uint64_t now = clock_now();
	bool in_full = tell_is_free(&d->tell, TELL_RELOADED, now);
	struct stats s;

	status_collect(d, &s);
	struct journal_record r = reload_record(d, JOURNAL_RELOADED, &s);
	journal_add_text(&r, "PORTD_BOUND_BY", bound);
	tell(&d->tell, TELL_RELOADED, now, &r,
	        "reloaded: up to %" PRIu64 " connection%s, bound by %s",
	        d->budget.max_connections, PLURAL(d->budget.max_connections), bound);
	if (in_full)
		start_each_line(notes, reload_log_note, NULL);
	d->reload_error[0] = '\0';
}

static void reload_tell(
        struct daemon *d, bool rejected, const struct report *report, FILE *answer)
{
	const char *errors =
	        report->errors && *report->errors ? report->errors : "out of memory\n";

	if (rejected)
		reload_tell_rejected(d, errors, report->mistakes);
	else
		reload_tell_fine(d, report->notes);
	events_reload(d, rejected);
	/* Its listen(2) may have found the listener destroyed. */
	listening_check(d);
	/* Before the answer, and READY=1: who takes the gate away finds it open. */
	gate_check(d);
	if (!answer)
		return;
	if (rejected)
		(void)fprintf(answer, "error: %s\n%s", reload_kept, errors);
	else
		(void)fprintf(answer, "reloaded\n%s", report->notes ? report->notes : "");
}

int reload_run(struct daemon *d, FILE *answer)
{
	char message[64];
	struct report report;
	bool rejected = true;

	(void)snprintf(message, sizeof(message), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
	        clock_now() / CLOCK_USEC);
	notify_state(&d->notify, message);

	/* Files can be opened even when clients have every other descriptor. */
	bool is_short = reserve_is_needed(RESERVE_RELOAD);
	if (is_short) {
		fdtable_lock();
		(void)reserve_lend(&d->reserve, RESERVE_SIZE);
	}
	if (report_open(&report) == 0)
		rejected = reload_try(d, &report) != 0;
	report_finish(&report);
	if (is_short) {
		(void)reserve_fill(&d->reserve);
		fdtable_unlock();
	}

	reload_tell(d, rejected, &report, answer);
	report_free(&report);
	notify_state(&d->notify, "READY=1");
	status_send(d);
	d->reloaded_at = clock_now();
	return rejected;
}
