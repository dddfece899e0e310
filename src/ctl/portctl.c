/*
 * portctl.c - the client: one command, one request to portd's control socket, one
 * verdict.
 *
 * Invariants: data goes to standard output, words go to stderr; every failure leaves one
 * reason there and an exit code of portctl(1). A command is a row of commands[].
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/getopt_exact.h"
#include "base/own.h"
#include "base/parse.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/conns.h"
#include "ctl/output.h"
#include "ctl/usage.h"
#include "net/addr.h"
#include "net/prefix.h"

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
	OPTION_OFF,
	OPTION_FOLLOW,
	OPTION_UTC,
	OPTION_SOURCE,
	OPTION_SORT,
	OPTION_LIMIT
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
        {"follow", no_argument, NULL, OPTION_FOLLOW},
        {"utc", no_argument, NULL, OPTION_UTC},
        {"source", required_argument, NULL, OPTION_SOURCE},
        {"sort", required_argument, NULL, OPTION_SORT},
        {"limit", required_argument, NULL, OPTION_LIMIT},
        {0},
};

/* Longest request, with the address or network that it may end with. */
#define REQUEST_MAX (16 + ADDR_HOST_MAX + PREFIX_TEXT_MAX)

/* What was typed. variant: the option that changes the command's request, as an
 * option_id; 0: none. */
struct request {
	const char *socket;
	const char *instance;
	const char *command;
	const char *operand; /* what stands behind the command; NULL: nothing */
	const char *output;
	const char *source, *sort, *limit;
	int variant;
	bool follow, utc;
};

/* What goes with a command. */
enum command_takes {
	TAKES_FILE = 1, /* --output */
	TAKES_OPERAND =
	        2, /* needs a word behind it, which goes to portd behind the request */
	TAKES_UTC = 4,    /* --utc */
	FOLLOWS = 8,      /* the row is that of --follow */
	TAKES_CHOICE = 16 /* --source, --sort, --limit */
};

