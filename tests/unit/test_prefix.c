/*
 * test_prefix.c - networks as text, and sets of them against a model that looks at every
 * network bit by bit.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "net/prefix.h"

#define TEXT_MAX 4096

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

Test(prefix, text_and_what_it_means)
{
	static const struct {
		const char *in, *out;
	} rows[] = {{"", ""}, {" \t \r\n", ""}, {"198.51.100.7", "198.51.100.7"},
	        {"198.51.100.7/32", "198.51.100.7"}, {"0.0.0.0/0", "0.0.0.0/0"},
	        {"::/0", "::/0"}, {"0.0.0.0/0 ::/0", "0.0.0.0/0 ::/0"},
	        {"::1/128", "::1"}, {"2001:DB8:0::/32", "2001:db8::/32"},
	        {"2001:db8::/32 203.0.113.0/24,198.51.100.7",
	                "198.51.100.7 203.0.113.0/24 2001:db8::/32"},
	        /* Inside others, and the same twice. */
	        {"10.0.0.0/8 10.1.0.0/16 10.1.2.3 10.0.0.0/8", "10.0.0.0/8"},
	        {"10.1.2.3,10.0.0.0/8", "10.0.0.0/8"},
	        {"2001:db8::1 2001:db8::/32 2001:db8::/127", "2001:db8::/32"},
	        /* Two halves, and those of what they make. */
	        {"10.0.0.0/9 10.128.0.0/9", "10.0.0.0/8"},
	        {"10.0.1.0 10.0.1.1 10.0.1.2/31 10.0.0.0/24", "10.0.0.0/24 10.0.1.0/30"},
	        {"0.0.0.0/1 128.0.0.0/1", "0.0.0.0/0"}, {"::/1 8000::/1", "::/0"},
	        {"128.0.0.0/2 0.0.0.0/1 192.0.0.0/2", "0.0.0.0/0"},
	        /* Neighbours that are no halves of one. */
	        {"10.1.0.0/16 10.2.0.0/16", "10.1.0.0/16 10.2.0.0/16"},
	        {"10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2"},
	        /* IPv4 in IPv6's form. */
	        {"::ffff:10.0.0.0/104", "10.0.0.0/8"}, {"::ffff:10.1.2.3", "10.1.2.3"},
	        {"::ffff:0:0/96", "0.0.0.0/0"}, {"::ffff:10.1.2.3/128", "10.1.2.3"},
	        {"::ffff:10.0.0.0/105 10.128.0.0/9", "10.0.0.0/8"},
	        /* Which these are not. */
	        {"::10.1.2.3", "::10.1.2.3"}, {"::fffe:0:0/96", "::fffe:0:0/96"}};
	char buf[TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct prefix_set *set = parse(rows[i].in);

		cr_assert_eq(
		        prefix_set_format(set, buf, sizeof(buf)), strlen(rows[i].out));
		cr_assert_str_eq(buf, rows[i].out, "«%s»: «%s»", rows[i].in, buf);
		cr_assert_null(prefix_set_free(set));
	}
}

