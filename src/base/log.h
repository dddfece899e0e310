/*
 * log.h - words for people, and records for those who watch. Only the main thread may call
 * this: workers hand events over through their ring (core/event.h). Only src/daemon logs;
 * base, net and core return errors.
 *
 * A line goes to stderr, as "portd: warning: text"; under systemd (JOURNAL_STREAM names
 * stderr) as "<4>text", which the journal takes as its priority. A record is a line with an
 * id and fields: under systemd it goes to the journal as a datagram of its own, anywhere
 * else it is a plain line. Nothing here waits: what neither way takes at once (a full pipe,
 * a terminal that nobody reads, a journal that does not read) is lost; the loss is counted, and told once there is room.
 * Control characters and bytes above 126 come out as \xNN, in lines and in fields.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Of one field's text, once it is escaped; a longer one is cut and ends in "...". */
#define LOG_VALUE_MAX 240
/* Of all fields of a record together, with their names. */
#define LOG_FIELDS_MAX 1024

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* One field of a record. */
struct log_field {
	const char *name; /* capital letters, digits and _ */
	const char *text; /* NULL: it is a number */
	uint64_t number;
};

/* The level's word in configuration and on the terminal: error, warning, info, debug. */
const char *log_level_name(enum log_level level);

/* Looks at stderr and JOURNAL_STREAM; if they are the journal, opens the one descriptor
 * that records need, and keeps it; if stderr is a terminal, one that does not wait for its reader.
 * Call it before any other thread runs. Before it, lines go to stderr all the same. */
void log_open(void);

/* How many descriptors log_open has opened. */
unsigned log_fds(void);

/* Lines and records above this level are dropped. Default: info. */
void log_set_level(enum log_level level);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* log_error for what stops a start, of which no line may be lost: waits for a stderr that is
 * slow, up to 5 s for a line. Never while portd serves. */
void log_error_patiently(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells of lost lines, if there are any and there is room. Call it with every tick. */
void log_flush(void);

/* A line with an id (MESSAGE_ID=: 32 lower-case hexadecimal digits) and n fields. A field
 * for which there is no room is left out. */
void log_record(enum log_level level, const char *id, const struct log_field *field,
        size_t n, const char *format, va_list args) __attribute__((format(printf, 5, 0)));

#endif
