/*
 * inherit.c - the environment that whoever starts portd hands over: $LISTEN_*, $NOTIFY_SOCKET,
 * $WATCHDOG_*, $FDSTORE, $JOURNAL_STREAM. The first line has a letter for each descriptor from 3 on, the
 * others are NAME=VALUE; @ for a value is this process.
 *
 *   a to z   a listener, whose address is that of the letter; s to z stand for the configured one
 *   0        no TCP socket        1   a socket that does not listen
 *   2        what the system refuses to tell about
 */
#include "fuzz.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/own.h"
#include "core/listener.h"
#include "daemon/daemon.h"
#include "daemon/inherit.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/pulse.h"
#include "net/fdpass.h"

#define FD_FIRST 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX  12

static const char *const names[] = {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
        "NOTIFY_SOCKET", "FDSTORE", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"};
/* Those are portd's alone: what it starts must not believe that they are meant for it. */
#define NAMES_TAKEN 7

/* Where descriptors of libFuzzer's own are meanwhile. */
#define FD_SAVED 300

static char kinds[FDS_MAX + 1];
static int saved[FDS_MAX];
static unsigned errors_said, messages_sent;

void __wrap_log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
int __wrap_listener_adopt(
        int fd, uint64_t keepalive_ns, struct addr *ret_address, bool *ret_revived);
int __wrap_fdpass_send_to(int socket_fd, const struct sockaddr *to, socklen_t to_len,
        const void *data, size_t len, int fd);
int __wrap_port_listener(const struct port *port);

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
	struct fuzz_taken text;

	(void)vfprintf(fuzz_take(&text), format, args);
	fuzz_taken(&text);
	FUZZ_CHECK(text.len > 0, "an empty line in the log");
	fuzz_drop(&text);
}

#define LOG_FUNCTION(name, errors) \
	void __wrap_##name(const char *format, ...) \
	{ \
		va_list args; \
		va_start(args, format); \
		say(format, args); \
		va_end(args); \
		errors_said += (errors); \
	}
LOG_FUNCTION(log_error, 1)
LOG_FUNCTION(log_warning, 0)
LOG_FUNCTION(log_info, 0)

static struct addr address_of(char kind)
{
	struct addr addr = {.family = AF_INET, .bytes = {127, 0, 0, 1}, .port = 7777};

	if (kind < 's')
		addr.port = (uint16_t)(1000 + kind);
	return addr;
}

int __wrap_listener_adopt(
        int fd, uint64_t keepalive_ns, struct addr *ret_address, bool *ret_revived)
{
	(void)keepalive_ns;
	*ret_revived = false;
	FUZZ_CHECK(fd >= FD_FIRST && fd < FD_FIRST + (int)strlen(kinds),
	        "the descriptor %d was not handed over", fd);
	char kind = kinds[fd - FD_FIRST];

	if (kind == '0')
		return LISTENER_NOT_TCP;
	if (kind == '1')
		return LISTENER_NOT_LISTENING;
	if (kind == '2')
		return -ENOBUFS;
	*ret_address = address_of(kind);
	return 0;
}

/* Nobody is told. */
int __wrap_fdpass_send_to(int socket_fd, const struct sockaddr *to, socklen_t to_len,
        const void *data, size_t len, int fd)
{
	(void)fd;
	(void)data;
	FUZZ_CHECK(socket_fd >= 0 && len > 0, "nothing is sent to nobody");
	FUZZ_CHECK(to->sa_family == AF_UNIX && to_len <= sizeof(struct sockaddr_un),
	        "an address of %u bytes", to_len);
	messages_sent++;
	return 0;
}

int __wrap_port_listener(const struct port *port)
{
	(void)port;
	return STDIN_FILENO;
}

static void open_fds(struct fuzz_piece line)
{
	size_t n = 0;

	for (size_t i = 0; i < line.len && n < FDS_MAX; i++) {
		char c = line.bytes[i];

		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '2'))
			kinds[n++] = c;
	}
	kinds[n] = '\0';
	for (size_t i = 0; i < FDS_MAX; i++) {
		int fd = FD_FIRST + (int)i;

		saved[i] = fcntl(fd, F_DUPFD_CLOEXEC, FD_SAVED);
		if (i < n)
			FUZZ_CHECK(dup2(STDIN_FILENO, fd) == fd, "no descriptor");
		else
			(void)own_close(saved[i] >= 0 ? fd : -1);
	}
}

