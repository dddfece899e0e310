/*
 * portctl.c - the client: one command, one request to portd's control socket, one
 * verdict.
 *
 * Invariants: data goes to standard output, words go to stderr; every failure leaves one
 * reason there and an exit code of portctl(1); nothing is printed as data that was not a
 * whole answer.
 *
 * Reads next: usage.c.
 */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/own.h"
#include "ctl/client.h"
#include "ctl/output.h"
#include "ctl/usage.h"

enum exit_code {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,
	EXIT_NO_ANSWER = 2,
	EXIT_USAGE = 64
};

/* Long options without a letter. The formats and what else belongs to one command only.
 */
enum option_id {
	OPTION_HELP = 256,
	OPTION_VERSION,
	OPTION_JSON,
	OPTION_PROMETHEUS,
	OPTION_OPENMETRICS,
	OPTION_OUTPUT,
	OPTION_LIVE,
	OPTION_OFF
};

static const struct option long_options[] = {
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"json", no_argument, NULL, OPTION_JSON},
        {"prometheus", no_argument, NULL, OPTION_PROMETHEUS},
        {"openmetrics", no_argument, NULL, OPTION_OPENMETRICS},
        {"output", required_argument, NULL, OPTION_OUTPUT},
        {"live", no_argument, NULL, OPTION_LIVE},
        {"off", no_argument, NULL, OPTION_OFF},
        {0},
};

/* What was typed. variant: the option that changes the command's request, as an
 * option_id; 0: none. */
struct request {
	const char *socket;
	const char *instance;
	const char *command;
	const char *output;
	int variant;
};

static const struct {
	const char *command;
	const char *text;
	int variant;
	unsigned timeout_s;
} requests[] = {
        {"stats", "stats text", 0, 10},
        {"stats", "stats json", OPTION_JSON, 10},
        {"stats", "stats prometheus", OPTION_PROMETHEUS, 10},
        {"stats", "stats openmetrics", OPTION_OPENMETRICS, 10},
        {"health", "health", 0, 10},
        {"health", "health live", OPTION_LIVE, 10},
        {"drain", "drain", 0, 10},
        {"drain", "drain off", OPTION_OFF, 10},
        {"reload", "reload", 0, 60},
};

static const char *option_name(int id)
{
	for (const struct option *o = long_options; o->name; o++)
		if (o->val == id)
			return o->name;
	return "?";
}

static int usage_error(void)
{
	(void)fputs("Try 'portctl --help'.\n", stderr);
	return EXIT_USAGE;
}

static int print(const char *text, size_t len)
{
	int r = output_write_standard(text, len);

	if (r == 0)
		return EXIT_DONE;
	errno = -r;
	(void)fprintf(stderr, "portctl: cannot write to standard output: %m\n");
	return EXIT_REFUSED;
}

static int take_variant(struct request *request, int id)
{
	if (request->variant && request->variant != id) {
		(void)fprintf(stderr, "portctl: --%s and --%s exclude each other\n",
		        option_name(request->variant), option_name(id));
		return usage_error();
	}
	request->variant = id;
	return -1;
}

static int take_word(struct request *request, const char *word)
{
	if (request->command) {
		(void)fprintf(stderr,
		        "portctl: '%s' is one argument too many after '%s'\n", word,
		        request->command);
		return usage_error();
	}
	request->command = word;
	return -1;
}

/* Takes one option. Returns -1 to go on, else the exit code. */
static int take_option(struct request *request, int id)
{
	switch (id) {
	case 's':
		request->socket = optarg;
		return -1;
	case 'i':
		request->instance = optarg;
		return -1;
	case 1:
		return take_word(request, optarg);
	case OPTION_HELP:
		return print(usage_help, strlen(usage_help));
	case OPTION_VERSION:
		return print(usage_version, strlen(usage_version));
	case OPTION_OUTPUT:
		request->output = optarg;
		return -1;
	case OPTION_JSON:
	case OPTION_PROMETHEUS:
	case OPTION_OPENMETRICS:
	case OPTION_LIVE:
	case OPTION_OFF:
		return take_variant(request, id);
	default:
		return usage_error();
	}
}

