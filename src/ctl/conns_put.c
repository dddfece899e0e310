/*
 * conns_put.c - the list of open connections, for people and for programs.
 *
 * Invariant: it is printed from a buffer of one size, so that a million rows need no memory beside
 * their own.
 */
#include "ctl/conns.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/plural.h"
#include "ctl/output.h"

/* Longest row, much more than needed. */
#define ROW_MAX 1024
#define AGE_MAX 32
#define BUFFER  4096U
#define SECOND  UINT64_C(1000000)
#define GROUPED 32

struct put {
	char bytes[BUFFER];
	size_t len;
	int r; /* 0, or the first -errno */
};

static void put_flush(struct put *p)
{
	if (p->r == 0)
		p->r = output_write_standard(p->bytes, p->len);
	p->len = 0;
}

__attribute__((format(printf, 2, 3))) static void put(
        struct put *p, const char *format, ...)
{
	va_list args;

	if (p->len + ROW_MAX > sizeof(p->bytes))
		put_flush(p);
	va_start(args, format);
	int n = vsnprintf(p->bytes + p->len, ROW_MAX, format, args);
	va_end(args);
	if (n > 0)
		p->len += (size_t)n < ROW_MAX ? (size_t)n : ROW_MAX - 1;
}

/* 12.345s 3min20s 2h05min 4d03h: three digits of the greatest unit at least, no blank inside. */
static const char *format_time(uint64_t us, char buf[static AGE_MAX])
{
	uint64_t s = us / SECOND, min = s / 60, h = min / 60;

	if (min == 0)
		(void)snprintf(buf, AGE_MAX, "%" PRIu64 ".%03" PRIu64 "s", s,
		        us % SECOND / 1000);
	else if (h == 0)
		(void)snprintf(buf, AGE_MAX, "%" PRIu64 "min%02" PRIu64 "s", min, s % 60);
	else if (h < 24)
		(void)snprintf(buf, AGE_MAX, "%" PRIu64 "h%02" PRIu64 "min", h, min % 60);
	else
		(void)snprintf(
		        buf, AGE_MAX, "%" PRIu64 "d%02" PRIu64 "h", h / 24, h % 24);
	return buf;
}

/* 1,234,567 */
static const char *format_grouped(uint64_t n, char buf[static GROUPED])
{
	char *at = buf + GROUPED - 1;
	unsigned digits = 0;

	*at = '\0';
	do {
		if (digits > 0 && digits % 3 == 0)
			*--at = ',';
		*--at = (char)('0' + n % 10);
		n /= 10;
		digits++;
	} while (n > 0);
	return at;
}

/* How wide the columns are that differ most. */
struct widths {
	int src, dst, in, out;
};

static int widest(int so_far, int now)
{
	return now > so_far ? now : so_far;
}

static struct widths measure(const struct conns_list *list)
{
	struct widths w = {(int)strlen("SOURCE"), (int)strlen("DESTINATION"),
	        (int)strlen("IN"), (int)strlen("OUT")};
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < list->n_rows; i++) {
		const struct conns_row *row = &list->rows[i];
		w.src = widest(w.src, (int)strlen(addr_format(&row->src, text)));
		w.dst = widest(w.dst, (int)strlen(addr_format(&row->dst, text)));
		w.in = widest(w.in, snprintf(text, sizeof(text), "%" PRIu64, row->in));
		w.out = widest(w.out, snprintf(text, sizeof(text), "%" PRIu64, row->out));
	}
	return w;
}

static void put_total(struct put *p, const struct conns_list *list)
{
	char shown[GROUPED], told[GROUPED], open[GROUPED];

	put(p, "%s of %s connection%s", format_grouped(list->n_rows, shown),
	        format_grouped(list->told, told), PLURAL(list->told));
	if (list->from)
		put(p, " from %s", list->from);
	put(p, " shown");
	if (list->from)
		put(p, "; %s open in all", format_grouped(list->open, open));
	if (list->by_default && list->n_rows < list->told)
		put(p, "; --limit 0 shows all");
	put(p, "\n");
}

int conns_put_text(const struct conns_list *list)
{
	struct put p = {.r = 0};
	struct widths w = measure(list);
	char src[ADDR_TEXT_MAX], dst[ADDR_TEXT_MAX], age[AGE_MAX], idle[AGE_MAX];

	put(&p, "%-*s  %-*s  WORKER  %8s  %8s  %*s  %*s\n", w.src, "SOURCE", w.dst,
	        "DESTINATION", "AGE", "IDLE", w.in, "IN", w.out, "OUT");
	for (size_t i = 0; i < list->n_rows && p.r == 0; i++) {
		const struct conns_row *row = &list->rows[i];
		put(&p,
		        "%-*s  %-*s  %6" PRIu64 "  %8s  %8s  %*" PRIu64 "  %*" PRIu64
		        "\n",
		        w.src, addr_format(&row->src, src), w.dst,
		        addr_format(&row->dst, dst), row->worker,
		        format_time(row->age, age), format_time(row->idle, idle), w.in,
		        row->in, w.out, row->out);
	}
	put_total(&p, list);
	put_flush(&p);
	return p.r;
}

static void put_json_row(struct put *p, const struct conns_row *row)
{
	char src[ADDR_HOST_MAX], dst[ADDR_HOST_MAX];

	put(p,
	        "{\"protocol\":\"tcp\",\"source\":\"%s\",\"source_port\":%u,"
	        "\"destination\":\"%s\",\"destination_port\":%u,\"worker\":%" PRIu64
	        ",\"age_seconds\":%" PRIu64 ".%06" PRIu64 ",\"idle_seconds\":%" PRIu64
	        ".%06" PRIu64 ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64 "}",
	        addr_format_host(&row->src, src), row->src.port,
	        addr_format_host(&row->dst, dst), row->dst.port, row->worker,
	        row->age / SECOND, row->age % SECOND, row->idle / SECOND,
	        row->idle % SECOND, row->in, row->out);
}

int conns_put_json(const struct conns_list *list)
{
	struct put p = {.r = 0};

	put(&p, "{\"open\":%" PRIu64 ",\"matched\":%" PRIu64 ",\"shown\":%zu", list->open,
	        list->told, list->n_rows);
	put(&p, ",\"missing_workers\":[");
	for (size_t i = 0; i < list->n_missing; i++)
		put(&p, "%s%" PRIu64, i ? "," : "", list->missing[i]);
	put(&p, "],\"connections\":[");
	for (size_t i = 0; i < list->n_rows && p.r == 0; i++) {
		put(&p, i ? ",\n" : "\n");
		put_json_row(&p, &list->rows[i]);
	}
	put(&p, "\n]}\n");
	put_flush(&p);
	return p.r;
}
