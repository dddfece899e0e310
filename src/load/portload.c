/*
 * portload.c - the load generator: makes, holds and counts connections, portload(1).
 *
 * Invariants: data goes to standard output, words go to stderr; every failure leaves one
 * reason there and an exit code of portload(1).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/own.h"
#include "load/crew.h"
#include "load/options.h"
#include "load/plan.h"
#include "load/report.h"
#include "load/run.h"

/* A table of descriptors is of no use beyond that: memory is kept for each of them. */
#define FDS_MAX UINT64_C(1048576)

static uint64_t count_cpus(void)
{
	cpu_set_t set;

	/* More CPUs than fit the set: as good as any number of that size. */
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return CPU_SETSIZE;
	return (uint64_t)CPU_COUNT(&set);
}

static uint64_t count_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	return limit.rlim_max < FDS_MAX ? limit.rlim_max : FDS_MAX;
}

/* Descriptors 0 to 2 exist, so that no connection gets their numbers; all others are free for
 * connections, whatever was open where portload was started. */
static int guard_standard(void)
{
	(void)close_range(3, ~0U, 0);
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		        open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
			return -errno;
	return 0;
}

static int run(const struct options *options, const struct plan *plan)
{
	static int (*const commands[])(struct crew *, struct report *) = {
	        [COMMAND_HOLD] = run_hold,
	        [COMMAND_CHURN] = run_churn,
	        [COMMAND_FLOOD] = run_churn,
	        [COMMAND_RAMP] = run_ramp};
	struct crew crew = CREW_EMPTY;
	OWN_MEM struct figures *figures = calloc(1, sizeof(*figures));
	OWN_MEM struct report *report = calloc(1, sizeof(*report));
	int r = figures && report ? crew_start(&crew, options, plan) : -ENOMEM;

	if (r < 0) {
		(void)fprintf(stderr, "portload: %llu process%s: %s\n",
		        (unsigned long long)plan->processes,
		        plan->processes == 1 ? "" : "es", strerrordesc_np(-r));
		return EXIT_NOTHING;
	}
	*report = (struct report){.options = options,
	        .plan = plan,
	        .figures = figures,
	        .last = figures,
	        .knee = -1};
	int code = commands[options->command](&crew, report);
	crew_destroy(&crew);
	return code;
}

int main(int argc, char **argv)
{
	struct options options;
	struct plan plan;

	if (guard_standard() < 0)
		return EXIT_NOTHING;
	(void)signal(SIGPIPE, SIG_IGN);
	int code = options_read(argc, argv, &options);
	if (code < 0) {
		if (plan_make(&options, count_fds(), count_cpus(), &plan) < 0) {
			(void)fputs("portload: RLIMIT_NOFILE leaves no descriptor for "
			            "connections\n",
			        stderr);
			code = EXIT_NOTHING;
		} else {
			code = run(&options, &plan);
		}
	}
	options_destroy(&options);
	return code;
}
