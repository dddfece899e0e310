/*
 * limits_rows.h - how the rows of «portctl limits» are made. Private to limits_*.c.
 */
#ifndef CTL_LIMITS_ROWS_H
#define CTL_LIMITS_ROWS_H

#include "ctl/limits.h"

/* The rows, in this order: descriptors, memory, what the kernel keeps a list of, the queue. */
void limits_rows_add_fds(struct limits_chain *c);
void limits_rows_add_memory(struct limits_chain *c);
void limits_rows_add_kernel(struct limits_chain *c);
void limits_rows_add_queue(struct limits_chain *c);

/* Appends an empty row. */
struct limits_row *limits_row_add(struct limits_chain *c, const char *name,
        const char *label, enum limits_group group);
/* Fills value, origin and error from what was read. */
void limits_row_take(struct limits_row *row, const struct limits_value *value);
/* The same, or, if that could not be read, what portd says of itself, if it does. */
void limits_row_take_or(
        struct limits_row *row, const struct limits_value *value, uint64_t portd);
void limits_row_note(struct limits_row *row, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* Raise by sysctl(8), to this number or these words. */
void limits_row_raise_sysctl(struct limits_row *row, const char *key, uint64_t to);
void limits_row_raise_sysctl_words(
        struct limits_row *row, const char *key, const char *value);
/* Raise by this value of a key, set in the place that wins; live: a reload is enough, where that is
 * a file. */
void limits_row_raise_config(const struct limits_chain *c, struct limits_row *row,
        bool live, enum limits_key key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
/* A command that ends with this name, quoted for a shell where that is needed; none at
 * all if the name is such that nobody should paste it: groups and sockets may be named by
 * anybody. */
void limits_command_about(char command[static LIMITS_TEXT_MAX], const char *name,
        const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Connections that portd could have with RLIMIT_NOFILE at this, all else as it is.
 * LIMITS_NONE: as far as fs.nr_open goes. */
uint64_t limits_slots_of_nofile(const struct limits_chain *c, uint64_t nofile);
/* What portd shares its descriptors out by. */
struct limits_shape limits_shape_of(const struct limits_portd *p);

static inline uint64_t limits_least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t limits_most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Twice as much; LIMITS_NONE stays what it is. */
static inline uint64_t limits_twice(uint64_t n)
{
	return n > LIMITS_NONE / 2 ? LIMITS_NONE : 2 * n;
}

#endif