/* Reads the command line. Returns -1 to go on, else the exit code. */
static int read_arguments(int argc, char **argv, struct request *request)
{
	int code = -1;

	while (code < 0) {
		/* The '-': words come in their place, whatever POSIXLY_CORRECT says. */
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): portctl has one thread. */
		int id = getopt_long(argc, argv, "-s:i:", long_options, NULL);

		if (id == -1)
			break;
		code = take_option(request, id);
	}
	while (code < 0 && optind < argc)
		code = take_word(request, argv[optind++]);
	if (code >= 0)
		return code;
	if (!request->command) {
		(void)fputs("portctl: no command\n", stderr);
		return usage_error();
	}
	return -1;
}

static int unknown_command(const char *command)
{
	const char *near = usage_suggest(command);

	(void)fprintf(stderr, "portctl: unknown command '%s'", command);
	if (near)
		(void)fprintf(stderr, "; did you mean '%s'?", near);
	(void)putc('\n', stderr);
	return usage_error();
}

/* Finds the row of requests[]. Returns -1 and *ret_row, else the exit code. */
static int find_request(const struct request *request, size_t *ret_row)
{
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (strcmp(requests[i].command, request->command) != 0)
			continue;
		known = true;
		if (requests[i].variant != request->variant)
			continue;
		if (request->output && strcmp(request->command, "stats") != 0)
			break;
		if (request->output && !*request->output) {
			(void)fputs(
			        "portctl: --output needs the name of a file\n", stderr);
			return usage_error();
		}
		*ret_row = i;
		return -1;
	}
	if (!known)
		return unknown_command(request->command);
	(void)fprintf(stderr, "portctl: --%s does not go with '%s'\n",
	        option_name(request->output && !request->variant ? OPTION_OUTPUT
	                                                         : request->variant),
	        request->command);
	return usage_error();
}

/* Which socket. Returns -1 and fills path, else the exit code. */
static int find_socket(const struct request *request, char path[static CLIENT_PATH_MAX])
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): portctl has one thread. */
	const char *environment = getenv("PORTD_SOCKET");
	int len;

	if (request->instance &&
	        (!*request->instance || strchr(request->instance, '/'))) {
		(void)fprintf(stderr, "portctl: '%s' is no name of an instance\n",
		        request->instance);
		return usage_error();
	}
	if (request->socket)
		len = snprintf(path, CLIENT_PATH_MAX, "%s", request->socket);
	else if (request->instance)
		len = snprintf(path, CLIENT_PATH_MAX, "/run/portd-%s/control.sock",
		        request->instance);
	else if (environment && *environment)
		len = snprintf(path, CLIENT_PATH_MAX, "%s", environment);
	else
		len = snprintf(path, CLIENT_PATH_MAX, "/run/portd/control.sock");
	if (len > 0 && len < CLIENT_PATH_MAX)
		return -1;
	(void)fprintf(stderr,
	        "portctl: the path of a socket has 1 to %d bytes, this one has %d\n",
	        CLIENT_PATH_MAX - 1, len);
	return usage_error();
}

/* The socket is there, but not for us: tell whose it is. */
static void explain_permission(const char *path)
{
	char text[4096], parent[CLIENT_PATH_MAX];
	struct group group, *found = NULL;
	struct stat st;
	const char *what = path;

	if (stat(path, &st) < 0) {
		/* Then it is the directory that keeps us out. */
		(void)snprintf(parent, sizeof(parent), "%s", path);
		char *slash = strrchr(parent, '/');
		if (slash)
			*slash = '\0';
		what = parent;
		if (!slash || stat(parent, &st) < 0) {
			(void)fputs(
			        "; a directory on the way is closed to you\n", stderr);
			return;
		}
	}
	if (getgrgid_r(st.st_gid, &group, text, sizeof(text), &found) == 0 && found)
		(void)fprintf(stderr,
		        "; %s is for group %s (mode %04o): become a member, or be root\n",
		        what, found->gr_name, (unsigned)st.st_mode & 07777U);
	else
		(void)fprintf(stderr,
		        "; %s is for group %u (mode %04o): become a member, or be root\n",
		        what, (unsigned)st.st_gid, (unsigned)st.st_mode & 07777U);
}

