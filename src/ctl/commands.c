/*
 * commands.c - what portctl's commands do with portd's answer.
 *
 * Invariants: nothing is printed as data that was not a whole answer; a failure leaves one reason
 * on stderr.
 */
#include "ctl/commands.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/plural.h"
#include "ctl/limits.h"
#include "ctl/output.h"
#include "ctl/reason.h"

#define REASON_MAX 1024
/* Of a refusal; a configuration may have many mistakes. */
#define REFUSAL_LINES    100U
#define REFUSAL_LINE_MAX 1024

int commands_put(const char *text, size_t len)
{
	int r = output_write_standard(text, len);

	if (r == 0)
		return EXIT_DONE;
	errno = -r;
	(void)fprintf(stderr, "portctl: cannot write to standard output: %m\n");
	return EXIT_REFUSED;
}

int commands_say(const char *text)
{
	return commands_put(text, strlen(text));
}

int commands_no_portd(const char *path)
{
	(void)fprintf(stderr, "portctl: what answers at %s is no portd\n", path);
	return EXIT_NO_ANSWER;
}

/* A line of at most REFUSAL_LINE_MAX bytes; what is not printable comes out as \xNN. */
static void refused_line(const char *text, size_t len)
{
	for (size_t i = 0; i < len && i < REFUSAL_LINE_MAX; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= ' ' && c <= '~')
			(void)putc(c, stderr);
		else
			(void)fprintf(stderr, "\\x%02x", c);
	}
	(void)fputs(len > REFUSAL_LINE_MAX ? "...\n" : "\n", stderr);
}

int commands_refused(const char *text, size_t len)
{
	const char *end = text + len;
	size_t lines = 0;

	(void)fputs("portctl: ", stderr);
	do {
		const char *eol = memchr(text, '\n', (size_t)(end - text));

		if (!eol)
			eol = end;
		if (lines++ < REFUSAL_LINES)
			refused_line(text, (size_t)(eol - text));
		text = eol < end ? eol + 1 : end;
	} while (text < end);
	if (lines > REFUSAL_LINES)
		(void)fprintf(stderr, "portctl: ... and %zu more line%s\n",
		        lines - REFUSAL_LINES, PLURAL(lines - REFUSAL_LINES));
	return EXIT_REFUSED;
}

int commands_ask(const struct command_call *call, struct client_answer *ret)
{
	static const char error[] = "error:";
	char reason[REASON_MAX];
	int r = client_ask(call->path, call->request, call->timeout_s * CLOCK_SEC, ret);

	if (r) {
		reason_format(
		        call->path, r, errno, call->timeout_s, reason, sizeof(reason));
		(void)fprintf(stderr, "portctl: %s\n", reason);
		return EXIT_NO_ANSWER;
	}
	if (strncmp(ret->bytes, error, strlen(error)) == 0)
		return commands_refused(ret->bytes, ret->len);
	return EXIT_DONE;
}

int commands_print(const struct command_call *call)
{
	OWN_ANSWER struct client_answer answer = {0};
	int code = commands_ask(call, &answer);

	if (code != EXIT_DONE)
		return code;
	if (!call->output)
		return commands_put(answer.bytes, answer.len);

	int r = output_write_file(call->output, answer.bytes, answer.len);
	if (r == 0)
		return EXIT_DONE;
	errno = -r;
	if (r == -EINVAL)
		(void)fprintf(stderr,
		        "portctl: %s is not a regular file, and is left alone\n",
		        call->output);
	else
		(void)fprintf(stderr, "portctl: cannot write %s: %m\n", call->output);
	return EXIT_REFUSED;
}

/* The word is the answer, and the exit code says whether it is the first, the good one. */
static int judge_word(const struct command_call *call, const char *const *words, size_t n)
{
	OWN_ANSWER struct client_answer answer = {0};
	int code = commands_ask(call, &answer);
	bool known = false;

	if (code != EXIT_DONE)
		return code;
	for (size_t i = 0; i < n; i++)
		known = known || strcmp(answer.bytes, words[i]) == 0;
	if (!known || strlen(answer.bytes) != answer.len)
		return commands_no_portd(call->path);

	int printed = commands_put(answer.bytes, answer.len);

	return strcmp(answer.bytes, words[0]) == 0 ? printed : EXIT_REFUSED;
}

int commands_health(const struct command_call *call)
{
	static const char *const states[] = {
	        "open\n", "shedding\n", "full\n", "draining\n", "down\n"};

	return judge_word(call, states, ARRAY_SIZE(states));
}

int commands_health_live(const struct command_call *call)
{
	static const char *const live[] = {"live\n"};

	return judge_word(call, live, ARRAY_SIZE(live));
}

typedef void limits_render_fn(const struct limits_chain *c, FILE *out);

/* Rendered first, so that standard output gets all of it or nothing. */
static int print_limits(const struct limits_chain *chain, limits_render_fn *render)
{
	OWN_MEM char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out) {
		render(chain, out);
		if (fclose(out) == 0)
			return commands_put(text, len);
	}
	(void)fputs("portctl: not enough memory\n", stderr);
	return EXIT_REFUSED;
}

static int limits(const struct command_call *call, limits_render_fn *render)
{
	OWN_MEM struct limits_chain *chain = calloc(1, sizeof(*chain));
	int r = chain ? limits_collect(call, chain) : -ENOMEM;

	if (r == 0)
		return print_limits(chain, render);
	if (r == -EINVAL)
		return commands_no_portd(call->path);
	const char *why = r > 0 ? chain->why_not : "not enough memory";
	return commands_refused(why, strlen(why));
}

int commands_limits(const struct command_call *call)
{
	return limits(call, limits_render_text);
}

int commands_limits_json(const struct command_call *call)
{
	return limits(call, limits_render_json);
}
