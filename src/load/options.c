/*
 * options.c - see options.h.
 *
 * Invariants: every mistake is told on stderr in one line that names the option; what
 * options_read has returned -1 for is whole and within its ranges.
 */
#include "load/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/getopt_exact.h"
#include "base/near.h"
#include "base/own.h"
#include "base/parse.h"
#include "load/target.h"
#include "load/usage.h"

#define DEFAULT_TARGET  "127.0.0.1:7777"
#define DEFAULT_PAYLOAD "ping"
#define CONNECTIONS_MAX UINT64_C(100000000)
#define RATE_MAX        UINT64_C(100000000)
/* Longer runs than that are forgotten ones. */
#define TIME_MAX (30 * 24 * 3600 * CLOCK_SEC)

enum option_id {
	OPTION_HELP = 256,
	OPTION_VERSION,
	OPTION_CONNECTIONS,
	OPTION_RATE,
	OPTION_DURATION,
	OPTION_COUNT,
	OPTION_SOURCES,
	OPTION_PAYLOAD,
	OPTION_MESSAGE,
	OPTION_TIMEOUT,
	OPTION_SETTLE,
	OPTION_SAMPLE,
	OPTION_PROCESSES,
	OPTION_JSON,
	OPTION_OWN_HOST
};

static const struct option long_options[] = {
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"connections", required_argument, NULL, OPTION_CONNECTIONS},
        {"rate", required_argument, NULL, OPTION_RATE},
        {"duration", required_argument, NULL, OPTION_DURATION},
        {"count", required_argument, NULL, OPTION_COUNT},
        {"sources", required_argument, NULL, OPTION_SOURCES},
        {"payload", required_argument, NULL, OPTION_PAYLOAD},
        {"expect-message", required_argument, NULL, OPTION_MESSAGE},
        {"timeout", required_argument, NULL, OPTION_TIMEOUT},
        {"settle", required_argument, NULL, OPTION_SETTLE},
        {"sample", required_argument, NULL, OPTION_SAMPLE},
        {"processes", required_argument, NULL, OPTION_PROCESSES},
        {"json", no_argument, NULL, OPTION_JSON},
        {"i-own-this-host", no_argument, NULL, OPTION_OWN_HOST},
        {0},
};

#define ALL   0xfU
#define HOLD  (1U << COMMAND_HOLD)
#define CHURN (1U << COMMAND_CHURN)
#define FLOOD (1U << COMMAND_FLOOD)
#define RAMP  (1U << COMMAND_RAMP)

static const struct {
	const char *name;
	uint64_t connections, rate, duration;
	const char *payload;
} commands[] = {
        [COMMAND_HOLD] = {"hold", 1000, 0, CLOCK_INFINITY, "0"},
        [COMMAND_CHURN] = {"churn", 64, 0, 10 * CLOCK_SEC, DEFAULT_PAYLOAD},
        [COMMAND_FLOOD] = {"flood", 4000, 0, 10 * CLOCK_SEC, DEFAULT_PAYLOAD},
        [COMMAND_RAMP] = {"ramp", 4000, 1000, 2 * CLOCK_SEC, DEFAULT_PAYLOAD},
};

/* The words as they were typed; NULL: not at all. */
struct words {
	const char *command, *target;
	const char *of[OPTION_OWN_HOST + 1 - OPTION_HELP];
};

#define WORD(words, id) ((words)->of[(id)-OPTION_HELP])

const char *options_command_name(enum command command)
{
	return commands[command].name;
}

static const char *option_name(int id)
{
	for (const struct option *o = long_options; o->name; o++)
		if (o->val == id)
			return o->name;
	return "?";
}

static int usage_error(void)
{
	(void)fputs("Try 'portload --help'.\n", stderr);
	return EXIT_USAGE;
}

static int unknown_command(const char *command)
{
	struct near_word known[ARRAY_SIZE(commands)];

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		known[i] = (struct near_word){commands[i].name, commands[i].name};
	const char *near = near_suggest(command, known, ARRAY_SIZE(known));
	(void)fprintf(stderr, "portload: unknown command '%s'", command);
	if (near)
		(void)fprintf(stderr, "; did you mean '%s'?", near);
	(void)putc('\n', stderr);
	return usage_error();
}

/* An option whose value is none. */
static int mistake(const struct words *words, int id, const char *allowed)
{
	(void)fprintf(stderr, "portload: --%s %s: it takes %s\n", option_name(id),
	        WORD(words, id), allowed);
	return usage_error();
}

/* A number of an option that may be left out; *ret is its default. Returns -1 or the exit
 * code, as all that follow. */
