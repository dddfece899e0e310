/*
 * test_load_plan.c - portload's plan: every connection has a process with a descriptor and a source
 * with a port for it, over everything that users may ask and machines may have.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "load/plan.h"
#include "load/target.h"

static struct options asked(
        enum command command, uint64_t connections, const char *sources)
{
	struct options o = {.command = command, .connections = connections};

	cr_assert_eq(addr_parse("127.0.0.1:7777", &o.target), 0);
	cr_assert_eq(target_sources(sources, &o.target, &o.sources), 0, "%s", sources);
	return o;
}

/* The shares of all processes together; what each source carries in the worst case. */
static void check_shares(const struct options *o, const struct plan *plan)
{
	uint64_t connections = 0, count = 0, sample = 0, most = 0, least = UINT64_MAX;
	OWN_MEM uint64_t *ports = calloc(plan->sources, sizeof(*ports));

	cr_assert_not_null(ports);
	for (uint64_t i = 0; i < plan->processes; i++) {
		struct plan_share share;

		plan_share(plan, o, i, &share);
		cr_assert_leq(share.connections, plan->fds - PLAN_FDS_KEPT);
		cr_assert_leq(share.connections, share.sources * share.ports,
		        "%lu of %lu: %lu connections, %lu sources of %lu ports", i,
		        plan->processes, share.connections, share.sources, share.ports);
		connections += share.connections;
		sample += share.sample;
		count += o->count ? share.count : 0;
		cr_assert(o->count || share.count == UINT64_MAX);
		most = share.connections > most ? share.connections : most;
		least = share.connections < least ? share.connections : least;
		for (uint64_t k = 0; k < share.sources; k++) {
			uint64_t source = share.first + k * share.step;
			cr_assert_lt(source, plan->sources);
			ports[source] += share.ports;
		}
	}
	cr_assert_eq(connections, plan->connections);
	cr_assert_eq(sample, o->sample);
	cr_assert_eq(count, o->count);
	cr_assert_leq(most - least, 1);
	for (uint64_t s = 0; s < plan->sources; s++)
		cr_assert(ports[s] > 0 && ports[s] <= PLAN_PORTS, "source %lu: %lu", s,
		        ports[s]);
}

Test(load_plan, everything_asked_fits)
{
	static const uint64_t connections[] = {1, 2, 7, 64, 8999, 9000, 9001, 14116,
	        18000, 20000, 27000, 100000, 1000000};
	static const uint64_t fds[] = {PLAN_FDS_KEPT + 1, 256, 1024, 20000, 1048576};
	static const char *const sources[] = {NULL, "1", "2", "3", "5", "50", "1000",
	        "127.9.0.0/16", "127.9.9.9", "127.9.9.8/30"};

	for (size_t c = 0; c < ARRAY_SIZE(connections); c++)
		for (size_t f = 0; f < ARRAY_SIZE(fds); f++)
			for (size_t s = 0; s < ARRAY_SIZE(sources); s++)
				for (unsigned cpus = 1; cpus <= 4; cpus += cpus) {
					struct plan plan;
					struct options o = asked(
					        cpus == 2 ? COMMAND_HOLD : COMMAND_CHURN,
					        connections[c], sources[s]);
					o.sample = 13;
					o.count = cpus == 1 ? 5 : 0;
					cr_assert_eq(
					        plan_make(&o, fds[f], cpus, &plan), 0);
					check_shares(&o, &plan);
					cr_assert_leq(plan.connections, o.connections);
					cr_assert(plan.connections == o.connections ||
					          plan.connections == o.count ||
					          plan.short_of_sources ||
					          plan.short_of_processes);
				}
}

Test(load_plan, a_million_here)
{
	struct plan plan;
	struct options o = asked(COMMAND_HOLD, 1000000, NULL);

	cr_assert_eq(plan_make(&o, 20000, 2, &plan), 0);
	cr_assert_eq(plan.connections, 1000000);
	cr_assert_eq(
	        plan.processes, 51, "as few as have descriptors: %lu", plan.processes);
	cr_assert_eq(plan.sources, 153);
}

/* A number of sources that no number of processes goes into evenly, and which is above their bound. */
Test(load_plan, processes_stay_within_their_bound)
{
	static const char *const sources[] = {"3000", "4096", "4099", "8191", "11003"};

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		for (uint64_t asked_for = 1; asked_for <= 4096; asked_for += 1365) {
			struct plan plan;
			struct options o = asked(COMMAND_CHURN, 100000000, sources[i]);

			o.processes = asked_for;
			cr_assert_eq(plan_make(&o, 1048576, 2, &plan), 0);
			cr_assert_leq(plan.processes, PLAN_PROCESSES_MAX,
			        "%s sources: %lu", sources[i], plan.processes);
			check_shares(&o, &plan);
		}
}

Test(load_plan, sources_that_are_too_few_are_told)
{
	struct plan plan;
	struct options o = asked(COMMAND_HOLD, 20000, "2");

	cr_assert_eq(plan_make(&o, 20000, 2, &plan), 0);
	cr_assert_eq(plan.connections, 18000);
	cr_assert(plan.short_of_sources);
	cr_assert_eq(plan_make(&o, PLAN_FDS_KEPT, 2, &plan), -EMFILE);
}

