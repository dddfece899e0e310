/*
 * config.h - what the user asked: /etc/portd.conf, its drop-ins and -o, as one struct.
 *
 * config.def is the table of keys; it drives parsing, printing (-T), the comparison on reload and
 * the check of portd.conf(5). A struct config is immutable once loaded; a reload makes a new one.
 * Main thread only, but for reading a loaded one.
 *
 * Reads next: limits.h.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "net/addr.h"

#define CONFIG_DEFAULT_FILE   "/etc/portd.conf"
#define CONFIG_DEFAULT_SOCKET "/run/portd/control.sock"
#define CONFIG_MESSAGE_MAX    512
#define CONFIG_NAME_MAX       32
/* Longest path of a unix socket, with its NUL: sizeof(sun_path), unix(7). */
#define CONFIG_SOCKET_MAX 108
/* "auto" in the numeric keys that take it. 0 is never a legal value of those. */
#define CONFIG_AUTO UINT64_C(0)

enum config_fd_table {
	CONFIG_FD_TABLE_SHARED,
	CONFIG_FD_TABLE_PRIVATE
};
enum config_answer {
	CONFIG_ANSWER_RESET,
	CONFIG_ANSWER_CLOSE,
	CONFIG_ANSWER_MESSAGE
};

struct config {
	/* [listener] */
	struct addr address;
	uint64_t backlog; /* 1 to INT_MAX */
	/* [workers] */
	uint64_t workers; /* CONFIG_AUTO or 1 to 1024 */
	enum config_fd_table fd_table;
	/* [budget] */
	uint64_t fds;             /* CONFIG_AUTO or a number of descriptors */
	uint64_t max_connections; /* CONFIG_AUTO or a number of slots */
	/* [shed] */
	uint64_t queue_timeout; /* ns; CLOCK_INFINITY: never */
	enum config_answer answer;
	struct {
		uint8_t bytes[CONFIG_MESSAGE_MAX];
		size_t len;
	} message;
	uint64_t low_watermark; /* percent, 0 to 100 */
	/* [timeouts], ns */
	uint64_t first_byte; /* 0: none */
	uint64_t idle;       /* 0: none */
	uint64_t keepalive;  /* 0: off */
	uint64_t drain;      /* 0: at once; CLOCK_INFINITY: no deadline */
	/* [service] */
	char service[CONFIG_NAME_MAX];
	/* [control] */
	char control_socket[CONFIG_SOCKET_MAX];
	unsigned control_mode;
	char control_group[CONFIG_NAME_MAX]; /* "" : portd's own */
	/* [log] */
	enum log_level log_level;
};

/* Where a configuration comes from. Nothing is owned; it must outlive the call. */
struct config_source {
	const char *file; /* NULL: CONFIG_DEFAULT_FILE if it exists, else defaults */
	const char *const *overrides; /* -o SECTION.KEY=VALUE, in order */
	size_t n_overrides;
	const char *const
	        *services; /* names that [service] type may have, NULL at the end */
};

/* Loads defaults, then FILE, then FILE.d/ *.conf in name order (strcmp), then the overrides.
 * Every mistake is written to `errors` as one line, «FILE:LINE: [section] key: what was seen;
 * what is allowed», for an override «-o SECTION.KEY=VALUE: …»; all of them, not only the first.
 * Client-supplied or binary bytes in what was seen are escaped as \xNN.
 * A named file that is missing, unreadable, a directory, a socket or a block device is a
 * mistake; a pipe, /dev/stdin and /dev/null are read. Missing drop-in directory: fine; its
 * files count without FILE too.
 * Returns 0; 1 if there was at least one mistake (*ret is then not to be used); -ENOMEM. */
int config_load(const struct config_source *source, struct config *ret, FILE *errors);

/* Writes the configuration as a file that config_load reads back as the same struct. */
void config_print(const struct config *config, FILE *out);

/* Writes the defaults as etc/portd.conf has them: a comment with each key's help, then
 * «#key = default». */
void config_print_template(FILE *out);

/* Calls changed(key, arg) as «section.key» for each key that differs between a and b and is
 * not live; copies those of a into b, so that b says what is in force. Returns their number. */
unsigned config_keep_fixed(const struct config *a, struct config *b,
        void (*changed)(const char *key, void *arg), void *arg);

#endif
