/*
 * limited.c - was it portload, and not the server, that set the pace? A load generator that
 * does not say so measures itself.
 *
 * Invariant: a reason is given only for what was measured: errors of system calls, starts
 * that were late, CPU used and waited for.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/plural.h"
#include "load/report.h"

/* Of the time, on a CPU or waiting for one: no more could have been done. */
#define BUSY_PERCENT 90U
/* Of the starts. */
#define LATE_PERCENT 1U

__attribute__((format(printf, 2, 3))) static void add(
        struct report *report, const char *format, ...)
{
	size_t len = strlen(report->limited_by);
	va_list args;

	if (len > 0 && len + 2 < sizeof(report->limited_by)) {
		memcpy(report->limited_by + len, "; ", 3);
		len += 2;
	}
	va_start(args, format);
	(void)vsnprintf(
	        report->limited_by + len, sizeof(report->limited_by) - len, format, args);
	va_end(args);
}

static const char *explain_error(int error)
{
	switch (error) {
	case EADDRNOTAVAIL:
		return ": no free port, or a source that is no address of this machine; "
		       "see --sources";
	case EMFILE:
		return ": portload ran out of descriptors; raise the hard RLIMIT_NOFILE";
	case ENFILE:
		return ": this machine ran out of open files; raise fs.file-max";
	case ENOBUFS:
	case ENOMEM:
		return ": this machine ran out of memory for sockets";
	case ENETUNREACH:
	case EHOSTUNREACH:
		return ": there is no way to the target from that source";
	case EPERM:
	case EACCES:
		return ": a firewall on this machine forbids it";
	default:
		return "";
	}
}

static void add_plan(struct report *report)
{
	const struct plan *plan = report->plan;

	if (plan->short_of_sources)
		add(report,
		        "%" PRIu64 " source address%s can carry %" PRIu64
		        " connection%s, %u each, of the %" PRIu64 " asked for",
		        report->options->sources.limit,
		        report->options->sources.limit == 1 ? "" : "es",
		        plan->connections, PLURAL(plan->connections), PLAN_PORTS,
		        report->options->connections);
	if (plan->short_of_processes)
		add(report,
		        "%" PRIu64 " processes of %" PRIu64
		        " descriptors can carry %" PRIu64 " connection%s",
		        plan->processes, plan->fds, plan->connections,
		        PLURAL(plan->connections));
}

static void add_errors(struct report *report)
{
	const struct error_count *rows = report->figures->errors;

	for (int i = 0; i < SHARED_ERRORS && rows[i].error; i++)
		add(report, "%" PRIu64 " attempt%s failed with %s%s", rows[i].count,
		        PLURAL(rows[i].count), strerrorname_np(rows[i].error),
		        explain_error(rows[i].error));
	if (report->lost)
		add(report, "%" PRIu64 " of %" PRIu64 " process%s died (%s %d)",
		        report->lost, report->plan->processes,
		        report->plan->processes == 1 ? "" : "es",
		        WIFSIGNALED(report->lost_status) ? "signal" : "exit",
		        WIFSIGNALED(report->lost_status)
		                ? WTERMSIG(report->lost_status)
		                : WEXITSTATUS(report->lost_status));
}

static void add_lateness(struct report *report)
{
	const struct figures *f = report->last; /* a ramp's earlier steps were clean */
	uint64_t attempted = figure_get(&f->attempted);
	const double lag = (double)f->lag_max / (double)CLOCK_SEC;

	if (f->late[LATE_SELF] * 100 > attempted * LATE_PERCENT)
		add(report,
		        "portload fell behind its schedule: %" PRIu64
		        " connection%s began more than 10 ms late, up to %.3f s, or "
		        "never",
		        f->late[LATE_SELF], PLURAL(f->late[LATE_SELF]), lag);
	if (f->late[LATE_OPEN] * 100 > attempted * LATE_PERCENT)
		add(report,
		        "%" PRIu64 " connection%s began late, up to %.3f s, or never, "
		        "because %" PRIu64 " %s open: as many as --connections allows",
		        f->late[LATE_OPEN], PLURAL(f->late[LATE_OPEN]), lag,
		        report->plan->connections,
		        report->plan->connections == 1 ? "was" : "were");
}

static void add_cpu(struct report *report)
{
	const struct figures *f = report->last;
	uint64_t n = report->plan->processes;

	if (f->wall == 0 || (f->cpu + f->waiting) * 100 < f->wall * BUSY_PERCENT)
		return;
	uint64_t cpu = 100 * f->cpu / f->wall, waiting = 100 * f->waiting / f->wall;
	if (waiting < 10)
		add(report,
		        "portload itself: its %" PRIu64 " process%s used %" PRIu64
		        " %% of a CPU each",
		        n, n == 1 ? "" : "es", cpu);
	else
		add(report,
		        "portload's CPUs: its %" PRIu64 " process%s ran %" PRIu64
		        " %% of the time and waited %" PRIu64 " %% for a CPU",
		        n, n == 1 ? "" : "es", cpu, waiting);
}

void report_find_limits(struct report *report)
{
	report->limited_by[0] = '\0';
	add_plan(report);
	add_errors(report);
	add_lateness(report);
	add_cpu(report);
}
