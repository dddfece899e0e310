/*
 * portd.c - main, as a table of contents: what portd does, in order.
 *
 * This is where the floors meet: core serves connections through the table of services
 * that is handed in here, and names none of them.
 */
#include <errno.h>

#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "daemon/start.h"
#include "serve/discard.h"
#include "serve/echo.h"
#include "serve/tuple.h"

static const struct service *const services[] = {
        &tuple_service,
        &echo_service,
        &discard_service,
        NULL,
};

static int portd_run(struct daemon *d)
{
	int r = start_process(d);

	if (r == 0)
		r = start_port(d);
	if (r == 0)
		r = start_main_thread(d);
	if (r == 0)
		r = start_open_port(d);
	if (r != 0)
		return r;

	r = daemon_run(d);
	if (r == 0)
		return d->failed ? EXIT_FAILED : EXIT_STOPPED;
	errno = -r;
	log_error("the event loop failed: %m");
	return EXIT_FAILED;
}

static int portd_do(struct daemon *d, const struct options *options)
{
	int r = start_load(d, options, services);

	if (signals_stop_is_pending())
		return start_end_early();
	if (r == 0 && options->print)
		r = start_print(d);
	if (r == 0 && (options->check || !options->print))
		r = start_compute(d);
	if (r == 0 && options->check)
		r = start_say_fine(d);
	if (r != 0 || options->check || options->print)
		return r;
	return portd_run(d);
}

int main(int argc, char **argv)
{
	static struct daemon d;
	struct options options;

	signals_hold();
	int r = start_standard_fds();
	if (r != 0)
		return r;
	r = options_parse(argc, argv, &options);
	if (r != OPTIONS_RUN)
		return r;
	if (options.check || options.print)
		signals_release();
	daemon_init(&d);
	inherit_take(&d);
	log_open();
	r = portd_do(&d, &options);
	daemon_close(&d);
	options_free(&options);
	return r;
}
