/*
 * conns.c - `portctl conns`: asks, sorts, and keeps the first of them.
 *
 * Invariants: with a limit no more rows than that are in memory: they are a heap whose root is the one
 * that comes last, and goes first. portd's last line says how many there were: without it the answer
 * was cut, and nothing is printed.
 */
#include "ctl/conns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "ctl/commands.h"
#include "ctl/reason.h"

#define REASON_MAX 1024
/* Words in the line of a connection. */
#define ROW_WORDS 9

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_addresses(const struct addr *a, const struct addr *b)
{
	int r = compare_numbers(a->family, b->family);
	if (r == 0)
		r = memcmp(a->bytes, b->bytes, sizeof(a->bytes));
	if (r == 0)
		r = compare_numbers(a->scope, b->scope);
	return r ? r : compare_numbers(a->port, b->port);
}

static int by_source(const void *one, const void *other)
{
	const struct conns_row *a = one, *b = other;
	int r = compare_addresses(&a->src, &b->src);

	return r ? r : compare_addresses(&a->dst, &b->dst);
}

/* The greatest first, and by source where they are alike. */
#define BY(name, value) \
	static int by_##name(const void *one, const void *other) \
	{ \
		const struct conns_row *a = other, *b = one; \
		int r = compare_numbers(a->value, b->value); \
		return r ? r : by_source(one, other); \
	}
BY(age, age)
BY(idle, idle)
BY(in, in)
BY(out, out)

static int by_bytes(const void *one, const void *other)
{
	const struct conns_row *a = one, *b = other;
	int r = compare_numbers(b->in + b->out, a->in + a->out);

	return r ? r : by_source(one, other);
}

static int by_worker(const void *one, const void *other)
{
	const struct conns_row *a = one, *b = other;
	int r = compare_numbers(a->worker, b->worker);

	return r ? r : by_source(one, other);
}

const char conns_sorts[] = "age, idle, bytes, in, out, source, worker";

int conns_parse_sort(const char *name, int (**ret)(const void *a, const void *b))
{
	static const struct {
		const char *name;
		int (*compare)(const void *a, const void *b);
	} sorts[] = {
	        {"age", by_age},
	        {"idle", by_idle},
	        {"bytes", by_bytes},
	        {"in", by_in},
	        {"out", by_out},
	        {"source", by_source},
	        {"worker", by_worker},
	};

	for (size_t i = 0; i < ARRAY_SIZE(sorts); i++) {
		if (!name || strcmp(name, sorts[i].name) == 0) {
			*ret = sorts[i].compare;
			return 0;
		}
	}
	return -EINVAL;
}

static void swap(struct conns_row *a, struct conns_row *b)
{
	struct conns_row was = *a;
	*a = *b;
	*b = was;
}

/* The row at i has been added: up, as long as it comes after its parent. */
static void sift_up(struct conns_list *list, size_t i)
{
	while (i > 0) {
		size_t parent = (i - 1) / 2;
		if (list->compare(&list->rows[i], &list->rows[parent]) <= 0)
			return;
		swap(&list->rows[i], &list->rows[parent]);
		i = parent;
	}
}

/* The root was replaced: down, as long as a child comes after it. */
static void sift_down(struct conns_list *list)
{
	for (size_t i = 0;;) {
		size_t last = i, child = 2 * i + 1;
		for (size_t k = child; k < child + 2 && k < list->n_rows; k++) {
			if (list->compare(&list->rows[k], &list->rows[last]) > 0)
				last = k;
		}
		if (last == i)
			return;
		swap(&list->rows[i], &list->rows[last]);
		i = last;
	}
}

