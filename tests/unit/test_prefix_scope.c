/*
 * test_prefix_scope.c - networks of one interface, in sets and as text. The loopback interface has the
 * number 1 and the name lo in every network namespace.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "base/own.h"
#include "net/prefix.h"

#define TEXT_MAX 512

static struct addr address(const char *host)
{
	struct addr addr;
	char text[ADDR_TEXT_MAX];

	(void)snprintf(text, sizeof(text), strchr(host, ':') ? "[%s]:0" : "%s:0", host);
	cr_assert_eq(addr_parse(text, &addr), 0, "%s", host);
	return addr;
}

static void keep_mistake(const char *what, void *arg)
{
	char *all = arg;

	cr_assert_lt(strlen(what), PREFIX_MISTAKE_MAX);
	cr_assert_lt(strlen(all) + strlen(what) + 2, TEXT_MAX);
	(void)strcat(strcat(all, what), "\n");
}

static struct prefix_set *parse(const char *text)
{
	struct prefix_set *set = NULL;
	char mistakes[TEXT_MAX] = "";

	cr_assert_eq(prefix_set_parse(text, &set, keep_mistake, mistakes), 0, "«%s»: %s",
	        text, mistakes);
	cr_assert_not_null(set);
	cr_assert_str_empty(mistakes);
	return set;
}

Test(prefix_scope, networks_of_one_interface)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
	        {"fe80::1%lo", "fe80::1%lo"},
	        {"fe80::1%1", "fe80::1%1"},
	        {"fe80::%lo/64", "fe80::%lo/64"},
	        {"fe80::%lo/10", "fe80::%lo/10"},
	        {"fe80::2%lo fe80::3%lo", "fe80::2%lo/127"},
	        {"fe80::2%lo fe80::3%7", "fe80::2%lo fe80::3%7"},
	        {"fe80::5%lo,fe80::%lo/64", "fe80::%lo/64"},
	        {"fe80::5%lo fe80::/64", "fe80::/64"},
	        {"fe80::5%lo fe80:1::/64 2001:db8::/32 10.0.0.0/8",
	                "10.0.0.0/8 2001:db8::/32 fe80:1::/64 fe80::5%lo"},
	        {"fe80::1%4294967295", "fe80::1%4294967295"},
	};
	static const char *const wrong[] = {"fe80::1%", "fe80::1%0", "fe80::1%4294967296",
	        "fe80::1%no-such-one", "fe80::1%a;b", "fe80::1%lo%lo", "fe80::/64%lo",
	        "fe80::%lo/9", "2001:db8::1%lo", "::/0%lo", "10.0.0.1%lo",
	        "::ffff:10.0.0.1%lo", "fe80::1%lo/64", "%lo", "fe80::1%sixteen-letters-",
	        "fe80::1%lo/129"};
	struct prefix_set *set = NULL;
	char text[128];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		set = parse(rows[i].in);

		cr_assert_lt(prefix_set_format(set, text, sizeof(text)), sizeof(text));
		cr_assert_str_eq(text, rows[i].out, "%s", rows[i].in);
		set = prefix_set_free(set);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		char mistakes[TEXT_MAX] = "";

		cr_assert_eq(prefix_set_parse(wrong[i], &set, keep_mistake, mistakes), 1,
		        "%s", wrong[i]);
		cr_assert_str_not_empty(mistakes, "%s", wrong[i]);
	}
}

Test(prefix_scope, a_network_of_one_interface_matches_there_only)
{
	struct addr here = address("fe80::5"), there;
	struct prefix_set *set = NULL;
	char buf[PREFIX_TEXT_MAX], told[TEXT_MAX] = "";

	cr_assert_eq(prefix_set_parse("fe80::1%lo/64", &set, keep_mistake, told), 1);
	cr_assert_not_null(
	        strstr(told, "fe80::%lo/64 for the network, fe80::1%lo for"), "%s", told);
	set = parse("fe80::%lo/64 fe80::1%7 fe80:1::/64 2001:db8::/32");
	here.scope = 1;
	there = here;
	cr_assert_eq(prefix_set_find(set, &here, buf), 0);
	cr_assert_str_eq(buf, "fe80::%lo/64");
	there.scope = 7;
	cr_assert_eq(prefix_set_find(set, &there, buf), 1, "of another interface");
	there.scope = 0;
	cr_assert_eq(prefix_set_find(set, &there, buf), 1, "of none");
	there = address("fe80::1");
	there.scope = 7;
	cr_assert_eq(prefix_set_find(set, &there, buf), 0);
	cr_assert_str_eq(buf, "fe80::1%7");
	there = address("fe80:1::1");
	there.scope = 9;
	cr_assert_eq(prefix_set_find(set, &there, buf), 0, "of any");
	cr_assert_eq(prefix_set_count(set), 4);
	prefix_set_free(set);
}
