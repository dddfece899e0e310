/*
 * events.c - answers that tell of times; and `portctl events --follow`, which asks again and again.
 *
 * Invariant: each answer ends with a cursor, which the next request takes up, so that no event is
 * printed twice and none is passed over in silence.
 */
#include "ctl/commands.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/own.h"
#include "ctl/local.h"

#define FOLLOW_PAUSE_MS 500
/* Longest cursor and longest request that fit into portd's. */
#define CURSOR_MAX  64
#define REQUEST_MAX 128

/* Whoever has seen enough; wherever it comes. */
static void on_interrupt(int number)
{
	(void)number;
	_exit(EXIT_DONE);
}

/* Rendered first, so that standard output gets all of it or nothing. */
static int put_local(const char *text, size_t len)
{
	OWN_MEM char *local = NULL;
	size_t local_len = 0;
	FILE *out = open_memstream(&local, &local_len);

	if (out) {
		local_write(text, len, out);
		if (fclose(out) == 0)
			return commands_put(local, local_len);
	}
	(void)fputs("portctl: not enough memory\n", stderr);
	return EXIT_REFUSED;
}

static int put_times(const struct command_call *call, const char *text, size_t len)
{
	return call->utc ? commands_put(text, len) : put_local(text, len);
}

int commands_print_times(const struct command_call *call)
{
	OWN_ANSWER struct client_answer answer = {0};
	int code = commands_ask(call, &answer);

	return code == EXIT_DONE ? put_times(call, answer.bytes, answer.len) : code;
}

/* Cuts the last line, «cursor CURSOR», off. Returns what is left of the length, -1 if there is none. */
static ssize_t take_cursor(
        const struct client_answer *answer, char ret[static CURSOR_MAX])
{
	static const char word[] = "cursor ";
	size_t begin = answer->len - 1;

	while (begin > 0 && answer->bytes[begin - 1] != '\n')
		begin--;
	const char *line = answer->bytes + begin;
	size_t len = answer->len - begin;
	if (len <= sizeof(word) || len - sizeof(word) >= CURSOR_MAX ||
	        strncmp(line, word, sizeof(word) - 1) != 0)
		return -1;
	len -= sizeof(word);
	memcpy(ret, line + sizeof(word) - 1, len);
	ret[len] = '\0';
	return (ssize_t)begin;
}

/* Asks for what came since the cursor, which moves on, and prints it. Returns the exit code. */
static int follow_once(const struct command_call *call, char cursor[static CURSOR_MAX])
{
	OWN_ANSWER struct client_answer answer = {0};
	char request[REQUEST_MAX];
	struct command_call ask = *call;

	(void)snprintf(request, sizeof(request), "%s %s", call->request, cursor);
	ask.request = request;
	int code = commands_ask(&ask, &answer);
	/* The one refusal of a cursor of portd's own: it comes from another portd. */
	if (code == EXIT_REFUSED && strcmp(cursor, "0") != 0)
		return EXIT_NO_ANSWER;
	if (code != EXIT_DONE)
		return code;
	ssize_t len = take_cursor(&answer, cursor);
	return len < 0 ? commands_no_portd(call->path)
	               : put_times(call, answer.bytes, (size_t)len);
}

/* Waits; returns false if there is nobody any more who reads what is printed. */
static bool follow_pause(void)
{
	struct pollfd out = {.fd = STDOUT_FILENO};

	/* Asks for nothing: an error and a hang-up are told all the same. */
	return poll(&out, 1, FOLLOW_PAUSE_MS) <= 0 ||
	       !(out.revents & (POLLERR | POLLHUP));
}

int commands_follow(const struct command_call *call)
{
	const struct sigaction enough = {.sa_handler = on_interrupt};
	struct sigaction before;
	char cursor[CURSOR_MAX] = "0";
	int code;

	/* Ignored, it stays so: a shell starts what is to go on that way. */
	if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
		(void)sigaction(SIGINT, &enough, NULL);
	while ((code = follow_once(call, cursor)) == EXIT_DONE && follow_pause())
		;
	return code;
}
