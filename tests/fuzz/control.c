/*
 * control.c - what clients send to the control socket, one after the other, FUZZ_NEXT between them; one
 * that begins with «%config» and a line's end is no client: the rest of it is the configuration file from
 * then on. Behind them is a portd whose workers have no thread, and whose listener listens to nobody.
 */
#include "files.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/own.h"
#include "core/config_key.h"
#include "core/worker.h"
#include "daemon/conns.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/gate.h"
#include "daemon/requests.h"
#include "daemon/start.h"
#include "daemon/status.h"
#include "net/fdtable.h"
#include "serve/echo.h"

#define CLIENTS_MAX 8
/* Turns of the event loop that no answer takes. */
#define TURNS_MAX 4000

static const char config_mark[] = "%config\n";

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __wrap_listener_listen(int fd, const struct addr *address, uint64_t backlog);
bool __wrap_port_is_down(const struct port *port, const struct listener_queue *queue);
int __wrap_socket_file_find_group(const char *name, gid_t *ret);
void __wrap_log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_record(enum log_level level, const char *id,
        const struct log_field *field, size_t n, const char *format, va_list args)
        __attribute__((format(printf, 5, 0)));

/* The port's listener is bound to nothing. */
int __wrap_listen(int fd, int backlog)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	(void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	return domain == AF_UNIX ? __real_listen(fd, backlog) : 0;
}

bool __wrap_port_is_down(const struct port *port, const struct listener_queue *queue)
{
	(void)port;
	(void)queue;
	return false;
}

int __wrap_listener_listen(int fd, const struct addr *address, uint64_t backlog)
{
	(void)fd;
	(void)address;
	(void)backlog;
	return 0;
}

int __wrap_socket_file_find_group(const char *name, gid_t *ret)
{
	*ret = 0;
	return *name == '\0' || strcmp(name, "portd") == 0 ? 0 : 1;
}

#define LOG_FUNCTION(name) \
	void __wrap_##name(const char *format, ...) \
	{ \
		(void)format; \
	}
LOG_FUNCTION(log_error)
LOG_FUNCTION(log_warning)
LOG_FUNCTION(log_info)

void __wrap_log_record(enum log_level level, const char *id,
        const struct log_field *field, size_t n, const char *format, va_list args)
{
	(void)level;
	(void)id;
	(void)field;
	(void)n;
	(void)format;
	(void)args;
}

struct rig {
	struct daemon d;
	struct sockaddr_un address;
	socklen_t address_len;
};

static void open_port(struct daemon *d)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	d->main_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	FUZZ_CHECK(fd >= 0 && d->main_fd >= 0, "no descriptor");
	FUZZ_CHECK(port_create(&d->port, &d->config, &d->budget, d->service, fd,
	                   d->main_fd) == 0,
	        "no port");
	FUZZ_CHECK(port_open(d->port) == 0, "the port does not open");
}

static void open_control(struct rig *rig)
{
	struct daemon *d = &rig->d;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* The kernel chooses an abstract name. */
	rig->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	rig->address_len = sizeof(rig->address);
	FUZZ_CHECK(fd >= 0 &&
	                   bind(fd, (struct sockaddr *)&rig->address,
	                           sizeof(rig->address.sun_family)) == 0 &&
	                   getsockname(fd, (struct sockaddr *)&rig->address,
	                           &rig->address_len) == 0 &&
	                   __real_listen(fd, CLIENTS_MAX) == 0,
	        "no control socket");
	FUZZ_CHECK(sd_event_new(&d->event) >= 0 && status_open(d) >= 0 &&
	                   gate_open_timer(d) >= 0 &&
	                   control_open(&d->control, d->event, fd, &d->reserve,
	                           requests_answer, d) == 0,
	        "no event loop");
}

