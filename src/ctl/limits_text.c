/*
 * limits_text.c - «portctl limits» for people.
 *
 * Invariants: no line is longer than WIDTH, unless a single word is; the row that binds is marked,
 * and what raises it stands below it; what could not be read takes one line and says why. Texts
 * that come from elsewhere (paths, names) lose their control characters.
 */
#include <inttypes.h>
#include <string.h>

#include "base/own.h"
#include "base/plural.h"
#include "ctl/limits.h"

#define WIDTH  100
#define INDENT 7
/* Mark, label, value and what it allows. */
#define ROW "  %-2s %-30s %13s %12s"

char *limits_format_grouped(uint64_t n, char buf[static LIMITS_GROUPED_MAX])
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);
	char *end = buf;

	for (int i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			*end++ = ',';
		*end++ = digits[i];
	}
	*end = '\0';
	return buf;
}

/* Bytes and control characters that could play tricks with a terminal. */
static void put_plain(FILE *out, const char *text, int len)
{
	for (int i = 0; i < len; i++)
		(void)putc(text[i] < ' ' || text[i] > '~' ? '?' : text[i], out);
}

/* Where a paragraph stands. */
struct paragraph {
	FILE *out;
	int indent;
	int column; /* 0: nothing is on the line yet */
};

/* Appends the words of the text, each line at most WIDTH wide. */
static void put_words(struct paragraph *p, const char *text)
{
	while (*text) {
		int len = (int)strcspn(text, " ");

		if (p->column > 0 && p->column + 1 + len > WIDTH) {
			(void)putc('\n', p->out);
			p->column = 0;
		}
		if (p->column == 0)
			(void)fprintf(p->out, "%*s", p->indent, "");
		else
			(void)putc(' ', p->out);
		p->column += (p->column == 0 ? p->indent : 1) + len;
		put_plain(p->out, text, len);
		text += len;
		text += strspn(text, " ");
	}
}

static void end_paragraph(struct paragraph *p)
{
	if (p->column > 0)
		(void)putc('\n', p->out);
	p->column = 0;
}

static void put_paragraph(FILE *out, int indent, const char *text)
{
	struct paragraph p = {.out = out, .indent = indent};

	put_words(&p, text);
	end_paragraph(&p);
}

#define VALUE_MAX 64

static const char *format_value(const struct limits_row *row, char buf[static VALUE_MAX])
{
	if (row->err)
		(void)snprintf(buf, VALUE_MAX, "not known");
	else if (row->number == LIMITS_NONE)
		(void)snprintf(buf, VALUE_MAX, "%s", *row->text ? row->text : "-");
	else if (row->unit == LIMITS_BYTES)
		(void)snprintf(buf, VALUE_MAX, "%s MiB", GROUPED(row->number >> 20));
	else
		(void)snprintf(buf, VALUE_MAX, "%s", GROUPED(row->number));
	return buf;
}

/* The label of a sysctl says where it comes from. */
static void format_from(const struct limits_row *row, char *buf, size_t size)
{
	static const char sysctl[] = "/proc/sys/";

	if (row->err)
		(void)snprintf(buf, size, "%s: %s", row->from, strerrordesc_np(row->err));
	else if (strncmp(row->from, sysctl, strlen(sysctl)) == 0)
		(void)snprintf(buf, size, "sysctl");
	else
		(void)snprintf(buf, size, "%s", row->from);
}

/* Where it comes from ends the line; if that is too long it takes the next. */
static void put_row_line(const struct limits_row *row, FILE *out)
{
	char value[VALUE_MAX], allows[VALUE_MAX] = "-", from[LIMITS_FROM_MAX + 64];
	const char *mark = row->binds ? "=>" : row->below ? "!!" : "";

	if (row->allows != LIMITS_NONE)
		(void)snprintf(allows, sizeof(allows), "%s%s", row->estimate ? "~" : "",
		        GROUPED(row->allows));
	format_from(row, from, sizeof(from));
	int column =
	        fprintf(out, ROW, mark, row->label, format_value(row, value), allows);
	if (column < 0 || column + 2 + (int)strlen(from) > WIDTH) {
		(void)putc('\n', out);
		put_paragraph(out, INDENT, from);
		return;
	}
	(void)fputs("  ", out);
	put_plain(out, from, (int)strlen(from));
	(void)putc('\n', out);
}

#define FILE_LINE_MAX 24

/* «:3», or nothing. */
static const char *format_line(unsigned long line, char buf[static FILE_LINE_MAX])
{
	*buf = '\0';
	if (line > 0)
		(void)snprintf(buf, FILE_LINE_MAX, ":%lu", line);
	return buf;
}

