/*
 * log.c - words for people, on stderr.
 *
 * Invariants: no line waits for its reader, and none is longer than PIPE_BUF, so that a
 * pipe which says that it is writable takes it whole; nothing but printable ASCII goes
 * out, so that no client can forge a line or talk to a terminal; errno is left alone.
 *
 * A stderr that may be shared with other processes must not be made non-blocking, so a
 * pipe is asked with poll(2) first and a socket (the journal's) is written with
 * MSG_DONTWAIT.
 *
 * Reads next: ../net/addr.c.
 */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define LOG_TEXT_MAX 2048

static struct {
	enum log_level level;
	bool journal;
	unsigned long lost;
} log_state = {.level = LOG_LEVEL_INFO};

static const struct {
	const char *name;
	const char *prefix; /* sd-daemon(3) */
} log_levels[] = {
        [LOG_LEVEL_ERROR] = {"error", "<3>"},
        [LOG_LEVEL_WARNING] = {"warning", "<4>"},
        [LOG_LEVEL_INFO] = {"info", "<6>"},
        [LOG_LEVEL_DEBUG] = {"debug", "<7>"},
};

const char *log_level_name(enum log_level level)
{
	return log_levels[level].name;
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

void log_open(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	log_state.journal = false;
	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return;
	(void)snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev,
	        (unsigned long long)st.st_ino);
	log_state.journal = strcmp(stream, own) == 0;
}

/* Returns 0, or -EAGAIN if stderr takes nothing now, or is gone. */
static int line_write(const char *line, size_t len)
{
	ssize_t n = send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK) {
		struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

		/* POLLERR: no reader is left, and a write would raise SIGPIPE. */
		if (poll(&p, 1, 0) != 1 || p.revents != POLLOUT)
			return -EAGAIN;
		n = write(STDERR_FILENO, line, len);
	}
	return n == (ssize_t)len ? 0 : -EAGAIN;
}

static int line_send(enum log_level level, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	char line[PIPE_BUF];
	size_t len;

	if (log_state.journal)
		len = (size_t)snprintf(
		        line, sizeof(line), "%s", log_levels[level].prefix);
	else
		len = (size_t)snprintf(
		        line, sizeof(line), "portd: %s: ", log_levels[level].name);
	for (const char *p = text; *p && len < sizeof(line) - 5; p++) {
		unsigned char c = (unsigned char)*p;

		if (c >= 32 && c <= 126) {
			line[len++] = *p;
			continue;
		}
		line[len++] = '\\';
		line[len++] = 'x';
		line[len++] = hex[c >> 4];
		line[len++] = hex[c & 15];
	}
	line[len++] = '\n';
	return line_write(line, len);
}

__attribute__((format(printf, 2, 0))) static void log_line(
        enum log_level level, const char *format, va_list args)
{
	int saved = errno;
	char text[LOG_TEXT_MAX];
	int len;

	if (level > log_state.level)
		return;
	if (log_state.lost > 0) {
		(void)snprintf(text, sizeof(text),
		        "%lu log lines were lost: stderr was full", log_state.lost);
		if (line_send(LOG_LEVEL_WARNING, text) < 0) {
			log_state.lost++;
			errno = saved;
			return;
		}
		log_state.lost = 0;
	}
	errno = saved;
	len = vsnprintf(text, sizeof(text), format, args);
	if (len < 0)
		(void)snprintf(text, sizeof(text), "%s", format);
	else if ((size_t)len >= sizeof(text))
		memcpy(text + sizeof(text) - 4, "...", 4);
	if (line_send(level, text) < 0)
		log_state.lost++;
	errno = saved;
}

#define LOG_FUNCTION(name, level) \
	void name(const char *format, ...) \
	{ \
		va_list args; \
		va_start(args, format); \
		log_line(level, format, args); \
		va_end(args); \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
