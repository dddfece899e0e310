/*
 * limits.h - «portctl limits»: how many connections can this port hold, and what stops it?
 *
 * limits_portd reads what portd says, limits_machine what the machine says; limits_chain
 * and limits_advise are arithmetic only, so that they can be tested with any machine;
 * limits_text and limits_json render. limits_run ties them together.
 */
#ifndef CTL_LIMITS_H
#define CTL_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ctl/commands.h"
#include "ctl/limits_machine.h"
#include "net/addr.h"

#define LIMITS_WORD_MAX 32
/* portd's file where -c names none. */
#define LIMITS_CONFIG_DEFAULT "/etc/portd.conf"
#define LIMITS_TEXT_MAX       320
#define LIMITS_ROWS_MAX       24U
#define LIMITS_REASON_MAX     512

/* Keys that a remedy may name. */
enum limits_key {
	LIMITS_KEY_WORKERS,
	LIMITS_KEY_FD_TABLE,
	LIMITS_KEY_FDS,
	LIMITS_KEY_MAX_CONNECTIONS,
	LIMITS_KEY_PRIORITY,
	LIMITS_KEY_BACKLOG,
	LIMITS_KEY_COUNT
};

const char *limits_key_section(enum limits_key key);
const char *limits_key_name(enum limits_key key);

/* Where such a key is set; all empty: nowhere. */
struct limits_place {
	char file[LIMITS_TEXT_MAX];
	unsigned long line; /* of file, from 1 */
	char option
	        [LIMITS_TEXT_MAX]; /* "-o SECTION.KEY=VALUE" instead: wins over files */
};

/* What a running portd says about itself, or what one with the defaults would. Numbers that are
 * not known are LIMITS_NONE. */
struct limits_portd {
	bool running;
	char version[LIMITS_WORD_MAX];
	char state[LIMITS_WORD_MAX];
	char address[ADDR_TEXT_MAX];
	char service[LIMITS_WORD_MAX];
	char bound_by[LIMITS_WORD_MAX]; /* fds, memory, max_connections */
	char config[LIMITS_TEXT_MAX];   /* its configuration file */
	struct limits_place place[LIMITS_KEY_COUNT];
	uint64_t pid;    /* as portd knows it: in its own namespace */
	uint64_t uptime; /* seconds */

	uint64_t workers;
	uint64_t tables; /* 1: shared by all workers, unless `private` */
	uint64_t is_private;
	uint64_t table_limit;
	uint64_t fds, fds_configured; /* LIMITS_NONE: auto */
	uint64_t fds_in_use, fds_per_connection;
	uint64_t max_connections, max_connections_configured; /* LIMITS_NONE: auto */
	uint64_t priority_slots;
	uint64_t memory, memory_per_connection; /* bytes, as it counts with them */
	uint64_t nofile_soft, nofile_hard;

	uint64_t connections, priority_connections, connections_peak, accepted;
	uint64_t backlog_configured, backlog_effective;
	uint64_t queue_depth, queue_depth_peak, kernel_drops;
	uint64_t gate_seconds;    /* SYNs were not answered on purpose, so long in all */
	uint64_t arrivals_peak;   /* most accepted in one second */
	uint64_t accept_pause_us; /* longest time between two looks at a waiting queue */
};

/* Reads the answer to the request `limits`. Lines that are not known are passed over. Returns 0,
 * or -EINVAL if it is not the answer of a portd. text is changed. */
int limits_portd_parse(char *text, struct limits_portd *ret);

/* limits_config.c: takes «FILE:LINE» or «-o …» as the place of a key «section.name», if it is one of
 * those above. */
void limits_place_take(struct limits_portd *p, const char *key, const char *place);
/* The places in portd's default files, below root: "". */
void limits_config_read(const char *root, struct limits_portd *p);

/* One with the built-in defaults, started with the limits that `machine` has. */
void limits_portd_assume(const struct limits_machine *machine, struct limits_portd *ret);

/* What descriptors are shared out by: the formula of portd.conf(5), "[budget] fds". */
struct limits_shape {
	uint64_t workers;  /* 1 to 1024 */
	uint64_t cost;     /* descriptors of one connection, at least 1 */
	uint64_t priority; /* further slots that must fit, too: into every table */
	bool is_private;   /* a table for each worker */
};

/* The most connections with so many descriptors in one table; 0 if not even one fits. */
uint64_t limits_slots_of_table(const struct limits_shape *s, uint64_t table);
/* The same for half of so many bytes of memory, at `each` a connection: at least one. */
uint64_t limits_slots_of_memory(uint64_t memory, uint64_t each);
/* The same for so many in all tables, of which none may have more than RLIMIT_NOFILE. */
uint64_t limits_slots_of_fds(const struct limits_shape *s, uint64_t fds, uint64_t nofile);