static void put_raise(const struct limits_raise *raise, FILE *out)
{
	struct paragraph p = {.out = out, .indent = INDENT};
	char text[2 * LIMITS_TEXT_MAX + 64];
	const char *anew = *raise->command ? "" : " start portd anew";

	if (!*raise->command && !*raise->line)
		return;
	put_words(&p, "raise:");
	if (*raise->option) {
		(void)snprintf(text, sizeof(text),
		        "%s in place of %s on portd's command line, then%s",
		        raise->option_wanted, raise->option, anew);
		put_words(&p, text);
	} else if (*raise->line && !raise->is_sysctl) {
		char at[FILE_LINE_MAX];

		(void)snprintf(text, sizeof(text), "%s in %s%s, then%s", raise->line,
		        raise->file, format_line(raise->file_line, at), anew);
		put_words(&p, text);
	}
	put_words(&p, raise->command);
	end_paragraph(&p);
}

static void put_group(const struct limits_chain *c, enum limits_group group, FILE *out)
{
	static const char *const titles[LIMITS_GROUP_COUNT] = {
	        [LIMITS_GROUP_OPEN] = "connections open at the same time",
	        [LIMITS_GROUP_WAITING] = "clients that wait in the backlog queue",
	        [LIMITS_GROUP_HANDSHAKE] = "clients in the handshake before it",
	        [LIMITS_GROUP_CLIENT] = "connections from one client address",
	};

	(void)fprintf(out, "%s\n", titles[group]);
	for (size_t i = 0; i < c->n_rows; i++) {
		const struct limits_row *row = &c->rows[i];

		if (row->group != group)
			continue;
		put_row_line(row, out);
		if (row->err)
			continue;
		put_paragraph(out, INDENT, row->note);
		put_raise(&row->raise, out);
	}
}

static const char *network_note(enum limits_network network)
{
	switch (network) {
	case LIMITS_NETWORK_SAME:
		break;
	case LIMITS_NETWORK_ENTERED:
		return "portd is in a network namespace of its own: the values of net.* "
		       "are of that "
		       "one; raise them there (nsenter -n -t PID sysctl -w ...).";
	case LIMITS_NETWORK_OTHER:
		return "portd is in another network namespace than you, which you may "
		       "not enter: "
		       "the values of net.* are those of yours.";
	case LIMITS_NETWORK_UNKNOWN:
		return "Which network namespace portd is in cannot be told "
		       "from here: the values of net.* are those of yours.";
	}
	return "";
}

static void put_head(const struct limits_chain *c, FILE *out)
{
	const struct limits_portd *p = &c->portd;
	char text[1024], priority[64] = "";

	if (p->priority_connections > 0 && p->priority_connections != LIMITS_NONE)
		(void)snprintf(priority, sizeof(priority), " (%s in priority slots)",
		        GROUPED(p->priority_connections));
	if (!p->running) {
		put_paragraph(out, 0, c->why_not);
		put_paragraph(out, 0,
		        "What follows is for a portd started here, with the defaults and "
		        "with the "
		        "limits of your shell.");
	} else {
		(void)snprintf(text, sizeof(text),
		        "portd %s, pid %" PRIu64 ", %s, at %s: %s, %" PRIu64
		        " worker%s, %s, "
		        "%s connection%s now%s, %s at most so far",
		        p->version, c->machine.is_portd ? c->machine.pid : p->pid,
		        p->state, p->address, p->service, p->workers, PLURAL(p->workers),
		        p->is_private == 1 ? "private tables" : "one descriptor table",
		        GROUPED(p->connections), PLURAL(p->connections), priority,
		        p->connections_peak == LIMITS_NONE
		                ? "?"
		                : GROUPED(p->connections_peak));
		put_paragraph(out, 0, text);
		if (!c->machine.is_portd)
			put_paragraph(out, 0,
			        "Its process cannot be seen from here: what its limits "
			        "are is "
			        "as portd says.");
	}
	put_paragraph(out, 0, network_note(c->machine.network));
	(void)putc('\n', out);
}

static void put_verdict(const struct limits_chain *c, FILE *out)
{
	const struct limits_portd *p = &c->portd;
	char text[512], beside[96] = "";

	if (c->holds_priority > 0)
		(void)snprintf(beside, sizeof(beside),
		        ", and beside them %s of priority sources",
		        GROUPED(c->holds_priority));
	(void)snprintf(text, sizeof(text),
	        "%s hold%s %s connection%s at the same time%s. What stops it: %s%s.",
	        p->running ? "This port" : "It would", p->running ? "s" : "",
	        GROUPED(p->max_connections), PLURAL(p->max_connections), beside,
	        c->binds ? c->binds->label : p->bound_by,
	        c->binds && c->binds->number != LIMITS_NONE ? " (=> below)" : "");
	put_paragraph(out, 0, text);
	if (c->first != c->binds) {
		(void)snprintf(text, sizeof(text),
		        "But %s allows no more than %s (!! below): that is reached "
		        "first.",
		        c->first->label, GROUPED(c->holds));
		put_paragraph(out, 0, text);
	}
	(void)putc('\n', out);
}

