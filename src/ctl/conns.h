/*
 * conns.h - `portctl conns`: the open connections, sorted and cut to the first of them.
 */
#ifndef CTL_CONNS_H
#define CTL_CONNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/addr.h"

/* Rows of text on a terminal, where --limit does not say anything else. */
#define CONNS_TERMINAL_ROWS 100U
#define CONNS_NO_LIMIT      UINT64_MAX
/* Rows that are kept without a limit: some 200 MB of memory, whatever portd, or who sits in its place,
 * says that it has. */
#define CONNS_ROWS_MAX (UINT64_C(2) << 20)
/* As many as portd may have. */
#define CONNS_WORKERS_MAX 1024U

/* An open connection as portd told of it; times in us. */
struct conns_row {
	struct addr src, dst;
	uint64_t worker, age, idle, in, out;
};

/* What was asked, and what came. */
struct conns_list {
	const char *from; /* --source as portd was asked; NULL: all */
	/* Which of two comes first: < 0: a. Never 0 for two that are open at once. */
	int (*compare)(const void *a, const void *b);
	uint64_t limit;  /* rows that are kept; CONNS_NO_LIMIT: all */
	bool by_default; /* nobody asked for this limit */

	struct conns_row *rows;
	size_t n_rows, room;
	uint64_t open;     /* when portd began */
	uint64_t told;     /* how many portd told of */
	uint64_t *missing; /* workers that do not turn */
	size_t n_missing;
};

/* --sort; NULL is the default. Returns 0 and *ret, or -EINVAL. */
int conns_parse_sort(const char *name, int (**ret)(const void *a, const void *b));
/* The names that it knows. */
extern const char conns_sorts[];

/* Keeps row if it is one of the first `limit` so far: O(log limit) time, and the memory of at most
 * `limit` rows. Returns 0, -ENOMEM, or -E2BIG: without a limit there are more than CONNS_ROWS_MAX. */
int conns_add(struct conns_list *list, const struct conns_row *row);
/* Puts the rows that were kept into their order. */
void conns_sort(struct conns_list *list);
void conns_destroy(struct conns_list *list);

/* Print it on standard output, as a table or one JSON object. Return 0 or -errno. */
int conns_put_text(const struct conns_list *list);
int conns_put_json(const struct conns_list *list);

#endif
