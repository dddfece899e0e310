/*
 * client.h - one request to portd's control socket, and its answer.
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/* Longest path of a unix socket, with its NUL: sizeof(sun_path), unix(7). */
#define CLIENT_PATH_MAX 108
/* More than any portd has to say, a thousand workers included; what is longer does not come from one. */
#define CLIENT_ANSWER_MAX       (UINT32_C(4) << 20)
#define CLIENT_ANSWER_LINES_MAX 65536U
/* portd gives nobody more than two minutes for an answer. */
#define CLIENT_LINES_NS (130 * CLOCK_SEC)

/* An answer: `len` bytes and a NUL after them. Whoever has sent it, none of them is anything but
 * printable ASCII or the end of a line: what portd does not say has become '?'. */
struct client_answer {
	char *bytes;
	size_t len;
	/* The process that listens at the socket, SO_PEERCRED; 0: it is in a pid namespace
	 * that cannot be seen from here. */
	uint64_t peer;
};

/* Positive outcomes of client_ask. */
enum client_outcome {
	CLIENT_NOBODY = 1, /* cannot connect: errno says why */
	CLIENT_TIMEOUT,    /* no complete answer within the deadline */
	CLIENT_EMPTY,      /* closed without an answer */
	CLIENT_CUT,        /* closed in the midst of a line */
	CLIENT_HUGE        /* longer than the bounds above */
};

/* Sends request (without its newline) to the socket at path, which is shorter than
 * CLIENT_PATH_MAX, and reads the whole answer, all of it within timeout_ns. Returns 0 and
 * fills *ret, which the caller gives to client_answer_destroy; an outcome above; or
 * -errno. Nothing is left in *ret but after 0. */
int client_ask(const char *path, const char *request, uint64_t timeout_ns,
        struct client_answer *ret);

/* A line of an answer, without its newline; it may be written to. Returns 0, or -errno to give up. */
typedef int client_line_fn(void *arg, char *line);
/* As client_ask, for answers of any length: hands each line on as it comes, and waits for patience_ns
 * each time, and for CLIENT_LINES_NS in all. A line longer than CLIENT_LINE_MAX is CLIENT_HUGE. Returns as client_ask, or
 * what `take` gave up with; lines may have been handed on whatever it returns. */
#define CLIENT_LINE_MAX 4096U
int client_ask_lines(const char *path, const char *request, uint64_t patience_ns,
        client_line_fn *take, void *arg);

/* Puts '?' for each byte that is neither printable ASCII nor the end of a line. */
void client_clean(char *bytes, size_t len);

/* Frees the bytes; accepts an empty one. */
void client_answer_destroy(struct client_answer *answer);

#define OWN_ANSWER __attribute__((cleanup(client_answer_destroy)))

#endif
