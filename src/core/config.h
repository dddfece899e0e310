/*
 * config.h - what the user asked: /etc/portd.conf, its drop-ins and -o, as one struct.
 *
 * config.def is the table of keys; it drives parsing, printing (-T), the comparison on reload and
 * the check of portd.conf(5). A struct config is immutable once loaded; a reload makes a new one.
 * Main thread only, but for reading a loaded one.
 */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/addr.h"
#include "net/prefix.h"

#define CONFIG_DEFAULT_FILE   "/etc/portd.conf"
#define CONFIG_DEFAULT_SOCKET "/run/portd/control.sock"
#define CONFIG_MESSAGE_MAX    512
#define CONFIG_NAME_MAX       32
/* Longest path of a unix socket, with its NUL: sizeof(sun_path), unix(7). */
#define CONFIG_SOCKET_MAX 108
/* A place in words, and «PLACE: [section] key», with their NUL. */
#define CONFIG_PLACE_MAX 1024
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

/* Indices are named after the field of struct config. */
enum config_key_index {
#define X(section, name, field, ...) CONFIG_KEY_##field,
#include "core/config.def"
#undef X
	CONFIG_KEY_COUNT
};

/* Which files a configuration was read from. */
struct config_found {
	bool file; /* FILE itself */
	bool directory;
	dev_t dev; /* of the directory, to know it again */
	ino_t ino;
	unsigned drop_ins; /* in it */
};

/* Where something was said. */
struct config_place {
	const char *name; /* a path, or "-o" */
	unsigned line;    /* from 1; 0: the file as a whole; for "-o" unused */
	/* The whole override, when name is "-o". */
	const char *override;
};

struct config {
	/* [listener] */
	struct addr_named address;
	uint64_t backlog; /* 1 to INT_MAX */
	/* [workers] */
	uint64_t workers; /* CONFIG_AUTO or 1 to 1024 */
	enum config_fd_table fd_table;
	/* [budget] */
	uint64_t fds;             /* CONFIG_AUTO or a number of descriptors */
	uint64_t max_connections; /* CONFIG_AUTO or a number of slots */
	uint64_t priority;        /* further slots, for source_priority */
	uint64_t rate, burst;     /* connections a second, at once; 0: no limit, rate */
	/* [shed] */
	uint64_t queue_timeout; /* ns; CLOCK_INFINITY: never */
	enum config_answer answer;
	struct {
		uint8_t bytes[CONFIG_MESSAGE_MAX];
		size_t len;
	} message;
	uint64_t evict_idle;    /* ns; CLOCK_INFINITY: never */
	uint64_t start_at;      /* percent, 0 to 100 */
	uint64_t low_watermark; /* percent, 0 to 100 */
	unsigned gate;          /* 0 or 1 */
	uint64_t gate_after;    /* ns; CLOCK_INFINITY: never */
	unsigned dry_run;       /* 0 or 1 */
	/* [source] */
	uint64_t source_max_connections, source_rate, source_burst;      /* 0: no limit */
	uint64_t prefix4, prefix6;                                       /* bits */
	struct prefix_set *source_allow, *source_deny, *source_priority; /* NULL: empty */
	/* [timeouts], ns */
	uint64_t first_byte; /* 0: none */
	uint64_t idle;       /* 0: none */
	uint64_t lifetime;   /* 0: none */
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

	/* Where each key was set last; name is NULL where it is at its default. The texts
	 * live as long as the process. No part of what is printed or compared. */
	struct config_place origin[CONFIG_KEY_COUNT];
	/* As origin no part of what is printed or compared. */
	struct config_found found;
};

/* How many mistakes are named, one line each, for a log or an answer; and with portd -t. */
#define CONFIG_NAMED       20U
#define CONFIG_NAMED_CHECK 1000U
/* What all files together may take to be read, ns: at start, and while portd serves. */
#define CONFIG_PATIENCE        (5 * CLOCK_SEC)
#define CONFIG_PATIENCE_RELOAD (2 * CLOCK_SEC)

/* Where a configuration comes from. Nothing is owned; it must outlive the call. */
struct config_source {
	const char *file; /* NULL: CONFIG_DEFAULT_FILE if it exists, else defaults */
	const char *const *overrides; /* -o SECTION.KEY=VALUE, in order */
	size_t n_overrides;
	const char *const
	        *services; /* names that [service] type may have, NULL at the end */
	unsigned named; /* so many mistakes are named, the rest is counted; 0: all are */
	uint64_t patience; /* what all files together may take, ns; 0: CONFIG_PATIENCE */
	/* What the configuration in force was read from, NULL: none is yet. It is not replaced by one
	 * whose files have vanished. */
	const struct config_found *before;
};

/* Loads defaults, then FILE, then FILE.d/ *.conf in name order (strcmp), then the overrides.
 * Every mistake is written to `errors` as one line, «FILE:LINE: [section] key: what was seen;
 * what is allowed», for an override «-o SECTION.KEY=VALUE: …»; all of them, not only the first, up
 * to source->named, and then a line that says how many more there are.
 * Client-supplied or binary bytes in what was seen are escaped as \xNN.
 * A named file that is missing, unreadable, a directory, a socket or a block device is a
 * mistake; /dev/stdin and /dev/null are read, and so is a pipe that has something in it: one
 * that was read to its end at start has nothing for a reload. A drop-in may be no pipe. Missing
 * drop-in directory: fine; its files count without FILE too. A name that is there and leads nowhere
 * (a dangling link) is not missing, but a mistake.
 * A stop signal that is blocked and pending ends the wait for a slow file.
 * Returns 0; how many mistakes there were (*ret is then not to be used); -ENOMEM. */
int config_load(const struct config_source *source, struct config *ret, FILE *errors);

/* Writes a line for each key that is right, but has less of an effect than it seems, beside another:
 * «PLACE: [section] key: …». */
void config_warn(const struct config *config, FILE *warnings);

/* A second holder of the same configuration; both release it. Main thread only. */
void config_share(const struct config *config, struct config *ret);
/* Gives back what config_load or config_share has filled. The empty struct is fine. */
void config_release(struct config *config);

/* "FILE:LINE", "FILE" or "-o SECTION.KEY=VALUE", control bytes escaped, cut to size. */
char *config_place_format(const struct config_place *place, char *buf, size_t size);

/* «PLACE: [section] key», what a mistake of this key begins with, for those that only show
 * once all is loaded; «[section] key» where it is at its default. Returns buf. */
char *config_format_key(const struct config *config, enum config_key_index key,
        char buf[static CONFIG_PLACE_MAX]);

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
