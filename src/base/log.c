/*
 * log.c - words for people on stderr, records for the journal.
 *
 * Invariants: nothing waits for its reader but log_error_patiently; no line is longer than
 * PIPE_BUF, so that a pipe which says that it is writable takes it whole; nothing but
 * printable ASCII goes out, so that no client can forge a line or a field, or talk to a
 * terminal; errno is left alone.
 *
 * A stderr that may be shared with other processes must not be made non-blocking, so a
 * pipe is asked with poll(2) first and a socket (the journal's) is written with
 * MSG_DONTWAIT. A terminal says that it is writable while it has room for a part of the line, and
 * write(2) would wait for the rest: it is opened once more, for us alone and non-blocking, and the
 * end of a line that was cut goes out before the next one.
 *
 * Records speak the journal's native protocol over a socket of our own, not through
 * sd_journal_sendv(3): its socket blocks. With nobody reading, the 12th call waited for
 * ever (the 514th where net.unix.max_dgram_qlen is 512), and the watchdog would end a
 * portd that serves; besides, its first call opens a descriptor, which at EMFILE fails.
 * The address is named with every record, so that a journal that comes back is heard again.
 *
 * Each way stands in for the other: a record that the journal does not take goes to the
 * stream as a line without its fields, and once the stream is gone for good (the journal
 * was stopped, not restarted) lines go the records' way. Not while it is merely full, for
 * few datagrams fit, and those are for records.
 *
 * What only lines are for: words of a process that ends at once. The journal looks up the
 * unit of a datagram's sender when it reads it; of 20 processes that had ended by then it
 * knew none. A stream comes with the name of its unit: 20 of 20.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/own.h"

#define LOG_TEXT_MAX    2048
#define LOG_PATIENCE_MS 5000

static struct {
	enum log_level level;
	bool journal;
	bool impatient; /* a patient line has waited in vain */
	int fd;         /* for records; -1: there is none */
	int terminal;   /* stderr, if it is one that could be opened again; -1 */
	unsigned long lost;
	size_t rest_len; /* what the terminal has not taken yet */
	char rest[PIPE_BUF];
} log_state = {.level = LOG_LEVEL_INFO, .fd = -1, .terminal = -1};

static const struct {
	const char *name;
	const char *priority; /* syslog(3) */
} log_levels[] = {
        [LOG_LEVEL_ERROR] = {"error", "3"},
        [LOG_LEVEL_WARNING] = {"warning", "4"},
        [LOG_LEVEL_INFO] = {"info", "6"},
        [LOG_LEVEL_DEBUG] = {"debug", "7"},
};

static const struct sockaddr_un journal_address = {
        .sun_family = AF_UNIX,
        .sun_path = "/run/systemd/journal/socket",
};

const char *log_level_name(enum log_level level)
{
	return log_levels[level].name;
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

static bool is_stderr(int fd)
{
	unsigned a = 0, b = 0;

	return ioctl(fd, TIOCGDEV, &a) == 0 && ioctl(STDERR_FILENO, TIOCGDEV, &b) == 0 &&
	       a == b;
}

/* Returns the descriptor, or -1. */
static int terminal_open(void)
{
	/* The second for one that belongs to somebody else, as after su(1). */
	static const char *const names[] = {"/proc/self/fd/2", "/dev/tty"};

	if (!isatty(STDERR_FILENO))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		OWN_FD int fd =
		        open(names[i], O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0 && is_stderr(fd))
			return TAKE_FD(fd);
	}
	return -1;
}

void log_open(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	log_state.journal = false;
	log_state.fd = own_close(log_state.fd);
	log_state.terminal = own_close(log_state.terminal);
	log_state.terminal = terminal_open();
	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return;
	(void)snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev,
	        (unsigned long long)st.st_ino);
	log_state.journal = strcmp(stream, own) == 0;
	/* Without it, records are lines. */
	if (log_state.journal)
		log_state.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

