/*
 * log.h - words for people. Only the main thread may call this: workers hand events over
 * through their ring (core/event.h). Only src/daemon logs; base, net and core return
 * errors.
 *
 * A line goes to stderr, as "portd: warning: text"; under systemd (JOURNAL_STREAM names
 * stderr) as "<4>text", which the journal takes as its priority. A stderr that cannot
 * take a line at once (a full pipe) loses that line; the loss is counted and told with
 * the next one. Control characters and bytes above 126 inside a line come out as \xNN.
 *
 * Reads next: ../net/addr.h.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* The level's word in configuration and on the terminal: error, warning, info, debug. */
const char *log_level_name(enum log_level level);

/* Looks at stderr and JOURNAL_STREAM. Before it, lines go to stderr all the same. */
void log_open(void);

/* Lines above this level are dropped. Default: info. */
void log_set_level(enum log_level level);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
