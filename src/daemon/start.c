/*
 * start.c - what comes before the port is open, in the order in which it is called.
 *
 * Invariant: a step that fails has said why in a line of its own; what it left in the
 * struct daemon can be given to daemon_close.
 */
#include "daemon/start.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/listener.h"
#include "daemon/configure.h"
#include "daemon/events.h"
#include "daemon/lifecycle.h"
#include "daemon/refusal.h"
#include "daemon/requests.h"
#include "daemon/status.h"
#include "daemon/trial.h"
#include "net/fdtable.h"

/* Above the budget's table: what libraries may open for a moment. */
#define START_LIMIT_SLACK 16U
/* LimitNOFILE= of portd.service. systemd clips it without a word where the machine gives less. */
#define START_UNIT_NOFILE UINT64_C(1048576)

int start_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			log_error("cannot open /dev/null: %m; portd keeps descriptors "
			          "on it back, in a container or chroot(2) too");
			return EXIT_SYSTEM;
		}
	} while (fd <= STDERR_FILENO);
	(void)own_close(fd);
	return 0;
}

static void start_log_warning(const char *line, void *arg)
{
	(void)arg;
	log_warning("%s", line);
}

static void start_log_mistake(const char *line, void *arg)
{
	(void)arg;
	log_error_patiently("%s", line);
}

static int start_no_memory(void)
{
	log_error("out of memory");
	return EXIT_SYSTEM;
}

static int start_find_service(struct daemon *d, const struct service *const *services)
{
	for (size_t i = 0; services[i]; i++)
		if (strcmp(services[i]->name, d->config.service) == 0)
			d->service = services[i];
	if (d->service)
		return 0;
	log_error("[service] type: no service '%s'", d->config.service);
	return EXIT_MISCONFIG;
}

int start_load(struct daemon *d, const struct options *options,
        const struct service *const *services)
{
	OWN_MEM char *text = NULL;
	size_t len = 0;
	OWN_FILE FILE *errors = open_memstream(&text, &len);

	for (size_t i = 0; services[i] && i < DAEMON_SERVICES_MAX; i++)
		d->service_names[i] = services[i]->name;
	d->source = (struct config_source){
	        .file = options->file,
	        .overrides = options->overrides,
	        .n_overrides = options->n_overrides,
	        .services = d->service_names,
	        .named = options->check ? CONFIG_NAMED_CHECK : CONFIG_NAMED,
	};
	if (!errors)
		return start_no_memory();
	int r = config_load(&d->source, &d->config, errors);
	int group = r == 0 ? start_find_group(&d->config, &d->control_gid, errors) : 0;
	own_fclose_p(&errors);
	/* Reading that was cut short makes mistakes which are not those of the files. */
	if (!signals_stop_is_pending())
		start_each_line(text, start_log_mistake, NULL);
	if (r < 0)
		return start_no_memory();
	if (r > 0)
		return EXIT_MISCONFIG;
	/* From now on for reloads. */
	d->source.before = &d->config.found;
	d->source.named = CONFIG_NAMED;
	d->source.patience = CONFIG_PATIENCE_RELOAD;
	log_set_level(d->config.log_level);
	r = start_find_service(d, services);
	return r ? r : group;
}

int start_end_early(void)
{
	log_info("stopping: asked to before the port was open");
	return EXIT_STOPPED;
}

int start_compute(struct daemon *d)
{
	OWN_MEM char *error_text = NULL, *warning_text = NULL;
	size_t error_len = 0, warning_len = 0;
	OWN_FILE FILE *errors = open_memstream(&error_text, &error_len);
	OWN_FILE FILE *warnings = open_memstream(&warning_text, &warning_len);

	if (!errors || !warnings)
		return start_no_memory();
	config_warn(&d->config, warnings);
	int r = limits_probe(&d->machine);
	if (r == 0)
		r = limits_compute(&d->machine, &d->config,
		        d->service->fds_per_connection, &d->budget, errors, warnings);
	own_fclose_p(&errors);
	own_fclose_p(&warnings);
	start_each_line(warning_text, start_log_warning, NULL);
	start_each_line(error_text, start_log_mistake, NULL);
	if (r >= 0)
		return r ? EXIT_MISCONFIG : trial_run(d);
	errno = -r;
	log_error("cannot find out what this machine allows: %m");
	return EXIT_SYSTEM;
}

int start_print(const struct daemon *d)
{
	config_print(&d->config, stdout);
	return options_finish_output();
}

int start_say_fine(const struct daemon *d)
{
	const char *file = d->source.file;
	OWN_MEM char *text = NULL;
	size_t len = 0;
	OWN_FILE FILE *warnings = open_memstream(&text, &len);

	if (!warnings)
		return start_no_memory();
	trial_listener(d, warnings);
	own_fclose_p(&warnings);
	start_each_line(text, start_log_warning, NULL);
	if (!file)
		file = d->config.found.file ? CONFIG_DEFAULT_FILE : "(built-in defaults)";
	(void)fprintf(stderr, "configuration %s is fine\n", file);
	return 0;
}