static void put_seen(const struct limits_portd *p, FILE *out)
{
	char text[512], arrivals[64] = "not known", pause[64] = "not known";

	if (p->arrivals_peak != LIMITS_NONE)
		(void)snprintf(
		        arrivals, sizeof(arrivals), "%s", GROUPED(p->arrivals_peak));
	if (p->accept_pause_us != LIMITS_NONE)
		(void)snprintf(pause, sizeof(pause), "%" PRIu64 ".%03" PRIu64 " ms",
		        p->accept_pause_us / 1000, p->accept_pause_us % 1000);
	(void)snprintf(text, sizeof(text),
	        "seen in %s s: %s accepted; most in one second: %s; longest pause "
	        "between two looks "
	        "at a queue with clients: %s; deepest queue: %s; dropped by the kernel: "
	        "%s",
	        p->uptime == LIMITS_NONE ? "?" : GROUPED(p->uptime),
	        p->accepted == LIMITS_NONE ? "?" : GROUPED(p->accepted), arrivals, pause,
	        p->queue_depth_peak == LIMITS_NONE ? "?" : GROUPED(p->queue_depth_peak),
	        p->kernel_drops == LIMITS_NONE ? "?" : GROUPED(p->kernel_drops));
	put_paragraph(out, 5, text);
}

static void put_backlog(const struct limits_chain *c, FILE *out)
{
	const struct limits_advice *a = &c->advice;
	const struct limits_place *place = &c->portd.place[LIMITS_KEY_BACKLOG];
	const char *file = *place->file ? place->file : c->portd.config;
	const char *after = a->somaxconn > c->machine.somaxconn.n ? ", after" : "";
	OWN_MEM char *text = NULL;
	char at[FILE_LINE_MAX];
	int len;

	if (*place->option)
		len = asprintf(&text,
		        "recommended: -o listener.backlog=%" PRIu64
		        " in place of %s on portd's command line%s",
		        a->backlog, place->option, after);
	else
		len = asprintf(&text,
		        "recommended: [listener] backlog = %" PRIu64 " in %s%s%s",
		        a->backlog, file, format_line(place->line, at), after);
	if (len < 0)
		text = NULL;
	else
		put_paragraph(out, 5, text);
}

static void put_advice(const struct limits_chain *c, FILE *out)
{
	const struct limits_advice *a = &c->advice;
	const struct limits_portd *p = &c->portd;
	char text[512];

	(void)fputs("what the backlog should be\n", out);
	put_seen(p, out);
	if (a->backlog == 0) {
		(void)snprintf(text, sizeof(text),
		        "too little seen to recommend one: that takes %s s and %s "
		        "connections",
		        GROUPED(LIMITS_SEEN_UPTIME), GROUPED(LIMITS_SEEN_ACCEPTED));
		put_paragraph(out, 5, text);
		return;
	}
	(void)snprintf(text, sizeof(text),
	        "%s client%s may have to wait: the greatest of twice the deepest "
	        "queue%s%s%s",
	        GROUPED(a->needed), PLURAL(a->needed),
	        a->known ? ", twice what came in the longest pause" : "",
	        a->overflowed ? ", twice the queue that overflowed" : "",
	        a->enough_seen ? "" : " (though little was seen so far)");
	put_paragraph(out, 5, text);
	if (a->backlog <= p->backlog_effective) {
		(void)snprintf(text, sizeof(text),
		        "%s %s enough: keep [listener] backlog",
		        GROUPED(p->backlog_effective),
		        p->backlog_effective == 1 ? "is" : "are");
		put_paragraph(out, 5, text);
		return;
	}
	put_backlog(c, out);
	if (a->somaxconn > c->machine.somaxconn.n)
		(void)fprintf(out, "     sysctl -w net.core.somaxconn=%" PRIu64 "\n",
		        a->somaxconn);
}

void limits_render_text(const struct limits_chain *c, FILE *out)
{
	bool sysctl = false;

	put_head(c, out);
	put_verdict(c, out);
	(void)fprintf(out, ROW "  %s\n", "", "limit", "value", "allows", "from");
	for (unsigned group = 0; group < LIMITS_GROUP_COUNT; group++)
		put_group(c, group, out);
	if (c->portd.running)
		put_advice(c, out);
	for (size_t i = 0; i < c->n_rows; i++)
		sysctl = sysctl || c->rows[i].raise.is_sysctl;
	(void)putc('\n', out);
	(void)fputs("=> binds   !! allows less than there are slots   ~ estimate, see "
	            "its note   "
	            "- no limit\n",
	        out);
	if (sysctl)
		put_paragraph(out, 0,
		        "What sysctl -w sets lasts until the next boot; for good, write "
		        "KEY = VALUE into "
		        "/etc/sysctl.d/90-portd.conf.");
}