static int take_number(const struct words *words, int id, uint64_t min, uint64_t max,
        const char *allowed, uint64_t *ret)
{
	uint64_t number;

	if (!WORD(words, id))
		return -1;
	if (parse_uint(WORD(words, id), &number) < 0 || number < min || number > max)
		return mistake(words, id, allowed);
	*ret = number;
	return -1;
}

static int take_time(const struct words *words, int id, uint64_t min, uint64_t *ret)
{
	uint64_t ns;

	if (!WORD(words, id))
		return -1;
	if (parse_duration(WORD(words, id), &ns) < 0 || ns < min ||
	        (ns > TIME_MAX && ns != CLOCK_INFINITY))
		return mistake(
		        words, id, "a time with its unit, such as 500ms, 10s or 5min");
	*ret = ns;
	return -1;
}

/* SIZE bytes of a pattern, or a text. */
static int take_payload(const struct words *words, struct options *o)
{
	const char *word = WORD(words, OPTION_PAYLOAD);
	const char *text = word ? word : commands[o->command].payload;
	uint64_t size;
	/* Escapes never grow. */
	size_t room = strlen(text);
	int r = parse_size(text, &size);

	if (r == 0)
		room = (size_t)(size < OPTIONS_PAYLOAD_MAX ? size : OPTIONS_PAYLOAD_MAX);
	o->payload = malloc(room + 1);
	if (!o->payload) {
		(void)fputs("portload: out of memory\n", stderr);
		return EXIT_NOTHING;
	}
	if (r == 0 && size <= OPTIONS_PAYLOAD_MAX) {
		for (size_t i = 0; i < room; i++)
			o->payload[i] = (uint8_t)('a' + i % 26);
		o->payload_len = room;
		return -1;
	}
	if (r != -EINVAL ||
	        parse_escapes(text, OPTIONS_PAYLOAD_MAX, o->payload, &o->payload_len) < 0)
		return mistake(words, OPTION_PAYLOAD,
		        "a size up to 1M, or a text with \\r \\n \\t \\\\ \\xNN");
	return -1;
}

static int take_message(const struct words *words, struct options *o)
{
	const char *word = WORD(words, OPTION_MESSAGE);

	if (word && (parse_escapes(
	                     word, sizeof(o->message), o->message, &o->message_len) < 0 ||
	                    o->message_len == 0))
		return mistake(words, OPTION_MESSAGE,
		        "1 to 512 bytes, with \\r \\n \\t \\\\ \\xNN");
	return -1;
}

static int take_target(const struct words *words, struct options *o)
{
	const char *text = words->target ? words->target : DEFAULT_TARGET, *why = NULL;
	int r = target_parse(text, &o->target, o->target_text, &why);

	if (r > 0) {
		(void)fprintf(stderr, "portload: %s: %s\n", text, why);
		return usage_error();
	}
	if (r < 0) {
		(void)fprintf(stderr,
		        "portload: '%s' is no target: it takes ADDRESS:PORT, "
		        "[ADDRESS]:PORT, [ADDRESS%%INTERFACE]:PORT or NAME:PORT\n",
		        text);
		return usage_error();
	}
	if (!target_is_loopback(&o->target) && !WORD(words, OPTION_OWN_HOST)) {
		(void)fprintf(stderr,
		        "portload: %s is not this machine's loopback, and load can take "
		        "down what "
		        "does not expect it; with --i-own-this-host you say that you "
		        "may\n",
		        o->target_text);
		return EXIT_USAGE;
	}
	return -1;
}

static int take_sources(const struct words *words, struct options *o)
{
	int r = target_sources(WORD(words, OPTION_SOURCES), &o->target, &o->sources);

	if (r == -EAFNOSUPPORT)
		return mistake(words, OPTION_SOURCES, "addresses of the target's family");
	if (r == -ENODEV)
		return mistake(words, OPTION_SOURCES, "an interface that is there");
	if (r == -EADDRNOTAVAIL)
		return mistake(words, OPTION_SOURCES,
		        "a CIDR here: ::1 is one address only, and beyond loopback only "
		        "you know "
		        "which are yours");
	if (r < 0)
		return mistake(words, OPTION_SOURCES,
		        "a number from 1 to 1000000, or a network such as 127.5.0.0/16");
	return -1;
}

/* Options that do nothing for a command are mistakes. */
static int check_command(const struct words *words, enum command command)
{
	static const struct {
		int id;
		unsigned commands;
	} only[] = {{OPTION_COUNT, CHURN | FLOOD}, {OPTION_SETTLE, HOLD},
	        {OPTION_SAMPLE, HOLD}};

	for (size_t i = 0; i < ARRAY_SIZE(only); i++)
		if (WORD(words, only[i].id) && !(only[i].commands & 1U << command)) {
			(void)fprintf(stderr, "portload: --%s does not go with '%s'\n",
			        option_name(only[i].id), commands[command].name);
			return usage_error();
		}
	return -1;
}

