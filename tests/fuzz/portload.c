/*
 * portload.c - portload's command line, a word in each line; then the plan that follows from it. The
 * last line may be «: FDS CPUS». No name is looked up: there is «localhost», and nobody else.
 */
#include "fuzz.h"

#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/own.h"
#include "base/parse.h"
#include "load/options.h"
#include "load/plan.h"
#include "load/target.h"

#define WORDS_MAX 40

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
        struct addrinfo **ret);
void __wrap_freeaddrinfo(struct addrinfo *list);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
        struct addrinfo **ret)
{
	static struct sockaddr_in in;
	static struct addrinfo info;
	uint64_t number = 0;

	FUZZ_CHECK(parse_uint(port, &number) == 0 && number > 0 && number <= 65535 &&
	                   hints->ai_socktype == SOCK_STREAM,
	        "%s:%s is asked for", host, port);
	if (strcmp(host, "localhost") != 0)
		return host[0] == 'z' ? EAI_AGAIN : EAI_NONAME;
	in = (struct sockaddr_in){.sin_family = AF_INET,
	        .sin_port = htons((uint16_t)number),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	info = (struct addrinfo){.ai_family = AF_INET,
	        .ai_addr = (struct sockaddr *)&in,
	        .ai_addrlen = sizeof(in)};
	*ret = &info;
	return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
	FUZZ_CHECK(list, "nothing is given back");
}

static bool is_within(uint64_t n, uint64_t least, uint64_t greatest)
{
	return n >= least && n <= greatest;
}

static bool is_time(uint64_t ns, uint64_t least)
{
	return ns == CLOCK_INFINITY || is_within(ns, least, 30 * 24 * 3600 * CLOCK_SEC);
}

/* What portload(1) says of each option. */
static void check_ranges(const struct options *o)
{
	FUZZ_CHECK(o->command <= COMMAND_RAMP, "command %u", o->command);
	FUZZ_CHECK(is_within(o->connections, 1, 100000000), "connections");
	FUZZ_CHECK(is_within(o->rate, o->command == COMMAND_RAMP, 100000000), "rate");
	FUZZ_CHECK(o->sample <= 100000000 && o->processes <= 4096, "sample, processes");
	FUZZ_CHECK(is_time(o->duration, CLOCK_MSEC) && is_time(o->timeout, CLOCK_MSEC) &&
	                   is_time(o->settle, 0),
	        "times");
	FUZZ_CHECK(o->payload && o->payload_len <= OPTIONS_PAYLOAD_MAX, "payload");
	FUZZ_CHECK(!o->speaks || o->payload_len > 0, "it says nothing");
	FUZZ_CHECK(!o->sample || o->payload_len > 0, "a sample that says nothing");
	FUZZ_CHECK(o->message_len <= OPTIONS_MESSAGE_MAX, "message");
	FUZZ_CHECK(o->target.port > 0, "no port");
	FUZZ_CHECK(o->command == COMMAND_HOLD || o->sample == 0, "sample");
	FUZZ_CHECK(o->count == 0 || o->command == COMMAND_CHURN ||
	                   o->command == COMMAND_FLOOD,
	        "count");
}

static void check_sources(const struct options *o)
{
	const struct source_range *s = &o->sources;
	struct addr first, last;

	FUZZ_CHECK(s->limit >= 1 && s->count <= OPTIONS_SOURCES_MAX &&
	                   (s->count == 0 || s->count == s->limit),
	        "%llu sources of %llu", (unsigned long long)s->count,
	        (unsigned long long)s->limit);
	FUZZ_CHECK(s->base.family == AF_UNSPEC || s->base.family == o->target.family,
	        "sources of another family");
	if (s->base.family == AF_UNSPEC)
		return;
	target_source(s, 0, &first);
	target_source(s, s->limit - 1, &last);
	/* None below the first: it would have gone round. */
	FUZZ_CHECK(memcmp(first.bytes, last.bytes, sizeof(first.bytes)) <= 0 &&
	                   first.port == 0 && last.port == 0,
	        "the last source is before the first");
	FUZZ_CHECK(!addr_equal(&first, &last) || s->limit == 1, "two sources are one");
}

/* As tests/unit/test_load_plan.c, for whatever is asked. */
static void check_plan(const struct options *o, uint64_t fds, uint64_t cpus)
{
	uint64_t connections = 0, count = 0, sample = 0;
	struct plan_share share;
	struct plan plan;
	int r = plan_make(o, fds, cpus, &plan);

	FUZZ_CHECK(r == (fds <= PLAN_FDS_KEPT ? -EMFILE : 0), "plan_make: %d", r);
	if (r != 0)
		return;
	FUZZ_CHECK(is_within(plan.connections, 1, o->connections), "connections");
	FUZZ_CHECK(is_within(plan.processes, 1, PLAN_PROCESSES_MAX), "%llu processes",
	        (unsigned long long)plan.processes);
	FUZZ_CHECK(is_within(plan.sources, 1, o->sources.limit), "sources");
	for (uint64_t i = 0; i < plan.processes; i++) {
		plan_share(&plan, o, i, &share);
		FUZZ_CHECK(share.connections <= fds - PLAN_FDS_KEPT, "a full table");
		FUZZ_CHECK(share.sources >= 1 &&
		                   share.connections <= share.sources * share.ports,
		        "%llu connections, %llu sources of %llu ports",
		        (unsigned long long)share.connections,
		        (unsigned long long)share.sources,
		        (unsigned long long)share.ports);
		FUZZ_CHECK(share.first + (share.sources - 1) * share.step < plan.sources,
		        "a source that is none");
		connections += share.connections;
		count += o->count ? share.count : 0;
		sample += share.sample;
	}
	FUZZ_CHECK(connections == plan.connections && count == o->count &&
	                   sample == o->sample,
	        "the shares do not add up");
}

/* Takes «: FDS CPUS» off the end. */
static void take_machine(char **words, int *n, uint64_t *ret_fds, uint64_t *ret_cpus)
{
	if (*n < 2 || words[*n - 1][0] != ':')
		return;
	char *fds = words[--*n] + 1, *rest = NULL;
	char *word = strtok_r(fds, " ", &rest);

	if (word && parse_uint(word, ret_fds) == 0 && *ret_fds > 1048576)
		*ret_fds = 1048576;
	word = strtok_r(NULL, " ", &rest);
	if (word && parse_uint(word, ret_cpus) == 0 && !is_within(*ret_cpus, 1, 1024))
		*ret_cpus = 1;
	free(words[*n]);
	words[*n] = NULL;
}

/* Reads the command line; what was said is checked. Returns what options_read does. */
static int read_options(int n, char **words, struct options *o)
{
	FILE *const out = stdout, *const err = stderr;
	struct fuzz_taken said, told;

	stdout = fuzz_take(&said);
	stderr = fuzz_take(&told);
	optind = 0;
	int code = options_read(n, words, o);
	stdout = out;
	stderr = err;
	fuzz_taken(&said);
	fuzz_taken(&told);
	FUZZ_CHECK(
	        code == -1 || code == EXIT_DONE || code == EXIT_USAGE, "code %d", code);
	FUZZ_CHECK((code == EXIT_USAGE) == (told.len > 0), "code %d, told: %s", code,
	        told.text);
	FUZZ_CHECK((code == EXIT_DONE) == (said.len > 0), "code %d, said: %s", code,
	        said.text);
	FUZZ_CHECK(told.len == 0 || strncmp(told.text, "portload: ", 10) == 0, "told: %s",
	        told.text);
	fuzz_drop(&said);
	fuzz_drop(&told);
	return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_piece rest = {(const char *)data, size};
	char *words[WORDS_MAX + 2] = {strdup("portload")}, *moved[WORDS_MAX + 2];
	uint64_t fds = 20000, cpus = 2;
	struct options options;
	int n = 1;

	while (rest.len > 0 && n <= WORDS_MAX)
		words[n++] = fuzz_text(fuzz_cut(&rest, "\n"));
	take_machine(words, &n, &fds, &cpus);
	/* getopt moves them about. */
	memcpy(moved, words, sizeof(moved));
	if (read_options(n, moved, &options) == -1) {
		check_ranges(&options);
		check_sources(&options);
		check_plan(&options, fds, cpus);
	}
	options_destroy(&options);
	for (int i = 0; i < n; i++)
		free(words[i]);
	return 0;
}