/* Twice as much as there is. Returns 0 or -ENOMEM. */
static int make_room(struct conns_list *list)
{
	size_t room = list->room ? list->room * 2 : 128;
	struct conns_row *rows = reallocarray(list->rows, room, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	list->rows = rows;
	list->room = room;
	return 0;
}

int conns_add(struct conns_list *list, const struct conns_row *row)
{
	bool heap = list->limit != CONNS_NO_LIMIT;

	if (list->n_rows >= list->limit) {
		if (list->n_rows > 0 && list->compare(row, &list->rows[0]) < 0) {
			list->rows[0] = *row;
			sift_down(list);
		}
		return 0;
	}
	if (!heap && list->n_rows == CONNS_ROWS_MAX)
		return -E2BIG;
	if (list->n_rows == list->room && make_room(list) < 0)
		return -ENOMEM;
	list->rows[list->n_rows++] = *row;
	if (heap)
		sift_up(list, list->n_rows - 1);
	return 0;
}

void conns_sort(struct conns_list *list)
{
	if (list->n_rows > 0)
		qsort(list->rows, list->n_rows, sizeof(list->rows[0]), list->compare);
}

void conns_destroy(struct conns_list *list)
{
	own_free_p(&list->rows);
	own_free_p(&list->missing);
	list->n_rows = list->n_missing = 0;
}

/* An answer as far as it has come. */
struct answer {
	struct conns_list *list;
	char error[REASON_MAX]; /* portd's refusal; "": none */
	bool begun, ended;
};

static int read_row(char *const *word, struct conns_row *ret)
{
	uint64_t src_port, dst_port;

	if (addr_parse_host(word[0], &ret->src) < 0 ||
	        parse_uint(word[1], &src_port) < 0 ||
	        addr_parse_host(word[2], &ret->dst) < 0 ||
	        parse_uint(word[3], &dst_port) < 0 || src_port > UINT16_MAX ||
	        dst_port > UINT16_MAX || parse_uint(word[4], &ret->worker) < 0 ||
	        parse_uint(word[5], &ret->age) < 0 ||
	        parse_uint(word[6], &ret->idle) < 0 ||
	        parse_uint(word[7], &ret->in) < 0 || parse_uint(word[8], &ret->out) < 0)
		return -EBADMSG;
	ret->src.port = (uint16_t)src_port;
	ret->dst.port = (uint16_t)dst_port;
	return 0;
}

/* Each worker once: they come in order. */
static int add_missing(struct conns_list *list, uint64_t worker)
{
	if (worker >= CONNS_WORKERS_MAX ||
	        (list->n_missing > 0 && worker <= list->missing[list->n_missing - 1]))
		return -EBADMSG;
	uint64_t *missing =
	        reallocarray(list->missing, list->n_missing + 1, sizeof(*missing));

	if (!missing)
		return -ENOMEM;
	list->missing = missing;
	list->missing[list->n_missing++] = worker;
	return 0;
}

/* A line of two words: «open N», «missing WORKER», «end N». */
static int take_pair(struct answer *a, const char *name, const char *number)
{
	uint64_t n;

	if (a->ended || parse_uint(number, &n) < 0)
		return -EBADMSG;
	if (!a->begun) {
		a->begun = strcmp(name, "open") == 0;
		a->list->open = n;
		return a->begun ? 0 : -EBADMSG;
	}
	if (strcmp(name, "missing") == 0)
		return add_missing(a->list, n);
	a->ended = strcmp(name, "end") == 0 && n == a->list->told;
	return a->ended ? 0 : -EBADMSG;
}

static int take_line(void *arg, char *line)
{
	struct answer *a = arg;
	struct conns_row row = {0};
	char *word[ROW_WORDS + 1], *rest = NULL;
	size_t n = 0;

	if (!a->begun && strncmp(line, "error:", 6) == 0) {
		/* One says enough, and nothing comes after it. */
		(void)snprintf(a->error, sizeof(a->error), "%s", line);
		return -ECANCELED;
	}
	for (char *w = strtok_r(line, " ", &rest); w && n < ARRAY_SIZE(word);
	        w = strtok_r(NULL, " ", &rest))
		word[n++] = w;
	if (n == 2)
		return take_pair(a, word[0], word[1]);
	if (n != ROW_WORDS || !a->begun || a->ended || read_row(word, &row) < 0)
		return -EBADMSG;
	a->list->told++;
	return conns_add(a->list, &row);
}

/* Asks, and fills the list. Returns the exit code. */
static int ask(const struct command_call *call, struct conns_list *list)
{
	struct answer a = {.list = list};
	char reason[REASON_MAX];
	int r = client_ask_lines(
	        call->path, call->request, call->timeout_s * CLOCK_SEC, take_line, &a);

	if (r == -EBADMSG)
		return commands_no_portd(call->path);
	if (r == -E2BIG) {
		(void)fprintf(stderr,
		        "portctl: more than %llu connections; --limit N lists the first "
		        "N\n",
		        (unsigned long long)CONNS_ROWS_MAX);
		return EXIT_REFUSED;
	}
	if (*a.error && (r == 0 || r == -ECANCELED))
		return commands_refused(a.error, strlen(a.error));
	if (r == 0 && !a.ended)
		r = CLIENT_CUT;
	if (r == 0)
		return EXIT_DONE;
	reason_format(call->path, r, errno, call->timeout_s, reason, sizeof(reason));
	(void)fprintf(stderr, "portctl: %s\n", reason);
	return r == -ENOMEM ? EXIT_REFUSED : EXIT_NO_ANSWER;
}

/* What is not in the list. */
static int tell_missing(const struct conns_list *list)
{
	if (list->n_missing == 0)
		return EXIT_DONE;
	(void)fputs(
	        "portctl: not all connections are listed: stalled, and not waited for:",
	        stderr);
	for (size_t i = 0; i < list->n_missing; i++)
		(void)fprintf(stderr, "%s %llu", i ? "," : " worker",
		        (unsigned long long)list->missing[i]);
	(void)putc('\n', stderr);
	return EXIT_REFUSED;
}

static int run(const struct command_call *call, bool text,
        int (*put)(const struct conns_list *list))
{
	struct conns_list list = {.from = call->from, .compare = call->sort};

	list.by_default = !call->limit && text && isatty(STDOUT_FILENO);
	list.limit = CONNS_NO_LIMIT;
	if (list.by_default)
		list.limit = CONNS_TERMINAL_ROWS;
	else if (call->limit && *call->limit > 0)
		list.limit = *call->limit;
	int code = ask(call, &list);
	if (code == EXIT_DONE) {
		conns_sort(&list);
		int r = put(&list);
		code = r < 0 ? EXIT_REFUSED : tell_missing(&list);
		errno = -r;
		if (r < 0)
			(void)fprintf(
			        stderr, "portctl: cannot write to standard output: %m\n");
	}
	conns_destroy(&list);
	return code;
}

int commands_conns(const struct command_call *call)
{
	return run(call, true, conns_put_text);
}

int commands_conns_json(const struct command_call *call)
{
	return run(call, false, conns_put_json);
}