/* One line for why there is no answer. outcome is that of client_ask, err its errno. */
static int no_answer(const char *path, int outcome, int err, unsigned timeout_s)
{
	errno = outcome < 0 ? -outcome : err;
	switch (outcome) {
	case CLIENT_NOBODY:
		if (err == EACCES || err == EPERM) {
			(void)fprintf(stderr, "portctl: may not open %s: %m", path);
			explain_permission(path);
			break;
		}
		(void)fprintf(stderr,
		        "portctl: no portd answers at %s: %m; is it running? (systemctl "
		        "status "
		        "portd; for another socket: -s, -i or $PORTD_SOCKET)\n",
		        path);
		break;
	case CLIENT_TIMEOUT:
		(void)fprintf(stderr, "portctl: no answer from %s within %u s\n", path,
		        timeout_s);
		break;
	case CLIENT_EMPTY:
		(void)fprintf(stderr, "portctl: %s was closed without an answer\n", path);
		break;
	case CLIENT_CUT:
		(void)fprintf(
		        stderr, "portctl: the answer from %s was cut short\n", path);
		break;
	case CLIENT_HUGE:
		(void)fprintf(stderr,
		        "portctl: the answer from %s is longer than any of portd's (%u "
		        "MiB)\n",
		        path, CLIENT_ANSWER_MAX >> 20);
		break;
	default:
		(void)fprintf(stderr, "portctl: cannot ask %s: %m\n", path);
		break;
	}
	return EXIT_NO_ANSWER;
}

/* health: the state's word is the answer, and the exit code says whether it is `open`. */
static int judge_health(const char *path, bool live, const struct client_answer *answer)
{
	static const char *const states[] = {
	        "open\n", "shedding\n", "full\n", "draining\n"};
	const char *good = live ? "live\n" : states[0];
	bool known = strcmp(answer->bytes, good) == 0;

	for (size_t i = 0; i < ARRAY_SIZE(states) && !live; i++)
		known = known || strcmp(answer->bytes, states[i]) == 0;
	if (!known || strlen(answer->bytes) != answer->len) {
		(void)fprintf(stderr, "portctl: what answers at %s is no portd\n", path);
		return EXIT_NO_ANSWER;
	}

	int printed = print(answer->bytes, answer->len);

	return strcmp(answer->bytes, good) == 0 ? printed : EXIT_REFUSED;
}

static int judge(const char *path, const struct request *request,
        const struct client_answer *answer)
{
	static const char error[] = "error:";

	if (strncmp(answer->bytes, error, strlen(error)) == 0) {
		(void)fputs("portctl: ", stderr);
		(void)fwrite(answer->bytes, 1, answer->len, stderr);
		return EXIT_REFUSED;
	}
	if (strcmp(request->command, "health") == 0)
		return judge_health(path, request->variant == OPTION_LIVE, answer);
	if (!request->output)
		return print(answer->bytes, answer->len);

	int r = output_write_file(request->output, answer->bytes, answer->len);
	if (r == 0)
		return EXIT_DONE;
	errno = -r;
	if (r == -EINVAL)
		(void)fprintf(stderr,
		        "portctl: %s is not a regular file, and is left alone\n",
		        request->output);
	else
		(void)fprintf(stderr, "portctl: cannot write %s: %m\n", request->output);
	return EXIT_REFUSED;
}

int main(int argc, char **argv)
{
	struct request request = {0};
	OWN_ANSWER struct client_answer answer = {0};
	char path[CLIENT_PATH_MAX];
	size_t row = 0;

	if (output_guard_standard() < 0)
		return EXIT_REFUSED;
	(void)signal(SIGPIPE, SIG_IGN);

	int code = read_arguments(argc, argv, &request);
	if (code < 0)
		code = find_request(&request, &row);
	if (code < 0)
		code = find_socket(&request, path);
	if (code >= 0)
		return code;

	int r = client_ask(
	        path, requests[row].text, requests[row].timeout_s * CLOCK_SEC, &answer);
	if (r)
		return no_answer(path, r, errno, requests[row].timeout_s);
	return judge(path, &request, &answer);
}
