/*
 * options.h - what was asked on the command line, with every default filled in.
 */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/addr.h"

/* Exit codes, see portload(1). */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_NOTHING = 1,
	EXIT_USAGE = 64
};

enum command {
	COMMAND_HOLD,
	COMMAND_CHURN,
	COMMAND_FLOOD,
	COMMAND_RAMP
};

/* Of --payload and of --expect-message. */
#define OPTIONS_PAYLOAD_MAX (1024U * 1024U)
#define OPTIONS_MESSAGE_MAX 512U
#define OPTIONS_SOURCES_MAX UINT64_C(1000000)

/* Where connections come from: count addresses from base on. */
struct source_range {
	struct addr base; /* AF_UNSPEC: the kernel chooses, and count is 1 */
	uint64_t count;   /* 0: as many as are needed, up to limit */
	uint64_t limit;   /* how many there are from base on, at least 1 */
};

struct options {
	enum command command;
	struct addr target;
	char target_text[ADDR_TEXT_MAX]; /* as it is told */
	uint64_t connections;
	uint64_t rate;     /* a second; 0: as fast as possible */
	uint64_t duration; /* ns, or CLOCK_INFINITY */
	uint64_t count;    /* connections in all; 0: no limit */
	uint64_t timeout;  /* ns */
	uint64_t settle;   /* ns */
	uint64_t sample;
	uint64_t processes; /* 0: as many as are needed */
	struct source_range sources;
	uint8_t *payload; /* owned */
	size_t payload_len;
	bool speaks; /* says the payload as soon as it is connected; else only a sample does */
	uint8_t message[OPTIONS_MESSAGE_MAX];
	size_t message_len;
	bool json;
};

/* The command's word: hold, churn, flood, ramp. */
const char *options_command_name(enum command command);

/* Reads the command line; resolves a name, so it may wait. Mistakes are told on stderr,
 * --help and --version on stdout. Returns -1 to go on, else the exit code. What it has
 * filled in goes to options_destroy in either case. */
int options_read(int argc, char **argv, struct options *ret);
void options_destroy(struct options *options);

#endif