static int start_raise_limit(const struct daemon *d)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		rlim_t need = d->budget.table_limit + START_LIMIT_SLACK;
		if (limit.rlim_max > d->machine.nofile_hard)
			limit.rlim_max = d->machine.nofile_hard;
		if (need > limit.rlim_max)
			need = limit.rlim_max;
		if (need <= limit.rlim_cur)
			return 0;
		limit.rlim_cur = need;
		if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
			return 0;
	}
	log_error("cannot raise the limit of open descriptors: %m");
	return EXIT_SYSTEM;
}

int start_process(struct daemon *d)
{
	signals_look(&d->signals);
	int r = notify_open(&d->notify);
	if (r < 0) {
		errno = -r;
		log_warning(
		        "cannot tell the service manager anything, NOTIFY_SOCKET: %m");
	}
	return start_raise_limit(d);
}

/* One line with the remedy. Returns EXIT_SYSTEM. */
static int start_explain(const struct addr_named *address, int err)
{
	char reason[REFUSAL_MAX];

	log_error("%s", refusal_of_listener(address, err, reason));
	return EXIT_SYSTEM;
}

static int start_listener(struct daemon *d)
{
	struct addr_named asked = d->config.address;
	struct addr bound;
	bool fallback = false;
	char text[ADDR_TEXT_MAX];

	int r = inherit_listener(d);
	if (r != 0 || d->listen_fd >= 0)
		return r;
	r = addr_resolve(&asked);
	if (r < 0)
		return start_explain(&asked, -r);
	do {
		r = listener_open(&asked.addr, d->config.keepalive, &d->listen_fd, &bound,
		        &fallback);
		/* The one that is to be dropped may be what has the port. */
	} while (r == -EADDRINUSE && inherit_retire(d) == 0);
	if (r < 0)
		return start_explain(&asked, -r);
	addr_name_as(&bound, &asked, &d->address);
	if (fallback)
		log_warning("IPv6 is off here: the port is %s, IPv4 only",
		        addr_format_named(&d->address, text));
	return 0;
}

int start_port(struct daemon *d)
{
	char reason[REFUSAL_MAX];
	int r = start_listener(d);

	if (r != 0)
		return r;
	d->main_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = d->main_fd < 0 ? -errno : 0;
	if (r == 0)
		r = port_create(&d->port, &d->config, &d->budget, d->service,
		        d->listen_fd, d->main_fd);
	if (r == 0) {
		d->listen_fd = -1; /* the port's now */
		r = port_start(d->port);
		d->port_started = r == 0;
	}
	if (r == 0)
		return 0;
	log_error("%s", refusal_of_workers(d->budget.workers, -r, reason));
	return EXIT_SYSTEM;
}

int start_main_thread(struct daemon *d)
{
	int fd = -1;

	fdtable_lock();
	(void)reserve_fill(&d->reserve);
	fdtable_unlock();
	int r = daemon_open_loop(d);
	if (r == 0 && socket_file_open(d->config.control_socket, d->config.control_mode,
	                      d->control_gid, &d->socket_file, &fd) != 0)
		return EXIT_SYSTEM;
	if (r == 0)
		r = control_open(
		        &d->control, d->event, fd, &d->reserve, requests_answer, d);
	if (r == 0)
		return 0;
	(void)own_close(fd);
	errno = -r;
	log_error("cannot set up the main thread: %m");
	return EXIT_SYSTEM;
}

/* Less than the unit asks for, and it matters. */
static void start_check_nofile(const struct daemon *d)
{
	if (d->notify.fd < 0 || d->budget.bound_by != LIMITS_BOUND_FDS ||
	        d->machine.nofile_hard >= START_UNIT_NOFILE)
		return;
	log_info("RLIMIT_NOFILE is %" PRIu64
	         ", where the unit asks for LimitNOFILE=%" PRIu64
	         ": the machine, the manager's own limit or a drop-in keeps it low, and "
	         "it "
	         "bounds the connections",
	        d->machine.nofile_hard, START_UNIT_NOFILE);
}

static void start_log_backlog(const char *line, void *arg)
{
	start_log_warning(line + strlen("warning: "), arg);
}

int start_open_port(struct daemon *d)
{
	OWN_MEM char *text = NULL;
	size_t len = 0;

	int r = port_open(d->port);
	if (r < 0)
		return start_explain(&d->address, -r);
	events_open(d);
	inherit_store(d);
	journal_tell_open(d);
	start_check_nofile(d);
	OWN_FILE FILE *warnings = open_memstream(&text, &len);
	if (!warnings)
		return start_no_memory();
	start_check_backlog(d, warnings);
	own_fclose_p(&warnings);
	start_each_line(text, start_log_backlog, NULL);
	return 0;
}
