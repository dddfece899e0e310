/*
 * options.h - the command line of portd.
 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* portd's exit codes, as portd(8) has them; the numbers are those of sysexits.h. */
enum exit_code {
	EXIT_STOPPED = 0,    /* stopped as asked */
	EXIT_FAILED = 1,     /* failure while running */
	EXIT_USAGE = 64,     /* wrong usage */
	EXIT_SYSTEM = 71,    /* the system refused something at start */
	EXIT_MISCONFIG = 78, /* wrong configuration, or more than the machine gives */
};

struct options {
	const char *file;       /* -c; NULL: the default */
	const char **overrides; /* -o, in order; owned, the texts are argv's */
	size_t n_overrides;
	bool check; /* -t */
	bool print; /* -T */
};

/* Not an exit code: go on and run. */
#define OPTIONS_RUN (-1)

/* Reads the command line. --help and --version print on stdout. A mistake is one line on
 * stderr. Returns OPTIONS_RUN with *ret filled (to be given to options_free), or the code
 * to exit with at once. */
int options_parse(int argc, char **argv, struct options *ret);
void options_free(struct options *o);

/* Flushes stdout. Returns EXIT_STOPPED, or EXIT_FAILED after a line on stderr if what was
 * printed could not be written (a full disk must not look like success). */
int options_finish_output(void);

/* portd's version, "0.1.0". */
const char *options_version(void);

#endif
