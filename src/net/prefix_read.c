/*
 * prefix_read.c - networks from a text as people write it.
 *
 * Invariant: what is no network is told in one line, with what is allowed, whatever bytes it is made
 * of.
 */
#include "net/prefix_item.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/parse.h"

/* The longest item that can be a network: an IPv6 address, its interface and its length. */
#define ITEM_MAX (INET6_ADDRSTRLEN + ADDR_INTERFACE_MAX + 4)
/* So much of an item that is none is shown. */
#define ITEM_SHOWN 40

#define ITEMS_ALLOWED \
	"networks and addresses such as 203.0.113.0/24, 2001:db8::/32 or 198.51.100.7"

/* Where the items of a text go. */
struct reader {
	struct item *item;
	size_t n;
	bool mistaken;
	void (*mistake)(const char *what, void *arg);
	void *arg;
};

__attribute__((format(printf, 4, 5))) static void reader_complain(
        struct reader *r, const char *text, size_t len, const char *format, ...)
{
	char what[PREFIX_MISTAKE_MAX], *p = what;
	va_list args;

	r->mistaken = true;
	if (!r->mistake)
		return;
	*p++ = '\'';
	for (size_t i = 0; i < len && i < ITEM_SHOWN; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c > 32 && c < 127 && c != '\\')
			*p++ = (char)c;
		else
			p += sprintf(p, "\\x%02x", c);
	}
	p = stpcpy(p, len > ITEM_SHOWN ? "...' " : "' ");
	va_start(args, format);
	(void)vsnprintf(p, sizeof(what) - (size_t)(p - what), format, args);
	va_end(args);
	r->mistake(what, r->arg);
}

/* The length behind the slash, digits without a leading 0. */
static int length_parse(const char *text, unsigned greatest, unsigned *ret)
{
	uint64_t v;

	if ((text[0] == '0' && text[1] != '\0') || parse_uint(text, &v) < 0 ||
	        v > greatest)
		return -EINVAL;
	*ret = (unsigned)v;
	return 0;
}

/* The length of a v4-mapped network counts from the IPv6 address's first bit. */
static int length_parse_mapped(
        struct reader *r, const char *text, size_t len, const char *slash, unsigned *ret)
{
	if (length_parse(slash + 1, 128, ret) < 0 || *ret < 96) {
		reader_complain(r, text, len,
		        "is IPv4 in IPv6's form; allowed: a length of 96 to 128, or "
		        "IPv4's "
		        "own form with 0 to 32");
		return -EINVAL;
	}
	*ret -= 96;
	return 0;
}

/* Reads the address before the slash. */
static int host_parse(const char *host, struct prefix *ret, bool *ret_mapped)
{
	struct in6_addr in6;

	*ret = (struct prefix){.family = AF_INET, .bits = 32};
	*ret_mapped = false;
	if (inet_pton(AF_INET, host, ret->bytes) == 1)
		return 0;
	if (inet_pton(AF_INET6, host, &in6) != 1)
		return -EINVAL;
	*ret_mapped = IN6_IS_ADDR_V4MAPPED(&in6);
	if (*ret_mapped) {
		memcpy(ret->bytes, &in6.s6_addr[12], 4);
	} else {
		*ret = (struct prefix){.family = AF_INET6, .bits = 128};
		memcpy(ret->bytes, in6.s6_addr, 16);
	}
	return 0;
}

/* The number of the interface behind a '%'. Returns 0; -EINVAL: it is none's name; -ENODEV; or
 * another -errno. */
static int scope_parse(const char *text, size_t len, uint32_t *ret)
{
	struct addr_named named = {.interface = ""};
	uint64_t number;

	if (!addr_is_interface(text, len))
		return -EINVAL;
	(void)memcpy(named.interface, text, len);
	int r = parse_uint(named.interface, &number);

	if (r == 0) {
		*ret = (uint32_t)number;
		return number > 0 && number <= UINT32_MAX ? 0 : -EINVAL;
	}
	r = r == -EINVAL ? addr_resolve(&named) : -EINVAL;
	*ret = named.addr.scope;
	return r;
}

/* Cuts the interface out of host, as in «fe80::%eth0/64», and looks it up. interface: the same place
 * in the text. Returns 0, or -EINVAL after a mistake. */
static int reader_take_scope(
        struct reader *r, const char *text, size_t len, char *host, struct item *ret)
{
	char *percent = strchr(host, '%');

	if (!percent)
		return 0;
	ret->interface = text + (percent - host) + 1;
	size_t n = item_interface_len(ret->interface);
	int found = scope_parse(ret->interface, n, &ret->scope);