unsigned log_fds(void)
{
	return (log_state.fd >= 0 ? 1U : 0U) + (log_state.terminal >= 0 ? 1U : 0U);
}

/* Writes text as printable ASCII, a NUL at its end; what does not fit makes it end in
 * "...". size is at least 4. Returns the length. */
static size_t escape(char *buf, size_t size, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = 0, fits = 0; /* fits: with "..." after it */

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain = c >= 32 && c <= 126;

		if (len + (plain ? 1 : 4) >= size) {
			memcpy(buf + fits, "...", 4);
			return fits + 3;
		}
		if (plain) {
			buf[len++] = *text;
		} else {
			buf[len++] = '\\';
			buf[len++] = 'x';
			buf[len++] = hex[c >> 4];
			buf[len++] = hex[c & 15];
		}
		if (len + 4 <= size)
			fits = len;
	}
	buf[len] = '\0';
	return len;
}

/* What the terminal has not taken of the last line. Returns as line_write. */
static int terminal_finish(void)
{
	while (log_state.rest_len) {
		ssize_t n = write(log_state.terminal, log_state.rest, log_state.rest_len);
		if (n < 0)
			return -errno;
		log_state.rest_len -= (size_t)n;
		memmove(log_state.rest, log_state.rest + n, log_state.rest_len);
	}
	return 0;
}

/* len is at most PIPE_BUF. Returns as line_write. */
static int terminal_write(const char *line, size_t len)
{
	int r = terminal_finish();

	if (r < 0)
		return r;
	ssize_t n = write(log_state.terminal, line, len);
	if (n < 0)
		return -errno;
	log_state.rest_len = len - (size_t)n;
	memcpy(log_state.rest, line + n, log_state.rest_len);
	return 0;
}

/* Returns 0, -EAGAIN if stderr takes nothing now, or another -errno if it is gone. */
static int line_write(const char *line, size_t len)
{
	if (log_state.terminal >= 0)
		return terminal_write(line, len);
	ssize_t n = send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK) {
		struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

		if (poll(&p, 1, 0) != 1)
			return -EAGAIN;
		/* POLLERR: no reader is left, and a write would raise SIGPIPE. */
		if (p.revents != POLLOUT)
			return -EPIPE;
		n = write(STDERR_FILENO, line, len);
	}
	if (n < 0)
		return -errno;
	return n == (ssize_t)len ? 0 : -EAGAIN;
}

/* text is escaped already. Returns as line_write. */
static int line_send(enum log_level level, const char *text)
{
	char line[PIPE_BUF];
	int len;

	if (log_state.journal)
		len = snprintf(
		        line, sizeof(line), "<%s>%s\n", log_levels[level].priority, text);
	else
		len = snprintf(line, sizeof(line), "portd: %s: %s\n",
		        log_levels[level].name, text);
	return line_write(line, (size_t)len);
}

/* What is sent beside the words. */
struct record {
	const char *id; /* NULL: a line that goes the records' way */
	const struct log_field *field;
	size_t n;
};

/* Returns the length; at most size. */
static size_t fields_render(char *buf, size_t size, const struct record *r)
{
	char value[LOG_VALUE_MAX + 1];
	size_t len = 0;

	for (size_t i = 0; i < r->n; i++) {
		const struct log_field *f = &r->field[i];
		if (f->text)
			(void)escape(value, sizeof(value), f->text);
		else
			(void)snprintf(value, sizeof(value), "%" PRIu64, f->number);
		int n = snprintf(buf + len, size - len, "%s=%s\n", f->name, value);
		if (n > 0 && (size_t)n < size - len)
			len += (size_t)n;
	}
	return len;
}

