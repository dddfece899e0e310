/*
 * portctl.c - the client: one command, one request to portd's control socket, one
 * verdict.
 *
 * Invariants: data goes to standard output, words go to stderr; every failure leaves one
 * reason there and an exit code of portctl(1). A command is a row of commands[].
 *
 * Reads next: usage.c.
 */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/output.h"
#include "ctl/usage.h"

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

/* The longest text of an IPv6 address has 45 characters. */
#define OPERAND_MAX 64

/* What was typed. variant: the option that changes the command's request, as an
 * option_id; 0: none. */
struct request {
	const char *socket;
	const char *instance;
	const char *command;
	const char *operand; /* what stands behind the command; NULL: nothing */
	const char *output;
	int variant;
};

static const struct command {
	const char *name;
	int variant;
	bool to_file; /* --output goes with it */
	bool operand; /* needs a word behind it, which goes to portd behind the request */
	const char *request;
	unsigned timeout_s;
	command_fn *run;
} commands[] = {
        {"stats", 0, true, false, "stats text", 10, commands_print},
        {"stats", OPTION_JSON, true, false, "stats json", 10, commands_print},
        {"stats", OPTION_PROMETHEUS, true, false, "stats prometheus", 10, commands_print},
        {"stats", OPTION_OPENMETRICS, true, false, "stats openmetrics", 10,
                commands_print},
        {"health", 0, false, false, "health", 10, commands_health},
        {"health", OPTION_LIVE, false, false, "health live", 10, commands_health_live},
        {"limits", 0, false, false, "limits", 10, commands_limits},
        {"limits", OPTION_JSON, false, false, "limits", 10, commands_limits_json},
        {"explain", 0, false, true, "explain", 10, commands_print},
        {"drain", 0, false, false, "drain", 10, commands_print},
        {"drain", OPTION_OFF, false, false, "drain off", 10, commands_print},
        {"reload", 0, false, false, "reload", 60, commands_print},
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

/* An address goes to portd as it is typed; what cannot be one stays here. Returns -1 to go on, else
 * the exit code. */
static int judge_operand(const char *operand)
{
	if (!operand) {
		(void)fputs("portctl: explain needs an IP address\n", stderr);
		return usage_error();
	}
	size_t len = strlen(operand);
	if (len > 0 && len <= OPERAND_MAX &&
	        strspn(operand, "0123456789abcdefABCDEF.:") == len)
		return -1;
	(void)fputs("portctl: explain needs an IP address alone, such as 203.0.113.7 or "
	            "2001:db8::7\n",
	        stderr);
	return usage_error();
}

/* Finds the row of commands[]. Returns -1 and *ret, else the exit code. */
static int find_command(const struct request *request, const struct command **ret)
{
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, request->command) != 0)
			continue;
		known = true;
		if (commands[i].variant != request->variant)
			continue;
		if (request->output && !commands[i].to_file)
			break;
		if (request->output && !*request->output) {
			(void)fputs(
			        "portctl: --output needs the name of a file\n", stderr);
			return usage_error();
		}
		*ret = &commands[i];
		return commands[i].operand ? judge_operand(request->operand) : -1;
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

int main(int argc, char **argv)
{
	struct request request = {0};
	const struct command *command = NULL;
	char path[CLIENT_PATH_MAX];

	if (output_guard_standard() < 0)
		return EXIT_REFUSED;
	(void)signal(SIGPIPE, SIG_IGN);

	int code = read_arguments(argc, argv, &request);
	if (code < 0)
		code = find_command(&request, &command);
	if (code < 0)
		code = find_socket(&request, path);
	if (code >= 0)
		return code;

	char text[sizeof("explain ") + OPERAND_MAX];
	(void)snprintf(text, sizeof(text), "%s%s%s", command->request,
	        command->operand ? " " : "", command->operand ? request.operand : "");

	const struct command_call call = {.path = path,
	        .request = command->operand ? text : command->request,
	        .timeout_s = command->timeout_s,
	        .output = request.output};
	return command->run(&call);
}
