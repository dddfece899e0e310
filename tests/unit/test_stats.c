/*
 * test_stats.c - the renderings for machines, of a filled snapshot, of one at 0 and of
 * one at the limits of its types: every row of every table is there, JSON passes a strict
 * reader, Prometheus' text passes promtool where it is installed.
 */
#define _GNU_SOURCE
#include "stats_sample.h"

#include <inttypes.h>
#include <unistd.h>

static unsigned occurrences(const char *text, const char *part)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, part)); p++)
		n++;
	return n;
}

/* Runs a command with the text on its standard input; its exit code. What it says goes to
 * ours, but it must say nothing where `silent`. */
static int feed(const char *command, const char *text, bool silent)
{
	char path[] = "/tmp/portd-test-stats.XXXXXX",
	     said[] = "/tmp/portd-test-stats.XXXXXX";
	OWN_MEM char *line = NULL;
	OWN_FD int fd = mkstemp(path);
	OWN_FD int said_fd = mkstemp(said);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_geq(asprintf(&line, "%s <%s >%s 2>&1; r=$?; cat %s; exit $r", command,
	                      path, said, said),
	        0);
	int status = system(line);
	off_t words = lseek(said_fd, 0, SEEK_END);
	(void)unlink(path);
	(void)unlink(said);
	cr_assert(!silent || words == 0, "%s has complaints", command);
	return WEXITSTATUS(status);
}

/* No member twice, no NaN, nothing after the object. */
#define STRICT_JSON \
	"/usr/bin/python3 -c 'import json, sys\n" \
	"def once(pairs):\n" \
	"    assert len(dict(pairs)) == len(pairs), pairs\n" \
	"    return dict(pairs)\n" \
	"def never(x): raise ValueError(x)\n" \
	"s = json.load(sys.stdin, object_pairs_hook=once, parse_constant=never)\n"

static void assert_json(const char *text, const char *check)
{
	OWN_MEM char *command = NULL;

	if (access("/usr/bin/python3", X_OK) < 0)
		cr_skip_test("no /usr/bin/python3 to read JSON with");
	cr_assert_geq(asprintf(&command, STRICT_JSON "%s'", check), 0);
	cr_assert_eq(feed(command, text, true), 0, "in %s", text);
}

Test(stats, json_has_every_path)
{
	struct stats s = filled();
	OWN_MEM char *text = render(stats_render_json, &s);

	assert_json(text,
	        "assert s[\"state\"] == \"full\" and s[\"version\"] == \"0.1.0\"\n"
	        "assert s[\"pid\"] == 4242 and s[\"uptime_seconds\"] == 3723.5\n"
	        "assert s[\"time_in_state_seconds\"] == {\"open\": 3700, \"shedding\": "
	        "0,\n"
	        "    \"full\": 23.5, \"draining\": 0, \"down\": 0}\n"
	        "assert s[\"listener\"] == {\"address\": \"127.0.0.1:7777\",\n"
	        "    \"backlog_configured\": 8192, \"backlog_effective\": 4096,\n"
	        "    \"queue_depth\": 17, \"queue_depth_peak\": 99, \"kernel_drops\": "
	        "5,\n"
	        "    \"gate\": \"closed\", \"gates\": 2, \"gated_seconds\": 1.5}\n"
	        "assert s[\"budget\"] == {\"fds\": 20000, \"fds_in_use\": 861,\n"
	        "    \"fds_per_connection\": 1, \"max_connections\": 19936,\n"
	        "    \"connections\": 812, \"connections_peak\": 1203, \"held\": 1,\n"
	        "    \"priority_slots\": 16, \"priority_connections\": 4, \"lingering\": "
	        "3, \"bound_by\": \"fds\"}\n"
	        "assert s[\"accept\"][\"accepted\"] == 5000 and s[\"accept\"][\"calls\"] "
	        "== 6001\n"
	        "assert s[\"traffic\"] == {\"bytes_in\": 1048576, \"bytes_out\": 1536}\n"
	        "assert s[\"keepalive\"] == {\"probes\": 4711, \"period_seconds\": "
	        "90.5}\n"
	        "w = s[\"queue_wait_seconds\"]\n"
	        "assert w[\"count\"] == 100 and abs(w[\"sum\"] - 30.000000001) < 1e-12\n"
	        "assert list(w[\"buckets\"].items()) == [(\"0.001\", 49), (\"0.005\", "
	        "50),\n"
	        "    (\"0.01\", 50), (\"0.025\", 50), (\"0.05\", 50), (\"0.1\", 50),\n"
	        "    (\"0.25\", 50), (\"0.5\", 99), (\"1\", 99), (\"2.5\", 99), (\"5\", "
	        "99),\n"
	        "    (\"10\", 99), (\"+Inf\", 100)]\n"
	        "assert s[\"workers\"][1] == {\"id\": 1, \"connections\": 406,\n"
	        "    \"accepted\": 2400, \"loops\": 8, \"longest_loop_seconds\": 2}\n"
	        "assert s[\"workers\"][0][\"longest_loop_seconds\"] == 1.5e-06\n"
	        "assert s[\"sources\"] == {\"capacity\": 85536, \"used\": 700, \"open\": "
	        "300,\n"
	        "    \"bytes\": 9000000, \"forgotten\": 12, \"forgotten_early\": 3, "
	        "\"unbooked\": 1}\n"
	        "assert len(s[\"workers\"]) == 2\n");
}