	(void)memmove(percent, percent + 1 + n, strlen(percent + 1 + n) + 1);
	/* It belongs to the address, not to the length. */
	if (memchr(host, '/', (size_t)(percent - host)))
		found = -EINVAL;
	if (found == 0)
		return 0;
	if (found == -EINVAL)
		reader_complain(r, text, len,
		        "has no interface behind its '%%'; allowed: the name or the "
		        "number of one, before the length");
	else if (found == -ENODEV)
		reader_complain(r, text, len,
		        "names an interface that is not there; `ip link` lists those "
		        "that "
		        "are");
	else
		reader_complain(r, text, len,
		        "names an interface that cannot be looked up: %s",
		        strerrordesc_np(-found));
	return -EINVAL;
}

/* Only link-local clients come with an interface: any other network would match nobody. */
static bool scope_fits(const struct item *item)
{
	bits128 link_local = (bits128)0xfe80 << 112;

	return item->scope == 0 || (item->family == AF_INET6 && item->bits >= 10 &&
	                                   (item->begin & bits_mask(10)) == link_local);
}

/* The length behind the slash, if there is one. Returns 0, or -EINVAL after a mistake. */
static int reader_take_bits(struct reader *r, const char *text, size_t len,
        const char *slash, bool mapped, unsigned *bits)
{
	unsigned greatest = *bits;

	if (slash && mapped)
		return length_parse_mapped(r, text, len, slash, bits);
	if (!slash || length_parse(slash + 1, greatest, bits) == 0)
		return 0;
	reader_complain(r, text, len,
	        "has a wrong length behind its slash; allowed: 0 to %u", greatest);
	return -EINVAL;
}

/* A network whose address has bits beyond its length: names both things that may have
 * been meant. */
static void reader_complain_bits(
        struct reader *r, const char *text, size_t len, const struct item *item)
{
	struct prefix network =
	        prefix_of(item->begin & bits_mask(item->bits), item->family, item->bits);
	struct prefix one =
	        prefix_of(item->begin, item->family, family_bits(item->family));
	const char *interface = item->interface;
	char meant[PREFIX_TEXT_MAX], host[PREFIX_TEXT_MAX];

	reader_complain(r, text, len,
	        "has bits set beyond its length; allowed: %s for the network, %s for the "
	        "one "
	        "address",
	        interface ? prefix_format_scoped(&network, interface, meant)
	                  : prefix_format(&network, meant),
	        interface ? prefix_format_scoped(&one, interface, host)
	                  : prefix_format(&one, host));
}

static void reader_take(struct reader *r, const char *text, size_t len)
{
	char host[ITEM_MAX + 1];
	struct item item = {.scope = 0};
	struct prefix whole;
	bool mapped;

	(void)snprintf(host, sizeof(host), "%.*s", len < ITEM_MAX ? (int)len : 0, text);
	if (reader_take_scope(r, text, len, host, &item) < 0)
		return;
	char *slash = strchr(host, '/');

	if (slash)
		*slash = '\0';
	if (host_parse(host, &whole, &mapped) < 0) {
		reader_complain(
		        r, text, len, "is no IP network; allowed: " ITEMS_ALLOWED);
		return;
	}
	unsigned bits = whole.bits;

	if (reader_take_bits(r, text, len, slash, mapped, &bits) < 0)
		return;
	item.begin = bits_load(whole.bytes);
	item.family = whole.family;
	item.bits = (uint8_t)bits;
	if (!scope_fits(&item))
		reader_complain(r, text, len,
		        "has an interface, which only networks in fe80::/10 have; "
		        "allowed: the same without it");
	else if ((item.begin & ~bits_mask(bits)) != 0)
		reader_complain_bits(r, text, len, &item);
	else
		r->item[r->n++] = item;
}

int prefix_read_items(const char *text, struct item *item, size_t *ret_n,
        void (*mistake)(const char *what, void *arg), void *arg)
{
	struct reader reader = {.item = item, .mistake = mistake, .arg = arg};

	for (const char *p = text; *(p += strspn(p, PREFIX_SEPARATORS)) != '\0';) {
		size_t len = strcspn(p, PREFIX_SEPARATORS);

		reader_take(&reader, p, len);
		p += len;
	}
	/* Something was meant to be there, and an empty list may mean everybody. */
	if (reader.n == 0 && !reader.mistaken && strchr(text, ','))
		reader_complain(&reader, text, strlen(text),
		        "has commas and no network; allowed: " ITEMS_ALLOWED
		        ", or nothing at all");
	*ret_n = reader.n;
	return reader.mistaken ? 1 : 0;
}
