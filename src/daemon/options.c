/*
 * options.c - the command line of portd, read once, before anything else is done.
 */
#include <config.h>

#include "daemon/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/getopt_exact.h"
#include "core/config.h"

enum {
	OPTION_HELP = 1000,
	OPTION_VERSION
};

static const char options_help[] =
        "Usage: portd [-c FILE] [-o SECTION.KEY=VALUE]... [-t] [-T]\n"
        "Holds one TCP port: serves every connection the machine can honestly serve, "
        "gives\n"
        "each of the others a definite answer, and counts them all. Runs in the "
        "foreground.\n"
        "\n"
        "  -c FILE               read FILE and FILE.d/*.conf\n"
        "                        (default: " CONFIG_DEFAULT_FILE ", if it exists)\n"
        "  -o SECTION.KEY=VALUE  override a key; wins over files, also after a reload\n"
        "  -t                    check the configuration against this machine and exit\n"
        "  -T                    print the effective configuration and exit\n"
        "      --help            print this and exit\n"
        "      --version         print the version and exit\n"
        "\n"
        "Signals: TERM and INT stop, a second one stops at once; HUP reloads, and stops\n"
        "where it says that the terminal has hung up.\n"
        "\n"
        "Examples:\n"
        "  portd -o listener.address=127.0.0.1:7777 -o control.socket=/tmp/portd.sock\n"
        "  portd -t && systemctl reload portd\n"
        "\n"
        "Exit codes: 0 stopped as asked, 1 failed while running, 64 wrong usage,\n"
        "71 the system refused something at start, 78 wrong configuration.\n";

const char *options_version(void)
{
	return PACKAGE_VERSION;
}

int options_finish_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_STOPPED;
	(void)fprintf(stderr, "portd: cannot write to standard output: %m\n");
	return EXIT_FAILED;
}

static int options_parse_one(int c, struct options *o)
{
	switch (c) {
	case 'c':
		o->file = optarg;
		return OPTIONS_RUN;
	case 'o':
		o->overrides[o->n_overrides++] = optarg;
		return OPTIONS_RUN;
	case 't':
		o->check = true;
		return OPTIONS_RUN;
	case 'T':
		o->print = true;
		return OPTIONS_RUN;
	case OPTION_HELP:
		(void)fputs(options_help, stdout);
		return options_finish_output();
	case OPTION_VERSION:
		(void)printf("portd %s\n", options_version());
		return options_finish_output();
	default:
		/* getopt_exact has said what is wrong, in one line. */
		return EXIT_USAGE;
	}
}

int options_parse(int argc, char **argv, struct options *ret)
{
	static const struct option longs[] = {
	        {"help", no_argument, NULL, OPTION_HELP},
	        {"version", no_argument, NULL, OPTION_VERSION},
	        {NULL, 0, NULL, 0},
	};
	int r = OPTIONS_RUN;

	/* No command line has more -o than arguments. */
	*ret = (struct options){
	        .overrides = calloc((size_t)argc + 1, sizeof(*ret->overrides))};
	if (!ret->overrides) {
		(void)fprintf(stderr, "portd: %m\n");
		return EXIT_SYSTEM;
	}
	while (r == OPTIONS_RUN) {
		/* No other thread runs yet. */
		int c = getopt_exact(argc, argv, "c:o:tT", longs);
		if (c == -1)
			break;
		r = options_parse_one(c, ret);
	}
	if (r == OPTIONS_RUN && optind < argc) {
		(void)fprintf(stderr,
		        "portd: unexpected argument '%s'; see portd --help\n",
		        argv[optind]);
		r = EXIT_USAGE;
	}
	if (r != OPTIONS_RUN)
		options_free(ret);
	return r;
}

void options_free(struct options *o)
{
	/* The array is portd's own, the texts in it are argv's. */
	free((void *)o->overrides);
	o->overrides = NULL;
	o->n_overrides = 0;
}