static const struct command {
	const char *name;
	int variant;
	unsigned takes; /* enum command_takes, or'ed */
	const char *request;
	unsigned timeout_s;
	command_fn *run;
} commands[] = {
        {"stats", 0, TAKES_FILE, "stats text", 10, commands_print},
        {"stats", OPTION_JSON, TAKES_FILE, "stats json", 10, commands_print},
        {"stats", OPTION_PROMETHEUS, TAKES_FILE, "stats prometheus", 10, commands_print},
        {"stats", OPTION_OPENMETRICS, TAKES_FILE, "stats openmetrics", 10,
                commands_print},
        {"health", 0, 0, "health", 10, commands_health},
        {"health", OPTION_LIVE, 0, "health live", 10, commands_health_live},
        {"limits", 0, 0, "limits", 10, commands_limits},
        {"limits", OPTION_JSON, 0, "limits", 10, commands_limits_json},
        {"events", 0, TAKES_UTC, "events", 10, commands_print_times},
        {"events", 0, TAKES_UTC | FOLLOWS, "events", 10, commands_follow},
        {"events", OPTION_JSON, TAKES_UTC, "events json", 10, commands_print},
        {"events", OPTION_JSON, TAKES_UTC | FOLLOWS, "events json", 10, commands_follow},
        {"explain", 0, TAKES_UTC | TAKES_OPERAND, "explain", 10, commands_print_times},
        {"explain", OPTION_JSON, TAKES_UTC | TAKES_OPERAND, "explain json", 10,
                commands_print},
        {"conns", 0, TAKES_CHOICE, "conns", 10, commands_conns},
        {"conns", OPTION_JSON, TAKES_CHOICE, "conns", 10, commands_conns_json},
        {"drain", 0, 0, "drain", 10, commands_print},
        {"drain", OPTION_OFF, 0, "drain off", 10, commands_print},
        {"reload", 0, 0, "reload", 60, commands_print},
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
	if (request->command && !request->operand &&
	        strcmp(request->command, "explain") == 0) {
		request->operand = word;
		return -1;
	}
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
		return commands_say(usage_help);
	case OPTION_VERSION:
		return commands_say(usage_version);
	case OPTION_OUTPUT:
		request->output = optarg;
		return -1;
	case OPTION_JSON:
	case OPTION_PROMETHEUS:
	case OPTION_OPENMETRICS:
	case OPTION_LIVE:
	case OPTION_OFF:
		return take_variant(request, id);
	case OPTION_FOLLOW:
		request->follow = true;
		return -1;
	case OPTION_UTC:
		request->utc = true;
		return -1;
	case OPTION_SOURCE:
		request->source = optarg;
		return -1;
	case OPTION_SORT:
		request->sort = optarg;
		return -1;
	case OPTION_LIMIT:
		request->limit = optarg;
		return -1;
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
		int id = getopt_exact(argc, argv, "-s:i:", long_options);

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

/* Bytes of a wrong operand that are shown. */
#define OPERAND_SEEN_MAX 64U

/* An address goes to portd as it was understood. Returns -1 and writes it, else the exit code. */
static int read_operand(const char *operand, char ret[static ADDR_HOST_MAX])
{
	struct addr_named address;

	if (operand && addr_parse_host_named(operand, &address) == 0) {
		(void)addr_format_host_named(&address, ret);
		return -1;
	}
	if (!operand) {
		(void)fputs("portctl: explain needs an IP address, such as 203.0.113.7\n",
		        stderr);
		return usage_error();
	}
	size_t len = strlen(operand);
	char seen[4 * OPERAND_SEEN_MAX + 1];

	(void)parse_format_escapes((const uint8_t *)operand,
	        len < OPERAND_SEEN_MAX ? len : OPERAND_SEEN_MAX, seen, sizeof(seen));
	(void)fprintf(stderr,
	        "portctl: explain: '%s%s' is no IP address; allowed: ", seen,
	        len > OPERAND_SEEN_MAX ? "..." : "");
	(void)fputs("one alone, such as 203.0.113.7 or 2001:db8::7, without a port, a "
	            "length or a name\n",
	        stderr);
	return usage_error();
}

static void tell_no_network(const char *what, void *arg)
{
	(void)arg;
	(void)fprintf(stderr, "portctl: --source: %s\n", what);
}

/* What `conns` may choose by, read. */
struct choice {
	char from
	        [PREFIX_TEXT_MAX]; /* one network or address, as it was understood; "": all */
	uint64_t limit;
	int (*sort)(const void *a, const void *b);
};

/* Returns -1, else the exit code. */
static int read_source(const char *text, char ret[static PREFIX_TEXT_MAX])
{
	struct prefix_set *set = NULL;
	int r = prefix_set_parse(text, &set, tell_no_network, NULL);
	size_t n = prefix_set_count(set);

	if (r == 0)
		(void)prefix_set_format(set, ret, PREFIX_TEXT_MAX);
	set = prefix_set_free(set);
	if (r == 0 && n == 1)
		return -1;
	if (r == 0)
		(void)fputs("portctl: --source takes one network or address\n", stderr);
	return usage_error();
}

/* As read_source. */
static int read_choice(const struct request *request, struct choice *ret)
{
	int code = -1;

	if (request->source)
		code = read_source(request->source, ret->from);
	if (code >= 0)
		return code;
	if (conns_parse_sort(request->sort, &ret->sort) < 0) {
		(void)fprintf(stderr, "portctl: --sort takes one of: %s\n", conns_sorts);
		return usage_error();
	}
	if (request->limit && parse_uint(request->limit, &ret->limit) < 0) {
		(void)fputs(
		        "portctl: --limit takes a number of connections; 0: no limit\n",
		        stderr);
		return usage_error();
	}
	return -1;
}

/* The option of `conns` that was given, or 0. */
static int chosen(const struct request *request)
{
	if (request->source)
		return OPTION_SOURCE;
	if (request->sort)
		return OPTION_SORT;
	return request->limit ? OPTION_LIMIT : 0;
}

/* Finds the row of commands[]. Returns -1 and *ret, else the exit code. */
static int find_command(const struct request *request, const struct command **ret)
{
	bool known = false;
	int misfit =
	        request->variant; /* the option that goes with no row of the command */

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		unsigned takes = commands[i].takes;
		if (strcmp(commands[i].name, request->command) != 0)
			continue;
		known = true;
		if (commands[i].variant != request->variant)
			continue;
		if (request->follow != ((takes & FOLLOWS) != 0)) {
			misfit = request->follow ? OPTION_FOLLOW : misfit;
		} else if (request->utc && !(takes & TAKES_UTC)) {
			misfit = OPTION_UTC;
		} else if (request->output && !(takes & TAKES_FILE)) {
			misfit = OPTION_OUTPUT;
		} else if (chosen(request) && !(takes & TAKES_CHOICE)) {
			misfit = chosen(request);
		} else {
			*ret = &commands[i];
			return -1;
		}
	}
	if (!known)
		return unknown_command(request->command);
	(void)fprintf(stderr, "portctl: --%s does not go with '%s'\n",
	        option_name(misfit), request->command);
	return usage_error();
}

/* A file to write to has a name. Returns -1, else the exit code. */
static int check_output(const struct request *request)
{
	if (!request->output || *request->output)
		return -1;
	(void)fputs("portctl: --output needs the name of a file\n", stderr);
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

int main(int argc, char **argv)
{
	struct request request = {0};
	const struct command *command = NULL;
	char path[CLIENT_PATH_MAX], address[ADDR_HOST_MAX] = "";
	struct choice choice = {0};

	if (output_guard_standard() < 0)
		return EXIT_REFUSED;
	(void)signal(SIGPIPE, SIG_IGN);

	int code = read_arguments(argc, argv, &request);
	if (code < 0)
		code = find_command(&request, &command);
	if (code < 0)
		code = check_output(&request);
	bool operand = command && (command->takes & TAKES_OPERAND);
	if (code < 0 && operand)
		code = read_operand(request.operand, address);
	if (code < 0)
		code = read_choice(&request, &choice);
	if (code < 0)
		code = find_socket(&request, path);
	if (code >= 0 || !command)
		return code;

	char text[REQUEST_MAX];
	const char *more = operand ? address : choice.from;
	(void)snprintf(
	        text, sizeof(text), "%s%s%s", command->request, *more ? " " : "", more);

	const struct command_call call = {.path = path,
	        .request = text,
	        .timeout_s = command->timeout_s,
	        .output = request.output,
	        .utc = request.utc || request.variant == OPTION_JSON,
	        .from = *choice.from ? choice.from : NULL,
	        .limit = request.limit ? &choice.limit : NULL,
	        .sort = choice.sort};
	return command->run(&call);
}