Test(stats, json_has_every_row_at_0)
{
	struct stats s = with_every_number(0);
	OWN_MEM char *text = render(stats_render_json, &s);

	assert_json(text,
	        "assert list(s[\"accept\"][\"errors\"].items()) == [(e, 0) for e in\n"
	        "    \"EMFILE ENFILE ENOBUFS ENOMEM ECONNABORTED EINTR EPROTO EPERM "
	        "OTHER\".split()]\n"
	        "assert s[\"shed\"] == dict.fromkeys(\"aborted denied draining "
	        "source_limit "
	        "source_rate rate pressure memory fds full backlog\".split(), 0)\n"
	        "assert s[\"would_shed\"] == s[\"shed\"]\n"
	        "assert s[\"closed\"] == dict.fromkeys(\"client service reset timeout "
	        "killed "
	        "first_byte "
	        "idle lifetime evicted drained error\".split(), 0)\n");
}

Test(stats, json_rows_are_in_their_places)
{
	struct stats s = filled();
	OWN_MEM char *text = render(stats_render_json, &s);

	assert_json(text,
	        "assert s[\"accept\"][\"errors\"][\"EMFILE\"] == 12\n"
	        "assert s[\"accept\"][\"errors\"][\"OTHER\"] == 1\n"
	        "assert s[\"shed\"][\"full\"] == 1180 and s[\"shed\"][\"aborted\"] == 7\n"
	        "assert s[\"closed\"][\"client\"] == 2999 and s[\"closed\"][\"idle\"] == "
	        "1\n"
	        "assert sum(s[\"shed\"].values()) == 1187\n"
	        "assert sum(s[\"closed\"].values()) == 3000\n");
}

Test(stats, json_is_strict_at_the_limits_and_with_any_string)
{
	struct stats s = with_every_number(UINT64_MAX);

	s.version = "0\"\\\n\x01\x7f\xff";
	OWN_MEM char *text = render(stats_render_json, &s);
	assert_json(text, "assert s[\"version\"] == \"0\\x22\\\\\\n\\x01\\x7f\\xff\", "
	                  "s[\"version\"]\n"
	                  "assert s[\"budget\"][\"connections\"] == 2 ** 64 - 1\n"
	                  "assert s[\"accept\"][\"accepted\"] == 2 ** 64 - 1\n");
	cr_assert(has(text, "\"uptime_seconds\":18446744073.709551615,"));
	cr_assert_eq(occurrences(text, "\n"), 1);
}

/* Every row of the tables is a sample; HELP and TYPE stand once, before it. */
static void assert_rows(const char *text, bool openmetrics)
{
	static const char *const metrics[] = {
#define X(name, json, metric, help) metric,
#include "core/counters.def"
#undef X
	};
	char line[128];

	for (unsigned i = 0; i < ARRAY_SIZE(metrics); i++) {
		int len = (int)strlen(metrics[i]) - (openmetrics ? 6 : 0);
		(void)snprintf(line, sizeof(line), "# TYPE %.*s counter\n%s ", len,
		        metrics[i], metrics[i]);
		cr_assert_eq(occurrences(text, line), 1, "%s", line);
	}
	for (unsigned i = 0; i < ACCEPT_ERROR_COUNT; i++) {
		(void)snprintf(line, sizeof(line),
		        "\nportd_accept_errors_total{errno=\"%s\"} ",
		        counters_accept_error_name(i));
		cr_assert_eq(occurrences(text, line), 1, "%s", line);
	}
	for (unsigned i = 0; i < SHED_COUNT; i++) {
		(void)snprintf(line, sizeof(line),
		        "\nportd_shed_connections_total{reason=\"%s\"} ",
		        counters_shed_name(i));
		cr_assert_eq(occurrences(text, line), 1, "%s", line);
	}
	for (unsigned i = 0; i < CLOSE_COUNT; i++) {
		(void)snprintf(line, sizeof(line),
		        "\nportd_closed_connections_total{reason=\"%s\"} ",
		        counters_close_name(i));
		cr_assert_eq(occurrences(text, line), 1, "%s", line);
	}
	cr_assert_eq(occurrences(text, "# HELP "), occurrences(text, "# TYPE "));
}