static void rig_open(struct rig *rig)
{
	static const struct service *const services[] = {&echo_service, NULL};
	struct daemon *d = &rig->d;
	struct fuzz_taken said;

	memset(rig, 0, sizeof(*rig));
	daemon_init(d);
	files_set_main((struct fuzz_piece){"", 0});
	files_set_drop_in(NULL);
	d->service = services[0];
	d->service_names[0] = "echo";
	d->service_names[1] = "tuple";
	d->source =
	        (struct config_source){.file = FILES_MAIN, .services = d->service_names};
	d->machine = (struct machine){
	        .nofile_hard = 256, .nofile_soft = 256, .memory = 1 << 30, .cpus = 2};
	FILE *out = fuzz_take(&said);
	FUZZ_CHECK(config_load(&d->source, &d->config, out) == 0, "no configuration");
	FUZZ_CHECK(limits_compute(&d->machine, &d->config, 1, &d->budget, out, out) == 0,
	        "no budget");
	fuzz_taken(&said);
	fuzz_drop(&said);
	open_port(d);
	events_open(d);
	open_control(rig);
}

/* As daemon_close, which also ends what was never begun here. */
static void rig_close(struct rig *rig)
{
	struct daemon *d = &rig->d;

	d->control = control_close(d->control);
	FUZZ_CHECK(list_is_empty(&d->listings), "a listing goes on without its client");
	(void)sd_event_source_disable_unref(d->status_timer);
	(void)sd_event_source_disable_unref(d->gate_timer);
	(void)sd_event_unref(d->event);
	reserve_close(&d->reserve);
	d->port = port_destroy(d->port);
	d->main_fd = own_close(d->main_fd);
	config_release(&d->config);
}

/* What is in force, in words. */
static char *force_of(struct daemon *d)
{
	struct fuzz_taken t;

	config_print(&d->config, fuzz_take(&t));
	(void)fprintf(t.out, "%d %d %llu %llu %llu %u\n", d->draining, d->stopping,
	        (unsigned long long)d->budget.max_connections,
	        (unsigned long long)d->budget.priority_slots,
	        (unsigned long long)d->budget.fds, d->budget.workers);
	fuzz_taken(&t);
	return t.text;
}

/* The request line that portd sees in what a client sends. */
static struct fuzz_piece line_of(struct fuzz_piece sent)
{
	struct fuzz_piece line = fuzz_cut(&sent, "\n");

	if (line.len > 0 && line.bytes[line.len - 1] == '\r')
		line.len--;
	return line;
}

static bool begins(struct fuzz_piece line, const char *text)
{
	return line.len >= strlen(text) && memcmp(line.bytes, text, strlen(text)) == 0;
}

/* Every line of it is JSON, but for a cursor. */
static void check_json_lines(struct fuzz_piece answer)
{
	while (answer.len > 0) {
		struct fuzz_piece line = fuzz_cut(&answer, "\n");

		if (!begins(line, "cursor "))
			fuzz_check_json("an answer", line.bytes, line.len);
	}
}

static void check_answer(struct fuzz_piece line, const char *text, size_t len)
{
	const struct fuzz_piece answer = {text, len};

	FUZZ_CHECK(len > 0 && text[len - 1] == '\n', "no answer, or half of one: '%s'",
	        text);
	fuzz_check_plain("an answer", text, len);
	if (begins(answer, "error: ")) {
		FUZZ_CHECK(strlen(text) > strlen("error: \n"), "an error without words");
		return;
	}
	if (fuzz_is(line, "stats json") || begins(line, "events json") ||
	        begins(line, "explain json"))
		check_json_lines(answer);
	if (fuzz_is(line, "stats openmetrics"))
		FUZZ_CHECK(len > 6 && strcmp(text + len - 6, "# EOF\n") == 0,
		        "no end: %s", text);
	if (fuzz_is(line, "reload"))
		FUZZ_CHECK(begins(answer, "reloaded\n"), "reload: %s", text);
}

/* A request that was refused changes nothing; only drain and reload change anything at all. */
static void check_force(
        struct daemon *d, struct fuzz_piece line, const char *answer, const char *before)
{
	OWN_MEM char *after = force_of(d);
	bool changes = begins(line, "drain") || begins(line, "reload") ||
	               memchr(line.bytes, ' ', line.len) ||
	               memchr(line.bytes, '\t', line.len);