static void close_fds(void)
{
	for (int i = 0; i < FDS_MAX; i++) {
		(void)own_close(FD_FIRST + i);
		if (saved[i] >= 0)
			(void)dup2(saved[i], FD_FIRST + i);
		saved[i] = own_close(saved[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)unsetenv(names[i]);
}

static void set_environment(struct fuzz_piece rest)
{
	while (rest.len > 0) {
		OWN_MEM char *line = fuzz_text(fuzz_cut(&rest, "\n"));
		char pid[16], *equals = strchr(line, '=');

		if (!equals)
			continue;
		*equals = '\0';
		(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
		const char *value = strcmp(equals + 1, "@") == 0 ? pid : equals + 1;

		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (strcmp(line, names[i]) == 0)
				FUZZ_CHECK(setenv(line, value, 1) == 0, "no memory");
	}
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As portd(8) has it: a quarter of the watchdog's period, but no less than 1 ms, and no more than
 * without one. */
static void check_watchdog(const struct daemon *d)
{
	uint64_t usec = d->notify.watchdog_usec, tick = pulse_tick(d);
	uint64_t quarter =
	        usec > UINT64_MAX / CLOCK_USEC ? UINT64_MAX : usec * CLOCK_USEC;

	quarter /= 4;
	if (quarter < CLOCK_MSEC)
		quarter = CLOCK_MSEC;
	uint64_t expected = usec ? least(quarter, DAEMON_TICK_NS) : DAEMON_TICK_NS;
	uint64_t off = tick > expected ? tick - expected : expected - tick;

	FUZZ_CHECK(off <= 4 * CLOCK_USEC, "WATCHDOG_USEC=%llu: a tick of %llu ns",
	        (unsigned long long)usec, (unsigned long long)tick);
}

static void check_notify(struct daemon *d)
{
	const char *name = getenv("NOTIFY_SOCKET");
	bool is_address = name && (*name == '/' || *name == '@');
	int r = notify_open(&d->notify);

	FUZZ_CHECK(r <= 1, "notify_open: %d", r);
	FUZZ_CHECK((r == 0) == (d->notify.fd >= 0), "notify_open: %d", r);
	FUZZ_CHECK(r != 0 || is_address, "NOTIFY_SOCKET was taken for an address");
	FUZZ_CHECK(d->notify.fd >= 0 || !d->notify.stores,
	        "nobody is told, and is to keep descriptors");
	check_watchdog(d);
}

static bool is_handed(int fd)
{
	return fd == -1 || (fd >= FD_FIRST && fd < FD_FIRST + (int)strlen(kinds));
}

static void check_listener(struct daemon *d)
{
	errors_said = 0;
	int code = inherit_listener(d);

	FUZZ_CHECK(code == 0 || code == EXIT_MISCONFIG || code == EXIT_SYSTEM,
	        "inherit_listener: %d", code);
	FUZZ_CHECK((code != 0) == (errors_said > 0), "inherit_listener: %d, %u errors",
	        code, errors_said);
	FUZZ_CHECK(is_handed(d->listen_fd) && is_handed(d->stale_fd) &&
	                   (d->listen_fd != d->stale_fd || d->listen_fd == -1),
	        "listener %d, stale %d", d->listen_fd, d->stale_fd);
	FUZZ_CHECK((d->listen_fd >= 0) == (d->origin != LISTENER_BOUND) || code != 0,
	        "listener %d of origin %u", d->listen_fd, d->origin);
	FUZZ_CHECK(
	        d->kept_elsewhere == (d->listen_fd >= 0), "who keeps %d?", d->listen_fd);
	if (d->listen_fd >= 0) {
		struct addr is = address_of(kinds[d->listen_fd - FD_FIRST]);

		FUZZ_CHECK(addr_equal(&d->address.addr, &is), "another address");
		FUZZ_CHECK(d->origin == LISTENER_SOCKET ||
		                   addr_equal(&is, &d->config.address.addr),
		        "a stored listener for another address");
	}
}

/* Who keeps the listener is somebody else; without one, nobody. */
static void check_store(struct daemon *d)
{
	bool had = d->kept_elsewhere;

	messages_sent = 0;
	inherit_store(d);
	FUZZ_CHECK(!d->kept_elsewhere || had || messages_sent > 0,
	        "the listener is said to be kept, and was given to nobody");
	FUZZ_CHECK(d->stale_fd == -1, "the stale one is still here");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct daemon d;
	struct fuzz_piece rest = {(const char *)data, size};

	open_fds(fuzz_cut(&rest, "\n"));
	set_environment(rest);
	daemon_init(&d);
	d.config.address = (struct addr_named){.addr = address_of('z')};
	d.config.keepalive = 60 * CLOCK_SEC;
	/* As main does it. */
	inherit_take(&d);
	log_open();
	FUZZ_CHECK(log_fds() <= 1, "log_open");
	check_notify(&d);
	check_listener(&d);
	for (size_t i = 0; i < NAMES_TAKEN; i++)
		FUZZ_CHECK(!getenv(names[i]), "%s is still there: %s", names[i],
		        getenv(names[i]));
	check_store(&d);
	notify_close(&d.notify);
	(void)own_close(d.listen_fd);
	close_fds();
	log_open();
	return 0;
}
