/*
 * addr.c - the whole input as an address with a port, as one without, and as a list of networks.
 */
#include "fuzz.h"

#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/own.h"
#include "net/addr.h"
#include "net/prefix.h"

static void check_addr(const char *text, const struct addr *addr)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct sockaddr_storage sa;
	struct addr back;

	FUZZ_CHECK(addr->family == AF_INET || addr->family == AF_INET6, "'%s': family %d",
	        text, addr->family);
	FUZZ_CHECK(addr->family == AF_INET || memcmp(addr->bytes, mapped, 12) != 0,
	        "'%s' is IPv4 in IPv6's form", text);
	FUZZ_CHECK(
	        addr->family == AF_INET6 || addr->scope == 0, "'%s' has a scope", text);
	socklen_t len = addr_to_sockaddr(addr, &sa);
	FUZZ_CHECK(addr_from_sockaddr((struct sockaddr *)&sa, len, &back) == 0 &&
	                   addr_equal(addr, &back),
	        "'%s' is another one as a socket's address", text);
}

/* With its port, or without. */
static void check_parse(const char *text)
{
	char shown[ADDR_TEXT_MAX], again[ADDR_TEXT_MAX];
	char host[ADDR_HOST_MAX], host_again[ADDR_HOST_MAX];
	struct addr addr, back;

	if (addr_parse(text, &addr) == 0) {
		check_addr(text, &addr);
		FUZZ_CHECK(addr_parse(addr_format(&addr, shown), &back) == 0 &&
		                   addr_equal(&addr, &back),
		        "'%s' is shown as '%s'", text, shown);
		FUZZ_CHECK(strcmp(addr_format(&back, again), shown) == 0,
		        "'%s' is shown as '%s' and '%s'", text, shown, again);
	}
	if (addr_parse_host(text, &addr) == 0) {
		check_addr(text, &addr);
		FUZZ_CHECK(addr.port == 0, "'%s' has the port %u", text, addr.port);
		FUZZ_CHECK(addr_parse_host(addr_format_host(&addr, host), &back) == 0 &&
		                   addr_equal(&addr, &back),
		        "'%s' is shown as '%s'", text, host);
		FUZZ_CHECK(strcmp(addr_format_host(&back, host_again), host) == 0,
		        "'%s' is shown as '%s' and '%s'", text, host, host_again);
	}
}

static void take_mistake(const char *what, void *arg)
{
	unsigned *n = arg;

	(*n)++;
	for (const char *p = what; *p; p++)
		FUZZ_CHECK(*p >= ' ' && *p <= '~', "a mistake has the byte 0x%02x",
		        (unsigned char)*p);
	FUZZ_CHECK(strlen(what) < PREFIX_MISTAKE_MAX &&
	                   (strstr(what, "; allowed: ") || strstr(what, "; `ip link` ")),
	        "a mistake without an advice: %s", what);
}

/* The address after addr, or before it. */
static struct addr neighbour(const struct addr *addr, bool after)
{
	struct addr next = *addr;

	next.scope = 0;
	for (int i = addr->family == AF_INET ? 3 : 15; i >= 0; i--)
		if (after ? ++next.bytes[i] != 0 : next.bytes[i]-- != 0)
			break;
	return next;
}

/* One network of its own; what the list should have, asked of its items one by one. */
#define ITEMS_MAX 64
struct model {
	struct prefix_set *item[ITEMS_MAX];
	size_t n;
};

static bool model_has(const struct model *m, const struct addr *addr)
{
	for (size_t i = 0; i < m->n; i++)
		if (prefix_set_match(m->item[i], addr))
			return true;
	return false;
}

static void check_probe(
        const struct model *m, const struct prefix_set *set, const struct addr *probe)
{
	char host[ADDR_HOST_MAX], text[PREFIX_TEXT_MAX];
	struct prefix_set *in = NULL;
	bool has = model_has(m, probe);

	FUZZ_CHECK(prefix_set_match(set, probe) == has, "%s is wrong",
	        addr_format_host(probe, host));
	FUZZ_CHECK((prefix_set_find(set, probe, text) == 0) == has, "%s is wrong",
	        addr_format_host(probe, host));
	if (!has)
		return;
	FUZZ_CHECK(prefix_set_parse(text, &in, NULL, NULL) == 0 &&
	                   prefix_set_count(in) == 1 && prefix_set_match(in, probe),
	        "%s is said to be in %s, where it is not", addr_format_host(probe, host),
	        text);
	(void)prefix_set_free(in);
}