	if (!changes || strncmp(answer, "error: ", 7) == 0)
		FUZZ_CHECK(strcmp(before, after) == 0, "changed by '%.*s':\n%s\nto:\n%s",
		        (int)line.len, line.bytes, before, after);
	if (fuzz_is(line, "drain"))
		FUZZ_CHECK(d->draining && strcmp(answer, "draining\n") == 0, "drain: %s",
		        answer);
	if (fuzz_is(line, "drain off"))
		FUZZ_CHECK(!d->draining, "drain off: %s", answer);
}

/* One turn of everything that makes an answer. */
static void turn(struct daemon *d)
{
	FUZZ_CHECK(sd_event_run(d->event, 0) >= 0, "the event loop failed");
	for (unsigned i = 0; i < d->port->n_workers; i++)
		walk_serve(&d->port->workers[i]);
	conns_check(d);
}

static void say(int fd, struct fuzz_piece piece)
{
	FUZZ_CHECK(piece.len == 0 ||
	                   send(fd, piece.bytes, piece.len, MSG_NOSIGNAL | MSG_DONTWAIT) >
	                           0 ||
	                   errno == EPIPE,
	        "cannot send");
}

/* Reads what has come. Returns whether the end has. */
static bool listen_to(int fd, FILE *answer)
{
	char buf[4096];

	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0)
			return errno != EAGAIN;
		if (n == 0)
			return true;
		(void)fwrite(buf, 1, (size_t)n, answer);
	}
}

/* A client says its piece in two parts, and reads to the end. */
static void run_client(struct rig *rig, struct fuzz_piece piece)
{
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	OWN_MEM char *before = force_of(&rig->d);
	struct fuzz_piece line = line_of(piece), half = {piece.bytes, piece.len / 2};
	struct fuzz_taken answer;
	unsigned turns = 0;

	FUZZ_CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&rig->address,
	                              rig->address_len) == 0,
	        "cannot connect");
	say(fd, half);
	turn(&rig->d);
	turn(&rig->d);
	say(fd, (struct fuzz_piece){piece.bytes + half.len, piece.len - half.len});
	(void)shutdown(fd, SHUT_WR);
	for (FILE *out = fuzz_take(&answer); !listen_to(fd, out); turns++) {
		FUZZ_CHECK(turns < TURNS_MAX, "no end of the answer to '%.*s'",
		        (int)line.len, line.bytes);
		turn(&rig->d);
	}
	fuzz_taken(&answer);
	if (piece.len > 0) {
		check_answer(line, answer.text, answer.len);
		check_force(&rig->d, line, answer.text, before);
	}
	fuzz_drop(&answer);
}

/* The same request from somebody who may change nothing. */
static void run_unprivileged(struct rig *rig, struct fuzz_piece piece)
{
	struct fuzz_piece line = line_of(piece);
	OWN_MEM char *text = fuzz_text(line);
	OWN_MEM char *before = force_of(&rig->d);
	struct control_stream *stream = NULL;
	const struct control_request request = {
	        .line = text, .len = line.len, .stream = &stream};
	struct fuzz_taken answer;

	if (line.len > CONTROL_REQUEST_MAX)
		return;
	requests_answer(&rig->d, &request, fuzz_take(&answer));
	fuzz_taken(&answer);
	if (stream)
		stream->end(stream);
	OWN_MEM char *after = force_of(&rig->d);
	FUZZ_CHECK(
	        strcmp(before, after) == 0, "changed without permission by '%s'", text);
	FUZZ_CHECK(answer.len > 0, "no answer to '%s'", text);
	fuzz_check_plain("an answer", answer.text, answer.len);
	fuzz_drop(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig;
	struct fuzz_piece rest = {(const char *)data, size};

	rig_open(&rig);
	for (unsigned i = 0; i < CLIENTS_MAX && rest.len > 0; i++) {
		struct fuzz_piece piece = fuzz_cut(&rest, FUZZ_NEXT);

		if (begins(piece, config_mark)) {
			(void)fuzz_cut(&piece, config_mark);
			files_set_main(piece);
			continue;
		}
		run_unprivileged(&rig, piece);
		run_client(&rig, piece);
	}
	for (unsigned i = 0; i < TURNS_MAX && control_fds(rig.d.control) > 1; i++)
		turn(&rig.d);
	FUZZ_CHECK(control_fds(rig.d.control) == 1, "a client stays for ever");
	rig_close(&rig);
	return 0;
}