static int find_command(const struct words *words, enum command *ret)
{
	for (size_t i = 0; words->command && i < ARRAY_SIZE(commands); i++)
		if (strcmp(words->command, commands[i].name) == 0) {
			*ret = (enum command)i;
			return -1;
		}
	if (words->command)
		return unknown_command(words->command);
	(void)fputs("portload: no command\n", stderr);
	return usage_error();
}

static int take_figures(const struct words *words, struct options *o)
{
	enum command command = o->command;
	int code;

	o->rate = commands[command].rate;
	o->duration = commands[command].duration;
	o->timeout = 5 * CLOCK_SEC;
	o->settle = 2 * CLOCK_SEC;
	code = take_number(words, OPTION_RATE, command == COMMAND_RAMP, RATE_MAX,
	        "new connections a second, up to 100000000; ramp: at least 1", &o->rate);

	/* With a rate the server decides how many are open: room for those of a second. */
	o->connections = commands[command].connections;
	if (command == COMMAND_CHURN && o->rate > o->connections)
		o->connections = o->rate;
	if (code < 0)
		code = take_number(words, OPTION_CONNECTIONS, 1, CONNECTIONS_MAX,
		        "a number from 1 to 100000000", &o->connections);
	if (code < 0)
		code = take_number(words, OPTION_COUNT, 1, UINT64_MAX,
		        "a number from 1 on", &o->count);
	if (code < 0)
		code = take_number(words, OPTION_SAMPLE, 1, CONNECTIONS_MAX,
		        "a number from 1 to 100000000", &o->sample);
	if (code < 0)
		code = take_number(words, OPTION_PROCESSES, 1, 4096,
		        "a number from 1 to 4096", &o->processes);
	if (code < 0)
		code = take_time(words, OPTION_DURATION, CLOCK_MSEC, &o->duration);
	if (code < 0)
		code = take_time(words, OPTION_TIMEOUT, CLOCK_MSEC, &o->timeout);
	if (code < 0)
		code = take_time(words, OPTION_SETTLE, 0, &o->settle);
	return code;
}

/* From words to meanings. */
static int understand(const struct words *words, struct options *o)
{
	int code = find_command(words, &o->command);

	if (code < 0)
		code = check_command(words, o->command);
	if (code < 0)
		code = take_figures(words, o);
	if (code < 0)
		code = take_payload(words, o);
	if (code < 0)
		code = take_message(words, o);
	if (code < 0)
		code = take_target(words, o);
	if (code < 0)
		code = take_sources(words, o);
	if (code >= 0)
		return code;

	o->json = WORD(words, OPTION_JSON) != NULL;
	o->speaks = o->payload_len > 0;
	if (o->sample && o->payload_len == 0) {
		free(o->payload);
		o->payload = (uint8_t *)strdup(DEFAULT_PAYLOAD);
		o->payload_len = o->payload ? strlen(DEFAULT_PAYLOAD) : 0;
	}
	return -1;
}

static int take_word(struct words *words, const char *word)
{
	if (!words->command) {
		words->command = word;
	} else if (!words->target) {
		words->target = word;
	} else {
		(void)fprintf(stderr, "portload: '%s' is one argument too many\n", word);
		return usage_error();
	}
	return -1;
}

static int say(const char *text)
{
	return fputs(text, stdout) == EOF || fflush(stdout) == EOF ? EXIT_NOTHING
	                                                           : EXIT_DONE;
}

int options_read(int argc, char **argv, struct options *ret)
{
	struct words words = {0};
	int code = -1;

	*ret = (struct options){0};
	while (code < 0) {
		/* The '-': words come in their place, whatever POSIXLY_CORRECT says. */
		int id = getopt_exact(argc, argv, "-", long_options);

		if (id == -1)
			break;
		if (id == 1)
			code = take_word(&words, optarg);
		else if (id == OPTION_HELP)
			return say(usage_help);
		else if (id == OPTION_VERSION)
			return say(usage_version);
		else if (id < OPTION_HELP || id > OPTION_OWN_HOST)
			code = usage_error();
		else
			WORD(&words, id) = optarg ? optarg : "";
	}
	while (code < 0 && optind < argc)
		code = take_word(&words, argv[optind++]);
	if (code < 0)
		code = understand(&words, ret);
	return code;
}

void options_destroy(struct options *options)
{
	free(options->payload);
	options->payload = NULL;
	options->payload_len = 0;
}
