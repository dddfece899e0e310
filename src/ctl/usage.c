/*
 * usage.c - what portctl says about itself.
 *
 * Invariants: the text of --help and the table of words name every command that portctl.c
 * has.
 */
#include "config.h"

#include "ctl/usage.h"

#include "base/near.h"
#include "base/own.h"

const char usage_help[] =
        "usage: portctl [-s SOCKET] [-i INSTANCE] COMMAND [OPTION]...\n"
        "Ask a running portd, or tell it something.\n"
        "\n"
        "Commands:\n"
        "  stats             print what portd counts, for people\n"
        "    --json            as one JSON object\n"
        "    --prometheus      in Prometheus' text format 0.0.4\n"
        "    --openmetrics     in OpenMetrics 1.0\n"
        "    --output FILE     into FILE, which is replaced whole or not at all\n"
        "  health            print the state: open, shedding, full, draining, down;\n"
        "                    exit 0 only if it is open and a worker turns (for "
        "readiness\n"
        "                    probes)\n"
        "    --live            exit 0 unless a worker has stalled or the port is down\n"
        "                      (for liveness probes)\n"
        "  limits            how many connections the port can hold, and what stops it;\n"
        "                    also without a portd\n"
        "    --json            as one JSON object\n"
        "  events            what portd has been through: when it was full, why, whom "
        "it shed\n"
        "    --follow          and go on: print each event as it comes\n"
        "    --json            an object a line\n"
        "    --utc             times in UTC, not local time\n"
        "  explain ADDRESS   what would become of a client from there, rule by rule, and "
        "why\n"
        "                    earlier ones were shed\n"
        "    --json            as one JSON object\n"
        "    --utc             times in UTC, not local time\n"
        "  conns             the open connections: tuple, worker, age, idle time, bytes\n"
        "    --source NETWORK  those of clients from this network or address\n"
        "    --sort KEY        by age (default), idle, bytes, in, out, source, worker\n"
        "    --limit N         the first N; 0: all; on a terminal 100 if not given\n"
        "    --json            as one JSON object\n"
        "  drain             take no new connections; the open ones go on\n"
        "    --off             take new connections again\n"
        "  reload            read the configuration again and wait for the verdict\n"
        "\n"
        "Options:\n"
        "  -s SOCKET         the control socket; else that of -i, else $PORTD_SOCKET,\n"
        "                    else /run/portd/control.sock\n"
        "  -i INSTANCE       the socket /run/portd-INSTANCE/control.sock\n"
        "  --help            print this and exit\n"
        "  --version         print the version and exit\n"
        "\n"
        "Exit status: 0 done; 1 refused or failed, the reason is on stderr; 2 no "
        "answer;\n"
        "64 wrong usage. drain and reload are for root and portd's own user.\n"
        "\n"
        "Examples:\n"
        "  portctl stats\n"
        "  portctl stats --json | jq .shed\n"
        "  portctl stats --prometheus --output "
        "/var/lib/prometheus/node-exporter/portd.prom\n"
        "  portctl limits\n"
        "  portctl -i web health || echo 'not ready'\n";

const char usage_version[] = "portctl " PACKAGE_VERSION "\n";

static const struct near_word words[] = {
        {"stats", "stats"},
        {"status", "stats"},
        {"statistics", "stats"},
        {"health", "health"},
        {"limits", "limits"},
        {"ulimit", "limits"},
        {"events", "events"},
        {"log", "events"},
        {"history", "events"},
        {"explain", "explain ADDRESS"},
        {"why", "explain ADDRESS"},
        {"conns", "conns"},
        {"connections", "conns"},
        {"list", "conns"},
        {"drain", "drain"},
        {"undrain", "drain --off"},
        {"reload", "reload"},
        {"help", "--help"},
        {"version", "--version"},
};

const char *usage_suggest(const char *word)
{
	return near_suggest(word, words, ARRAY_SIZE(words));
}
