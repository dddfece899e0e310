/*
 * commands.h - what portctl's commands do with portd's answer.
 */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl/client.h"

/* portctl's exit codes, as portctl(1) has them. */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,
	EXIT_NO_ANSWER = 2,
	EXIT_USAGE = 64
};

/* One command as it was typed, all texts the caller's. */
struct command_call {
	const char *path;    /* of the socket, shorter than CLIENT_PATH_MAX */
	const char *request; /* what portd is asked */
	unsigned timeout_s;
	const char *output; /* the file to write the answer to; NULL: standard output */
	bool utc;           /* times as portd says them, in UTC, else in local time */
	const char *from;   /* conns: --source, in the request already; NULL: all */
	const uint64_t *limit;                     /* --limit; 0: none. NULL: not given */
	int (*sort)(const void *a, const void *b); /* --sort: conns.h */
};

/* Each runs one command to its end: data on standard output or in `output`, every failure one
 * reason on stderr. Returns the exit code. */
typedef int command_fn(const struct command_call *call);

/* Asks, and prints the answer as it is. */
command_fn commands_print;
/* Asks, and judges by the word that comes. */
command_fn commands_health;
command_fn commands_health_live;
/* Asks, and prints the answer with its times as `utc` says. */
command_fn commands_print_times;
/* Asks again and again, and prints what has come since; a signal ends it. */
command_fn commands_follow;
/* Asks portd if there is one, and the machine in any case. */
command_fn commands_limits;
command_fn commands_limits_json;
/* Asks, and prints the open connections in the order of `sort`. */
command_fn commands_conns;
command_fn commands_conns_json;

/* Asks. Returns EXIT_DONE with an answer that is no refusal, else the exit code, after saying why. */
int commands_ask(const struct command_call *call, struct client_answer *ret);
/* Says why portd, or whatever answers in its place, refuses: what could play tricks with a terminal comes
 * out as \xNN. Returns the exit code. */
int commands_refused(const char *text, size_t len);
/* Says that what answers is no portd. Returns the exit code. */
int commands_no_portd(const char *path);
/* Prints these bytes on standard output. Returns the exit code. */
int commands_put(const char *bytes, size_t len);
/* Prints text of ours on standard output. Returns the exit code. */
int commands_say(const char *text);

#endif