Test(stats, prometheus_has_every_row_at_0)
{
	struct stats s = with_every_number(0);
	OWN_MEM char *text = render(stats_render_prometheus, &s);
	OWN_MEM char *open_text = render(stats_render_openmetrics, &s);

	assert_rows(text, false);
	assert_rows(open_text, true);
}

Test(stats, prometheus_says_what_was_counted)
{
	struct stats s = filled();
	OWN_MEM char *text = render(stats_render_prometheus, &s);

	assert_line(text, "portd_build_info{version=\"0.1.0\"} 1");
	assert_line(text, "portd_uptime_seconds 3723.5");
	assert_line(text, "portd_state{state=\"full\"} 1");
	assert_line(text, "portd_state{state=\"open\"} 0");
	assert_line(text, "portd_state_seconds_total{state=\"full\"} 23.5");
	assert_line(text, "portd_listener_info{address=\"127.0.0.1:7777\"} 1");
	assert_line(text, "portd_listener_queue_depth 17");
	assert_line(text, "# TYPE portd_listener_kernel_drops_total counter");
	assert_line(text, "portd_listener_kernel_drops_total 5");
	assert_line(text, "portd_fds_budget 20000");
	assert_line(text, "portd_fds_in_use 861");
	assert_line(text, "portd_connections_max 19936");
	assert_line(text, "portd_connections 812");
	assert_line(text, "portd_held_connections 1");
	assert_line(text, "portd_connections_bound_by{limit=\"fds\"} 1");
	assert_line(text, "portd_accepted_connections_total 5000");
	assert_line(text, "portd_accept_errors_total{errno=\"EMFILE\"} 12");
	assert_line(text, "portd_shed_connections_total{reason=\"full\"} 1180");
	assert_line(text, "# TYPE portd_queue_wait_seconds histogram");
	assert_line(text, "portd_queue_wait_seconds_bucket{le=\"0.005\"} 50");
	assert_line(text, "portd_queue_wait_seconds_bucket{le=\"1\"} 99");
	assert_line(text, "portd_queue_wait_seconds_bucket{le=\"+Inf\"} 100");
	assert_line(text, "portd_queue_wait_seconds_sum 30.000000001");
	assert_line(text, "portd_queue_wait_seconds_count 100");
	assert_line(text, "portd_received_bytes_total 1048576");
	assert_line(text, "portd_worker_connections{worker=\"1\"} 406");
	assert_line(text, "portd_worker_longest_loop_seconds{worker=\"0\"} 0.0000015");
	cr_assert(has(text, "1 in 16 sampled while not full, every one while full"));
	cr_assert_not(has(text, "# EOF"));
}

Test(stats, openmetrics_names_families_without_their_suffix_and_ends)
{
	struct stats s = filled();
	OWN_MEM char *text = render(stats_render_openmetrics, &s);
	static const char end[] = "\n# EOF\n";

	assert_line(text, "# TYPE portd_accepted_connections counter");
	assert_line(text, "portd_accepted_connections_total 5000");
	assert_line(text, "# TYPE portd_build info");
	assert_line(text, "portd_build_info{version=\"0.1.0\"} 1");
	assert_line(text, "portd_queue_wait_seconds_bucket{le=\"1.0\"} 99");
	assert_line(text, "portd_queue_wait_seconds_bucket{le=\"0.005\"} 50");
	cr_assert_not(has(text, "_total counter"));
	cr_assert_str_eq(text + strlen(text) - strlen(end), end);
	cr_assert_eq(occurrences(text, "# EOF"), 1);
}

Test(stats, labels_are_escaped)
{
	struct stats s = filled();

	s.version = "a\"b\\c\nd";
	OWN_MEM char *text = render(stats_render_prometheus, &s);
	assert_line(text, "portd_build_info{version=\"a\\\"b\\\\c\\nd\"} 1");
}

static void check_with_promtool(struct stats s)
{
	OWN_MEM char *text = render(stats_render_prometheus, &s);

	if (system("command -v promtool >/dev/null 2>&1") != 0)
		cr_skip_test("promtool is not installed");
	cr_assert_eq(feed("promtool check metrics", text, true), 0);
}

Test(stats, promtool_has_no_complaint)
{
	check_with_promtool(filled());
}

Test(stats, promtool_has_no_complaint_at_the_limits)
{
	check_with_promtool(with_every_number(0));
	check_with_promtool(with_every_number(UINT64_MAX));
}