Test(load_plan, one_ipv6_address_is_all_there_is)
{
	struct plan plan;
	struct options o = {.connections = 10000};

	cr_assert_eq(addr_parse("[::1]:7777", &o.target), 0);
	cr_assert_eq(target_sources("2", &o.target, &o.sources), -EADDRNOTAVAIL);
	cr_assert_eq(target_sources(NULL, &o.target, &o.sources), 0);
	cr_assert_eq(plan_make(&o, 20000, 2, &plan), 0);
	cr_assert_eq(plan.connections, PLAN_PORTS);
	cr_assert(plan.short_of_sources);
}

static const char *source_text(const char *text, uint64_t index, char buf[ADDR_HOST_MAX])
{
	struct options o = asked(COMMAND_HOLD, 1, text);
	struct addr addr;

	target_source(&o.sources, index, &addr);
	return addr_format_host(&addr, buf);
}

Test(load_plan, addresses_are_counted_through_their_bytes)
{
	char buf[ADDR_HOST_MAX];

	cr_assert_str_eq(source_text(NULL, 0, buf), "127.0.0.2");
	cr_assert_str_eq(source_text(NULL, 253, buf), "127.0.0.255");
	cr_assert_str_eq(source_text("70000", 254, buf), "127.0.1.0");
	cr_assert_str_eq(source_text("70000", 69999, buf), "127.1.17.113");
	cr_assert_str_eq(source_text("127.5.255.9/16", 0, buf), "127.5.0.1");
	cr_assert_str_eq(source_text("127.5.255.9/16", 65533, buf), "127.5.255.254");
	cr_assert_str_eq(source_text("127.5.0.9", 0, buf), "127.5.0.9");
	cr_assert_str_eq(source_text("127.5.0.9/31", 1, buf), "127.5.0.9");
}

Test(load_plan, networks_have_as_many_addresses_as_they_have)
{
	static const struct {
		const char *text;
		int result;
		uint64_t count;
	} cases[] = {{"127.5.0.9", 0, 1}, {"127.5.0.8/32", 0, 1}, {"127.5.0.8/31", 0, 2},
	        {"127.5.0.8/30", 0, 2}, {"127.5.0.0/24", 0, 254},
	        {"127.5.0.0/16", 0, 65534}, {"127.0.0.0/8", 0, 1000000}, {"1", 0, 1},
	        {"1000000", 0, 1000000}, {"0", -ERANGE, 0}, {"1000001", -ERANGE, 0},
	        {"", -EINVAL, 0}, {"x", -EINVAL, 0}, {"127.5.0.0/", -EINVAL, 0},
	        {"127.5.0.0/33", -EINVAL, 0}, {"/8", -EINVAL, 0},
	        {"127.5.0.0/8/8", -EINVAL, 0}, {"::1", -EAFNOSUPPORT, 0},
	        {"fd00::/64", -EAFNOSUPPORT, 0}, {"-1", -EINVAL, 0}};
	struct options o = {0};

	cr_assert_eq(addr_parse("127.0.0.1:1", &o.target), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r = target_sources(cases[i].text, &o.target, &o.sources);
		cr_assert_eq(r, cases[i].result, "%s: %d", cases[i].text, r);
		if (r == 0)
			cr_assert_eq(o.sources.count, cases[i].count, "%s: %lu",
			        cases[i].text, o.sources.count);
	}
	cr_assert_eq(addr_parse("[::1]:1", &o.target), 0);
	cr_assert_eq(target_sources("fd00::7/112", &o.target, &o.sources), 0);
	cr_assert_eq(o.sources.count, 65534);
}

static int parse(const char *text, struct addr *ret)
{
	const char *why = NULL;
	char told[ADDR_TEXT_MAX];
	return target_parse(text, ret, told, &why);
}

Test(load_plan, targets)
{
	static const char *const wrong[] = {"", "7777", ":7777", "127.0.0.1",
	        "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:7777", "[::1]",
	        "[::1]:", "[::1:7777", "localhost:x", "localhost:0", "127.0.0.1/8:7777"};
	static const struct {
		const char *text;
		bool loopback;
	} right[] = {{"127.0.0.1:1", true}, {"127.255.0.3:1", true}, {"[::1]:1", true},
	        {"[::ffff:127.0.0.1]:1", true}, {"128.0.0.1:1", false},
	        {"0.0.0.0:1", false}, {"[::2]:1", false}, {"[::]:1", false},
	        {"[fe80::1%1]:1", false}};
	struct addr addr;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		cr_assert_eq(parse(wrong[i], &addr), -EINVAL, "%s", wrong[i]);
	for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
		cr_assert_eq(parse(right[i].text, &addr), 0, "%s", right[i].text);
		cr_assert_eq(target_is_loopback(&addr), right[i].loopback, "%s",
		        right[i].text);
	}
}