Test(prefix, a_mistake_says_what_and_what_is_right)
{
	static const struct {
		const char *in, *what;
	} rows[] = {{"10.0.0.1/8",
	                    "'10.0.0.1/8' has bits set beyond its length; allowed: "
	                    "10.0.0.0/8 for the network, 10.0.0.1 for the one address"},
	        {"2001:db8::1/32",
	                "allowed: 2001:db8::/32 for the network, 2001:db8::1 for"},
	        {"::ffff:10.0.0.1/104",
	                "allowed: 10.0.0.0/8 for the network, 10.0.0.1 for"},
	        {"1.2.3.4/0", "allowed: 0.0.0.0/0 for the network, 1.2.3.4 for"},
	        {"10.0.0.0/33", "has a wrong length behind its slash; allowed: 0 to 32"},
	        {"::/129", "allowed: 0 to 128"}, {"10.0.0.0/", "allowed: 0 to 32"},
	        {"10.0.0.0/08", "allowed: 0 to 32"}, {"10.0.0.0/+8", "allowed: 0 to 32"},
	        {"10.0.0.0/-1", "allowed: 0 to 32"}, {"10.0.0.0/8/8", "allowed: 0 to 32"},
	        {"10.0.0.0/255.0.0.0", "allowed: 0 to 32"},
	        {"10.0.0.0/4294967304", "allowed: 0 to 32"},
	        {"10.0.0.0/18446744073709551624", "allowed: 0 to 32"},
	        {"::ffff:10.0.0.0/8",
	                "allowed: a length of 96 to 128, or IPv4's own form"},
	        {"::ffff:0:0/95", "allowed: a length of 96 to 128"},
	        {"::ffff:0:0/129", "allowed: a length of 96 to 128"},
	        {"/8", "'/8' is no IP network; allowed: networks and addresses such as "
	               "203.0.113.0/24, 2001:db8::/32 or 198.51.100.7"},
	        {"10", "is no IP network"}, {"10.0.0/8", "is no IP network"},
	        {"010.0.0.0/8", "is no IP network"}, {"10.0.0.0:80", "is no IP network"},
	        {"[::1]", "is no IP network"},
	        {"fe80::1%0", "has no interface behind its '%'"},
	        {"fe80::%no-such-one/64", "names an interface that is not there"},
	        {"::1%1", "has an interface, which only networks in fe80::/10 have"},
	        {"localhost", "is no IP network"},
	        {"10.0.0.0-10.0.0.9", "is no IP network"}, {"*", "is no IP network"},
	        {"10.0.0.0;", "is no IP network"},
	        {"1:2:3:4:5:6:7:8:9", "is no IP network"},
	        /* Meant to be something, and would be everybody. */
	        {",", "',' has commas and no network; allowed: networks and addresses "
	              "such as 203.0.113.0/24, 2001:db8::/32 or 198.51.100.7, or nothing "
	              "at all"},
	        {" , ,,\n", "has commas and no network"},
	        {"a\x1f\xff\\b'", "'a\\x1f\\xff\\x5cb'' is no IP network"},
	        {"1111:2222:3333:4444:5555:6666:7777:8888:9999",
	                "'1111:2222:3333:4444:5555:6666:7777:8888:...' is no IP "
	                "network"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct prefix_set *set = NULL;
		char mistakes[TEXT_MAX] = "";

		cr_assert_eq(
		        prefix_set_parse(rows[i].in, &set, keep_mistake, mistakes), 1);
		cr_assert_null(set, "nothing is handed over");
		cr_assert_not_null(
		        strstr(mistakes, rows[i].what), "«%s»: %s", rows[i].in, mistakes);
		cr_assert_eq(strchr(mistakes, '\n'), mistakes + strlen(mistakes) - 1,
		        "one line: %s", mistakes);
		cr_assert_eq(prefix_set_parse(rows[i].in, &set, NULL, NULL), 1);
	}
}

Test(prefix, every_mistake_is_told)
{
	struct prefix_set *set = NULL;
	char mistakes[TEXT_MAX] = "", item[600];

	cr_assert_eq(prefix_set_parse("x 10.0.0.0/8,y/9 ,10.0.0.1/8", &set, keep_mistake,
	                     mistakes),
	        1);
	cr_assert_eq(strncmp(mistakes, "'x' ", 4), 0);
	cr_assert_not_null(strstr(mistakes, "\n'y/9' "));
	cr_assert_not_null(strstr(mistakes, "\n'10.0.0.1/8' "));
	/* The longest that there can be: an item of nothing but odd bytes. */
	memset(item, 0xfe, sizeof(item) - 1);
	item[sizeof(item) - 1] = '\0';
	*mistakes = '\0';
	cr_assert_eq(prefix_set_parse(item, &set, keep_mistake, mistakes), 1);
	cr_assert_not_null(strstr(mistakes, "or 198.51.100.7\n"), "cut: %s", mistakes);
}

Test(prefix, the_longest_mistakes_are_told_in_full)
{
	/* 39 characters of address, and as many in each spelling. */
	struct prefix_set *set = NULL;
	char mistakes[TEXT_MAX] = "";

	cr_assert_eq(prefix_set_parse("1111:2222:3333:4444:5555:6666:7777:ffff/127", &set,
	                     keep_mistake, mistakes),
	        1);
	cr_assert_not_null(
	        strstr(mistakes, "1111:2222:3333:4444:5555:6666:7777:fffe/127 for the "
	                         "network, 1111:2222:3333:4444:5555:6666:7777:ffff "
	                         "for the one address\n"),
	        "%s", mistakes);
}

Test(prefix, what_a_list_matches)
{
	struct prefix_set *set =
	        parse("203.0.113.0/24, 198.51.100.7 2001:db8::/32 ::ffff:192.0.2.0/120");
	static const char *const in[] = {"203.0.113.0", "203.0.113.255", "198.51.100.7",
	        "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.9",
	        "::ffff:203.0.113.9"};
	static const char *const out[] = {"203.0.112.255", "203.0.114.0", "198.51.100.6",
	        "198.51.100.8", "0.0.0.0", "255.255.255.255",
	        "::", "2001:db9::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.3.0",
	        "::203.0.113.9", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"};
	struct addr none = {.family = AF_UNSPEC}, scoped = address("2001:db8::1");
	char buf[PREFIX_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		struct addr addr = address(in[i]);

		cr_assert(prefix_set_match(set, &addr), "%s", in[i]);
		cr_assert_not(prefix_set_match(NULL, &addr));
	}
	for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
		struct addr addr = address(out[i]);

		cr_assert_not(prefix_set_match(set, &addr), "%s", out[i]);
		cr_assert_eq(prefix_set_find(set, &addr, buf), 1);
	}
	cr_assert_not(prefix_set_match(set, &none));
	scoped.scope = 3;
	scoped.port = 80;
	cr_assert_eq(prefix_set_find(set, &scoped, buf), 0);
	cr_assert_str_eq(buf, "2001:db8::/32");
	cr_assert_eq(prefix_set_count(set), 4);
	cr_assert_eq(prefix_set_count(NULL), 0);
	prefix_set_free(set);
}

Test(prefix, one_family_is_not_the_other)
{
	struct addr v4 = address("1.2.3.4"), v6 = address("102:304::");
	struct prefix_set *all4 = parse("0.0.0.0/0"), *all6 = parse("::/0");

	cr_assert(prefix_set_match(all4, &v4));
	cr_assert_not(prefix_set_match(all4, &v6));
	cr_assert_not(prefix_set_match(all6, &v4));
	cr_assert(prefix_set_match(all6, &v6));
	struct prefix a = prefix_mask(&v4, 16, 16), b = prefix_mask(&v6, 16, 16);

	cr_assert_not(prefix_equal(&a, &b));
	prefix_set_free(all4);
	prefix_set_free(all6);
}

Test(prefix, masks)
{
	static const struct {
		const char *host;
		unsigned bits4, bits6;
		const char *net;
	} rows[] = {{"203.0.113.77", 24, 0, "203.0.113.0/24"},
	        {"203.0.113.77", 32, 0, "203.0.113.77"},
	        {"203.0.113.77", 0, 9, "0.0.0.0/0"},
	        {"203.0.113.77", 30, 0, "203.0.113.76/30"},
	        {"203.0.113.77", 128, 0, "203.0.113.77"},
	        {"255.255.255.255", 1, 0, "128.0.0.0/1"},
	        {"::ffff:203.0.113.77", 24, 64, "203.0.113.0/24"},
	        {"2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::/64"},
	        {"2001:db8:1:2:3:4:5:6", 24, 48, "2001:db8:1::/48"},
	        {"2001:db8:1:2:3:4:5:6", 24, 128, "2001:db8:1:2:3:4:5:6"},
	        {"2001:db8:1:2:ffff:4:5:6", 24, 65, "2001:db8:1:2:8000::/65"},
	        {"2001:db8:1:2:3:4:5:6", 24, 0, "::/0"}};
	struct addr none = {.family = AF_UNSPEC}, scoped = address("fe80::1");
	char buf[PREFIX_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct addr addr = address(rows[i].host);
		struct prefix net = prefix_mask(&addr, rows[i].bits4, rows[i].bits6);

		cr_assert_str_eq(prefix_format(&net, buf), rows[i].net);
	}
	struct addr longest = address("203.0.113.77");
	struct prefix all = prefix_mask(&longest, 32, 64),
	              more = prefix_mask(&longest, 200, 64);

	cr_assert(prefix_equal(&all, &more));
	struct prefix net = prefix_mask(&none, 24, 64), empty = {.family = AF_UNSPEC};

	cr_assert(prefix_equal(&net, &empty));
	cr_assert_str_eq(prefix_format(&net, buf), "none");
	struct prefix plain = prefix_mask(&scoped, 24, 64);

	scoped.scope = 7;
	scoped.port = 9;
	net = prefix_mask(&scoped, 24, 64);
	cr_assert(prefix_equal(&net, &plain), "neither scope nor port counts");
}

Test(prefix, a_text_that_does_not_fit_is_cut_and_measured)
{
	struct prefix_set *set = parse("10.0.0.0/8 2001:db8::/32");
	char buf[32];

	for (size_t size = 0; size <= 25; size++) {
		memset(buf, 'x', sizeof(buf));
		cr_assert_eq(prefix_set_format(set, buf, size), 24);
		cr_assert_eq(buf[size], 'x');
		if (size > 0)
			cr_assert_eq(
			        strncmp(buf, "10.0.0.0/8 2001:db8::/32", size - 1), 0);
		if (size > 0)
			cr_assert_eq(strlen(buf), size - 1);
	}
	cr_assert_eq(prefix_set_format(NULL, buf, sizeof(buf)), 0);
	cr_assert_str_empty(buf);
	prefix_set_free(set);
}

/* The model: the networks as they were made, looked at one by one, bit by bit. */
struct model {
	struct prefix net[64];
	size_t n;
};

static bool bit_of(const uint8_t *bytes, unsigned i)
{
	return (bytes[i / 8] >> (7 - i % 8) & 1) != 0;
}

static bool model_has(const struct prefix *net, const struct addr *addr)
{
	if (net->family != addr->family)
		return false;
	for (unsigned i = 0; i < net->bits; i++)
		if (bit_of(net->bytes, i) != bit_of(addr->bytes, i))
			return false;
	return true;
}

/* An address in a corner so small that networks meet: few bits differ, some at the edges
 * of the bytes and of the address. */
static struct addr random_address(void)
{
	struct addr addr = {.family = rand() % 2 ? AF_INET : AF_INET6};
	unsigned last = addr.family == AF_INET ? 3 : 15;

	addr.bytes[0] = (uint8_t)((rand() % 2) << 7 | 0x20);
	addr.bytes[last - 1] = (uint8_t)(rand() % 4);
	addr.bytes[last] = (uint8_t)(rand() % 16 << (rand() % 2 ? 4 : 0));
	if (addr.family == AF_INET6)
		addr.bytes[7] = (uint8_t)(rand() % 2);
	return addr;
}

/* Every network as text, in any order, and in any of the ways to write it. */
static char *model_print(const struct model *m, char buf[static TEXT_MAX])
{
	static const char *const between[] = {" ", ",", ", ", "\n"};
	char *p = buf, text[PREFIX_TEXT_MAX];

	*p = '\0';
	for (size_t i = 0; i < m->n; i++) {
		const struct prefix *net = &m->net[i];

		(void)inet_ntop(net->family, net->bytes, text, sizeof(text));
		if (net->family == AF_INET && rand() % 4 == 0)
			p += sprintf(p, "::ffff:%s/%d", text, net->bits + 96);
		else
			p += sprintf(p, "%s/%d", text, net->bits);
		p += sprintf(p, "%s", between[rand() % 4]);
	}
	return buf;
}

static void model_make(struct model *m)
{
	m->n = (size_t)rand() % ARRAY_SIZE(m->net);
	for (size_t i = 0; i < m->n; i++) {
		struct addr addr = random_address();
		unsigned all = addr.family == AF_INET ? 32 : 128;
		unsigned few = all - (unsigned)rand() % 12;
		unsigned bits = rand() % 8 == 0 ? (unsigned)rand() % (all + 1) : few;

		m->net[i] = prefix_mask(&addr, bits, bits);
	}
}

static void model_compare(const struct model *m, const struct prefix_set *set)
{
	for (int i = 0; i < 2000; i++) {
		struct addr addr = random_address();
		char found[PREFIX_TEXT_MAX];
		bool expected = false;

		for (size_t k = 0; k < m->n && !expected; k++)
			expected = model_has(&m->net[k], &addr);
		cr_assert_eq(prefix_set_match(set, &addr), expected);
		cr_assert_eq(prefix_set_find(set, &addr, found), expected ? 0 : 1);
		/* Now and then: it takes as long as a hundred of the others. */
		if (!expected || i % 64 != 0)
			continue;
		struct prefix_set *one = NULL;

		cr_assert_eq(prefix_set_parse(found, &one, NULL, NULL), 0, "%s", found);
		cr_assert(prefix_set_match(one, &addr), "%s", found);
		prefix_set_free(one);
	}
}

Test(prefix, any_list_matches_what_its_networks_do)
{
	static struct model m, split;
	static char text[TEXT_MAX], canonical[TEXT_MAX], again[TEXT_MAX];

	for (unsigned seed = 1; seed <= 300; seed++) {
		srand(seed);
		model_make(&m);
		struct prefix_set *set = parse(model_print(&m, text));

		model_compare(&m, set);
		size_t len = prefix_set_format(set, canonical, sizeof(canonical));

		cr_assert_leq(len, strlen(text));
		cr_assert_leq(prefix_set_count(set), m.n);
		prefix_set_free(set);
		set = parse(canonical);
		model_compare(&m, set);
		(void)prefix_set_format(set, again, sizeof(again));
		cr_assert_str_eq(again, canonical);
		prefix_set_free(set);
		/* The same addresses in other networks: the first as its halves, the rest in
		 * the other order. */
		if (m.n == 0 || m.n == ARRAY_SIZE(m.net) || m.net[0].bits > 31)
			continue;
		split.n = m.n + 1;
		for (size_t i = 1; i < m.n; i++)
			split.net[m.n - i] = m.net[i];
		split.net[0] = split.net[m.n] = m.net[0];
		split.net[0].bits++;
		split.net[m.n] = split.net[0];
		split.net[m.n].bytes[m.net[0].bits / 8] |=
		        (uint8_t)(0x80 >> m.net[0].bits % 8);
		set = parse(model_print(&split, text));
		(void)prefix_set_format(set, again, sizeof(again));
		cr_assert_str_eq(again, canonical, "seed %u", seed);
		prefix_set_free(set);
	}
}

Test(prefix, thousands)
{
	size_t n = 5000, size = n * 40;
	OWN_MEM char *text = calloc(1, size), *again = calloc(1, size);
	char *p = text;

	/* 10.x.y.0/25 and 2001:db8:x:y::/56: no two of them are halves of one. */
	for (size_t i = 0; i < n; i++)
		p += sprintf(p, i % 2 ? "10.%zu.%zu.0/25 " : "2001:db8:%zx:%zx00::/56 ",
		        i / 250, i % 250);
	struct prefix_set *set = parse(text);

	cr_assert_eq(prefix_set_count(set), n);
	for (size_t i = 0; i < n; i++) {
		char host[64];

		(void)snprintf(host, sizeof(host),
		        i % 2 ? "10.%zu.%zu.77" : "2001:db8:%zx:%zxff::1", i / 250,
		        i % 250);
		struct addr addr = address(host);

		cr_assert(prefix_set_match(set, &addr), "%s", host);
		(void)snprintf(host, sizeof(host),
		        i % 2 ? "10.%zu.%zu.128" : "2001:db9:%zx:%zxff::1", i / 250,
		        i % 250);
		addr = address(host);
		cr_assert_not(prefix_set_match(set, &addr), "%s", host);
	}
	cr_assert_lt(prefix_set_format(set, again, size), size);
	prefix_set_free(set);
	set = parse(again);
	cr_assert_eq(prefix_set_count(set), n);
	prefix_set_free(set);
}
