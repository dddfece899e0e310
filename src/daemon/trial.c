/*
 * trial.c - what a start would run into, found out without starting.
 *
 * Invariant: whatever is taken is given back before the function returns.
 */
#include "daemon/trial.h"

#include <netinet/in.h>

#include "base/log.h"
#include "base/own.h"
#include "core/listener.h"
#include "daemon/options.h"
#include "daemon/refusal.h"
#include "net/fdtable.h"

/* A line that begins with the key. Returns EXIT_SYSTEM. */
static int trial_refuse(
        const struct config *config, enum config_key_index key, const char *reason)
{
	char place[CONFIG_PLACE_MAX];

	log_error("%s: %s", config_format_key(config, key, place), reason);
	return EXIT_SYSTEM;
}

int trial_run(const struct daemon *d)
{
	const struct config *config = &d->config;
	char reason[REFUSAL_MAX];
	int r = config->fd_table == CONFIG_FD_TABLE_PRIVATE ? fdtable_try_private() : 0;

	if (r < 0)
		return trial_refuse(
		        config, CONFIG_KEY_fd_table, refusal_of_tables(-r, reason));
	r = port_try(&d->budget);
	if (r < 0)
		return trial_refuse(
		        config, CONFIG_KEY_fds, refusal_of_books(&d->budget, -r, reason));
	return 0;
}

void trial_listener(const struct daemon *d, FILE *warnings)
{
	struct addr_named asked = d->config.address;
	struct addr probe, bound;
	char reason[REFUSAL_MAX];
	OWN_FD int fd = -1;
	bool fallback;
	int r = addr_resolve(&asked);

	probe = asked.addr;
	/* Who has the port is found by a start. But ports below 1024 are a matter of who
	 * asks. */
	if (probe.port >= IPPORT_RESERVED)
		probe.port = 0;
	if (r == 0)
		r = listener_open(&probe, 0, &fd, &bound, &fallback);
	if (r < 0 && r != -EADDRINUSE)
		(void)fprintf(warnings, "%s\n", refusal_of_listener(&asked, -r, reason));
}