/* The set has what its items have, at their ends and beyond. text is changed. */
static void check_members(char *text, const struct prefix_set *set)
{
	struct model m = {.n = 0};
	struct addr probe[ITEMS_MAX];
	char *rest = NULL, *item = strtok_r(text, ", \t\r\n", &rest);

	for (; item && m.n < ITEMS_MAX; item = strtok_r(NULL, ", \t\r\n", &rest)) {
		FUZZ_CHECK(prefix_set_parse(item, &m.item[m.n], NULL, NULL) == 0 &&
		                   prefix_set_count(m.item[m.n]) == 1,
		        "'%s' is right in a list, and wrong alone", item);
		char *slash = strchr(item, '/');
		if (slash)
			*slash = '\0';
		struct addr_named named;
		FUZZ_CHECK(addr_parse_host_named(item, &named) == 0, "'%s' is no address",
		        item);
		probe[m.n] = named.addr;
		if (*named.interface)
			probe[m.n].scope = if_nametoindex(named.interface);
		m.n++;
	}
	/* A longer list is not looked at in full. */
	for (size_t i = 0; i < m.n && !item; i++) {
		struct addr below = neighbour(&probe[i], false);
		struct addr above = neighbour(&probe[i], true);

		check_probe(&m, set, &probe[i]);
		check_probe(&m, set, &below);
		check_probe(&m, set, &above);
	}
	for (size_t i = 0; i < m.n; i++)
		(void)prefix_set_free(m.item[i]);
}

/* Its text reads back as the same set, and is written whole or cut. */
static void check_text(const struct prefix_set *set)
{
	size_t len = prefix_set_format(set, NULL, 0);
	OWN_MEM char *shown = malloc(len + 1);
	OWN_MEM char *again = malloc(len + 1);
	struct prefix_set *back = NULL;

	FUZZ_CHECK(shown && again, "out of memory");
	FUZZ_CHECK(prefix_set_format(set, shown, len + 1) == len && strlen(shown) == len,
	        "'%s' has not the length it needs", shown);
	FUZZ_CHECK(prefix_set_parse(shown, &back, NULL, NULL) == 0, "'%s' is no list",
	        shown);
	FUZZ_CHECK(prefix_set_count(back) == prefix_set_count(set),
	        "'%s' is another list", shown);
	FUZZ_CHECK(prefix_set_format(back, again, len + 1) == len &&
	                   strcmp(again, shown) == 0,
	        "'%s' is shown as '%s'", shown, again);
	size_t room = len / 2 + 1;
	OWN_MEM char *cut = malloc(room);

	FUZZ_CHECK(cut && prefix_set_format(set, cut, room) == len &&
	                   strlen(cut) == room - 1 && strncmp(cut, shown, room - 1) == 0,
	        "'%s' is cut wrong", shown);
	(void)prefix_set_free(back);
}

static void check_list(char *text)
{
	struct prefix_set *set = NULL, *silent = NULL;
	unsigned mistakes = 0;
	int r = prefix_set_parse(text, &set, take_mistake, &mistakes);

	FUZZ_CHECK(r == 0 || r == 1, "'%s': %d", text, r);
	FUZZ_CHECK((r == 1) == (mistakes > 0), "'%s': %d, and %u mistakes", text, r,
	        mistakes);
	FUZZ_CHECK(r == 0 || !set, "'%s' is wrong, and was taken", text);
	FUZZ_CHECK(prefix_set_parse(text, &silent, NULL, NULL) == r,
	        "'%s': another verdict", text);
	(void)prefix_set_free(silent);
	if (r != 0)
		return;
	check_text(set);
	check_members(text, set);
	(void)prefix_set_free(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct fuzz_piece piece = {(const char *)data, size};
	OWN_MEM char *text = fuzz_text(piece);

	check_parse(text);
	check_list(text);
	return 0;
}
