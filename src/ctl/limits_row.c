/*
 * limits_row.c - one row of the chain of limits: what it has, and what raises it.
 *
 * Invariants: arithmetic only, nothing is read here. A command that would need quoting beyond an apostrophe is
 * left empty.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "ctl/limits_rows.h"

struct limits_row *limits_row_add(struct limits_chain *c, const char *name,
        const char *label, enum limits_group group)
{
	/* Their number is fixed and smaller; no row is ever written past the end. */
	size_t i = c->n_rows < LIMITS_ROWS_MAX ? c->n_rows++ : LIMITS_ROWS_MAX - 1;
	struct limits_row *row = &c->rows[i];

	*row = (struct limits_row){.name = name,
	        .label = label,
	        .group = group,
	        .number = LIMITS_NONE,
	        .allows = LIMITS_NONE};
	return row;
}

void limits_row_take(struct limits_row *row, const struct limits_value *value)
{
	row->number = value->n;
	row->err = value->err;
	(void)snprintf(row->from, sizeof(row->from), "%s", value->from);
	if (!value->err && value->n == LIMITS_NONE)
		(void)snprintf(row->text, sizeof(row->text), "unlimited");
}

void limits_row_take_or(
        struct limits_row *row, const struct limits_value *value, uint64_t portd)
{
	limits_row_take(row, value);
	if (!value->err || portd == LIMITS_NONE)
		return;
	row->err = 0;
	row->number = portd;
	(void)snprintf(row->from, sizeof(row->from), "portd");
}

void limits_row_note(struct limits_row *row, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(row->note, sizeof(row->note), format, args);
	va_end(args);
}

void limits_row_raise_sysctl_words(
        struct limits_row *row, const char *key, const char *value)
{
	const char *quote = strchr(value, ' ') ? "\"" : "";
	struct limits_raise *raise = &row->raise;

	raise->is_sysctl = true;
	(void)snprintf(raise->command, sizeof(raise->command), "sysctl -w %s=%s%s%s", key,
	        quote, value, quote);
	(void)snprintf(raise->line, sizeof(raise->line), "%s = %s", key, value);
	(void)snprintf(raise->file, sizeof(raise->file), "/etc/sysctl.d/90-portd.conf");
}

void limits_row_raise_sysctl(struct limits_row *row, const char *key, uint64_t to)
{
	char value[32];

	(void)snprintf(value, sizeof(value), "%" PRIu64, to);
	limits_row_raise_sysctl_words(row, key, value);
}

void limits_command_about(
        char command[static LIMITS_TEXT_MAX], const char *name, const char *format, ...)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
	                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@+=,";
	const char *quote = name[strspn(name, plain)] ? "'" : "";
	va_list args;

	*command = '\0';
	for (const char *s = name; *s; s++)
		if (*s == '\'' || *s < ' ' || *s > '~')
			return;
	va_start(args, format);
	int len = vsnprintf(command, LIMITS_TEXT_MAX, format, args);
	va_end(args);
	if (len < 0 || len >= LIMITS_TEXT_MAX) {
		*command = '\0';
		return;
	}

	size_t left = LIMITS_TEXT_MAX - (size_t)len;
	int more = snprintf(command + len, left, "%s%s%s", quote, name, quote);

	if (more < 0 || (size_t)more >= left)
		*command = '\0';
}

void limits_row_raise_config(const struct limits_chain *c, struct limits_row *row,
        bool live, enum limits_key key, const char *format, ...)
{
	const struct limits_place *place = &c->portd.place[key];
	const char *section = limits_key_section(key), *name = limits_key_name(key);
	const char *unit = c->machine.unit.name;
	struct limits_raise *raise = &row->raise;
	char value[32];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	(void)snprintf(
	        raise->line, sizeof(raise->line), "[%s] %s = %s", section, name, value);
	if (*place->option) {
		/* No file wins over it, and a reload does not read it anew. */
		(void)snprintf(raise->option, sizeof(raise->option), "%s", place->option);
		(void)snprintf(raise->option_wanted, sizeof(raise->option_wanted),
		        "-o %s.%s=%s", section, name, value);
		if (*unit)
			limits_command_about(raise->command, unit,
			        "systemctl daemon-reload && systemctl restart ");
		return;
	}
	(void)snprintf(raise->file, sizeof(raise->file), "%s",
	        *place->file ? place->file : c->portd.config);
	raise->file_line = place->line;
	if (*unit)
		limits_command_about(raise->command, unit, "systemctl %s ",
		        live ? "reload" : "restart");
	else if (live && c->portd.running)
		limits_command_about(raise->command, c->socket, "portctl reload -s ");
}

struct limits_shape limits_shape_of(const struct limits_portd *p)
{
	return (struct limits_shape){.workers = p->workers,
	        .cost = p->fds_per_connection,
	        .priority = p->priority_slots,
	        .is_private = p->is_private == 1};
}

uint64_t limits_slots_of_nofile(const struct limits_chain *c, uint64_t nofile)
{
	struct limits_shape shape = limits_shape_of(&c->portd);

	nofile = limits_least(nofile, c->machine.nr_open.n);
	if (nofile == LIMITS_NONE)
		return LIMITS_NONE;
	return limits_slots_of_fds(
	        &shape, nofile * (shape.is_private ? shape.workers : 1), nofile);
}
