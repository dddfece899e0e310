/*
 * configure.c - see configure.h.
 */
#include "daemon/configure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "core/listener.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "daemon/socket_file.h"

void start_each_line(
        const char *text, void (*line)(const char *line, void *arg), void *arg)
{
	OWN_MEM char *copy = text ? strdup(text) : NULL;
	char *rest = NULL;

	if (!copy)
		return;
	for (char *l = strtok_r(copy, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest))
		line(l, arg);
}

void start_print_warning(const char *line, void *arg)
{
	(void)fprintf(arg, "warning: %s\n", line);
}

int start_find_group(const struct config *config, gid_t *ret, FILE *errors)
{
	char place[CONFIG_PLACE_MAX];
	int r = socket_file_find_group(config->control_group, ret);

	if (r == 0)
		return 0;
	(void)config_format_key(config, CONFIG_KEY_control_group, place);
	errno = -r;
	if (r > 0)
		(void)fprintf(errors,
		        "%s: there is no group '%s'; leave it empty for portd's own\n",
		        place, config->control_group);
	else
		(void)fprintf(errors, "%s: cannot look up '%s': %m\n", place,
		        config->control_group);
	return r > 0 ? EXIT_MISCONFIG : EXIT_SYSTEM;
}

void start_check_backlog(const struct daemon *d, FILE *out)
{
	struct stats stats;

	port_collect(d->port, 0, &stats);
	/* 0: the kernel did not say. */
	if (stats.backlog_effective && stats.backlog_effective < d->config.backlog)
		(void)fprintf(out,
		        "warning: [listener] backlog: %" PRIu64
		        " asked for, the kernel grants %" PRIu64
		        "; raise net.core.somaxconn\n",
		        d->config.backlog, stats.backlog_effective);
}