/* How many workers [workers] count = auto takes with so many descriptors, all else at its default. */
uint64_t limits_workers_of_auto(uint64_t fds, uint64_t cpus);

/* What is counted. Each group has limits of its own, of which one binds at most. */
enum limits_group {
	LIMITS_GROUP_OPEN,      /* connections open at the same time */
	LIMITS_GROUP_WAITING,   /* clients in the backlog queue */
	LIMITS_GROUP_HANDSHAKE, /* clients whose handshake has begun */
	LIMITS_GROUP_CLIENT,    /* connections from one client address */
	LIMITS_GROUP_COUNT
};

enum limits_unit_of {
	LIMITS_COUNT,
	LIMITS_BYTES
};

/* How to raise a limit: now (command), for good (line in file). Empty texts: there is no such
 * way. */
struct limits_raise {
	bool is_sysctl; /* line and file say no more than command */
	char command[LIMITS_TEXT_MAX];
	char line[LIMITS_TEXT_MAX];
	char file[LIMITS_TEXT_MAX];
	unsigned long file_line; /* of file, where the key stands; 0: it stands nowhere */
	/* Instead of file: the option on portd's command line that sets the key now. */
	char option[LIMITS_TEXT_MAX];
	char option_wanted[LIMITS_TEXT_MAX]; /* what it is to be */
};

struct limits_row {
	const char *name;  /* stable: JSON */
	const char *label; /* for people */
	enum limits_group group;
	enum limits_unit_of unit;
	uint64_t number; /* LIMITS_NONE: there is none, see text */
	char text[48]; /* the value in a word, if it is no number ("auto", "unlimited") */
	int err;       /* errno for which the value could not be read, else 0 */
	char from[LIMITS_FROM_MAX];
	uint64_t allows; /* LIMITS_NONE: as many as you like, or it does not apply */
	bool at_start;   /* counts only when portd starts */
	bool estimate;   /* allows rests on an assumption that note names */
	bool together;   /* allows is of all connections, those in priority slots, too */
	bool binds;      /* the least of its group */
	bool below; /* allows less than portd has slots: reached before they are taken */
	char note[LIMITS_TEXT_MAX];
	struct limits_raise raise;
};

/* What backlog and somaxconn should be. */
struct limits_advice {
	bool enough_seen;   /* portd has been up, and busy, for long enough to tell */
	bool known;         /* the arrivals and the pause are */
	bool overflowed;    /* the kernel dropped clients, for the queue was full */
	uint64_t needed;    /* clients that may have to wait; 0: no way to tell */
	uint64_t backlog;   /* to set; 0: no advice */
	uint64_t somaxconn; /* to set; 0: no advice */
};

#define LIMITS_SEEN_UPTIME   UINT64_C(600) /* seconds */
#define LIMITS_SEEN_ACCEPTED UINT64_C(1000)
/* No queue needs more: those at its end would wait for too long. */
#define LIMITS_BACKLOG_MAX (UINT64_C(1) << 20)

void limits_advise(const struct limits_portd *portd, const struct limits_machine *machine,
        struct limits_advice *ret);

/* All of it, ready to be rendered. */
struct limits_chain {
	struct limits_portd portd;
	struct limits_machine machine;
	char socket[128];                /* that was asked */
	char why_not[LIMITS_REASON_MAX]; /* why nobody answered; "" if portd runs */
	struct limits_row rows[LIMITS_ROWS_MAX];
	size_t n_rows;
	uint64_t holds; /* connections that can be open, but for priority slots */
	uint64_t holds_priority;        /* further ones, of priority sources */
	const struct limits_row *binds; /* what portd's slots come from */
	const struct limits_row
	        *first; /* what is reached first: binds, or the least below it */
	struct limits_advice advice;
};

/* From portd, machine and socket to the rest. */
void limits_chain_compute(struct limits_chain *c);

/* The number with a comma between thousands. Returns buf; the macro has storage of its own until the
 * end of the block. */
#define LIMITS_GROUPED_MAX 27
char *limits_format_grouped(uint64_t n, char buf[static LIMITS_GROUPED_MAX]);
#define GROUPED(n) limits_format_grouped(n, (char[LIMITS_GROUPED_MAX]){0})

void limits_render_text(const struct limits_chain *c, FILE *out);
void limits_render_json(const struct limits_chain *c, FILE *out);

/* Asks portd, looks at the machine, and fills *c, which is all zero before. Returns 0, whether a
 * portd answers or not; 1 with why_not if portd refuses; -EINVAL if what answers is no portd. */
int limits_collect(const struct command_call *call, struct limits_chain *c);

#endif