/* text is escaped already. Returns 0 or -errno. */
static int record_send(enum log_level level, const struct record *r, const char *text)
{
	char head[128], fields[LOG_FIELDS_MAX];

	if (log_state.fd < 0)
		return -ENOTCONN;
	/* 3: daemon, as systemd has it for the lines of a unit. */
	int len = snprintf(head, sizeof(head),
	        "%s%s%sPRIORITY=%s\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=portd\nMESSAGE=",
	        r->id ? "MESSAGE_ID=" : "", r->id ? r->id : "", r->id ? "\n" : "",
	        log_levels[level].priority);
	struct iovec part[] = {
	        {.iov_base = fields, .iov_len = fields_render(fields, sizeof(fields), r)},
	        {.iov_base = head, .iov_len = (size_t)len},
	        /* sendmsg(2) changes none of what it is given. */
	        {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)},
	        {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1},
	};
	const struct msghdr message = {
	        .msg_name = (void *)(uintptr_t)&journal_address,
	        .msg_namelen = sizeof(journal_address),
	        .msg_iov = part,
	        .msg_iovlen = ARRAY_SIZE(part),
	};
	ssize_t n = sendmsg(log_state.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? -errno : 0;
}

/* Returns 0, or -errno if nobody takes it now. */
static int log_send(enum log_level level, const struct record *record, const char *text)
{
	/* One thread calls this, and sanitizers make frames large. */
	static char plain[PIPE_BUF - 64];
	int r;

	(void)escape(plain, sizeof(plain), text);
	if (record && record_send(level, record, plain) == 0)
		return 0;
	r = line_send(level, plain);
	if (r == 0 || r == -EAGAIN || record)
		return r;
	return record_send(level, &(const struct record){.id = NULL}, plain);
}

static int log_send_patiently(enum log_level level, const char *text)
{
	struct pollfd p = {
	        .fd = log_state.terminal >= 0 ? log_state.terminal : STDERR_FILENO,
	        .events = POLLOUT};
	int r = log_send(level, NULL, text);

	if (log_state.impatient)
		return r;
	if (r == -EAGAIN) {
		(void)poll(&p, 1, LOG_PATIENCE_MS);
		r = log_send(level, NULL, text);
	}
	/* The end of this line may be the last thing that is written. */
	while (r == 0 && log_state.rest_len && poll(&p, 1, LOG_PATIENCE_MS) == 1) {
		r = terminal_finish();
		r = r == -EAGAIN ? 0 : r;
	}
	log_state.impatient = r < 0 || log_state.rest_len;
	return r;
}

void log_flush(void)
{
	int saved = errno;
	char text[64];

	(void)terminal_finish();
	errno = saved;
	if (log_state.lost == 0)
		return;
	(void)snprintf(text, sizeof(text), "%lu log line%s lost: nobody read them",
	        log_state.lost, log_state.lost == 1 ? " was" : "s were");
	if (log_send(LOG_LEVEL_WARNING, NULL, text) == 0)
		log_state.lost = 0;
	errno = saved;
}

__attribute__((format(printf, 4, 0))) static void log_any(enum log_level level,
        const struct record *record, bool patiently, const char *format, va_list args)
{
	int saved = errno;
	char text[LOG_TEXT_MAX];

	if (level > log_state.level)
		return;
	log_flush();
	int r = vsnprintf(text, sizeof(text), format, args);
	if (r < 0)
		(void)snprintf(text, sizeof(text), "%s", format);
	else if ((size_t)r >= sizeof(text))
		memcpy(text + sizeof(text) - 4, "...", 4);
	r = patiently ? log_send_patiently(level, text) : log_send(level, record, text);
	if (r < 0)
		log_state.lost++;
	errno = saved;
}

#define LOG_FUNCTION(name, level, patiently) \
	void name(const char *format, ...) \
	{ \
		va_list args; \
		va_start(args, format); \
		log_any(level, NULL, patiently, format, args); \
		va_end(args); \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR, false)
LOG_FUNCTION(log_error_patiently, LOG_LEVEL_ERROR, true)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING, false)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO, false)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG, false)

void log_record(enum log_level level, const char *id, const struct log_field *field,
        size_t n, const char *format, va_list args)
{
	const struct record record = {.id = id, .field = field, .n = n};

	log_any(level, &record, false, format, args);
}
