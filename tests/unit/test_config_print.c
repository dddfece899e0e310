/*
 * test_config_print.c - configuration files without a mistake: what is read from them,
 * what wins and where it stands, and that what is printed reads back as the same.
 */
#include <criterion/criterion.h>

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/config_file.h"
#include "config_files.h"
#include "net/prefix.h"

TestSuite(config_print, .init = enter, .fini = leave);

/* Field by field: a struct has bytes between its fields. */
static void assert_same(const struct config *a, const struct config *b)
{
	cr_assert(addr_equal(&a->address.addr, &b->address.addr));
	cr_assert_str_eq(a->address.interface, b->address.interface);
	cr_assert_eq(a->backlog, b->backlog);
	cr_assert_eq(a->workers, b->workers);
	cr_assert_eq(a->fd_table, b->fd_table);
	cr_assert_eq(a->fds, b->fds);
	cr_assert_eq(a->max_connections, b->max_connections);
	cr_assert_eq(a->queue_timeout, b->queue_timeout);
	cr_assert_eq(a->answer, b->answer);
	cr_assert_eq(a->message.len, b->message.len);
	cr_assert_eq(memcmp(a->message.bytes, b->message.bytes, a->message.len), 0);
	cr_assert_eq(a->low_watermark, b->low_watermark);
	cr_assert_eq(a->first_byte, b->first_byte);
	cr_assert_eq(a->idle, b->idle);
	cr_assert_eq(a->keepalive, b->keepalive);
	cr_assert_eq(a->drain, b->drain);
	cr_assert_str_eq(a->service, b->service);
	cr_assert_str_eq(a->control_socket, b->control_socket);
	cr_assert_eq(a->control_mode, b->control_mode);
	cr_assert_str_eq(a->control_group, b->control_group);
	cr_assert_eq(a->log_level, b->log_level);
}

static void assert_reads_back(const struct config *c)
{
	struct config back;
	OWN_FILE FILE *f = fopen("b", "w");

	cr_assert(f);
	config_print(c, f);
	cr_assert_eq(fflush(f), 0);
	cr_assert_eq(load("b", &back, NULL, NULL), 0, "%s", said);
	assert_same(c, &back);
	config_release(&back);
}

Test(config_print, defaults_are_the_documented_ones)
{
	struct config c = load_text("");
	char buf[ADDR_TEXT_MAX];

	cr_assert_str_eq(addr_format_named(&c.address, buf), "[::]:7777");
	cr_assert_eq(c.backlog, 4096);
	cr_assert_eq(c.workers, CONFIG_AUTO);
	cr_assert_eq(c.fd_table, CONFIG_FD_TABLE_SHARED);
	cr_assert_eq(c.fds, CONFIG_AUTO);
	cr_assert_eq(c.max_connections, CONFIG_AUTO);
	cr_assert_eq(c.queue_timeout, CLOCK_SEC);
	cr_assert_eq(c.answer, CONFIG_ANSWER_RESET);
	cr_assert_eq(c.message.len, 0);
	cr_assert_eq(c.low_watermark, 95);
	cr_assert_eq(c.first_byte, 0);
	cr_assert_eq(c.idle, 600 * CLOCK_SEC);
	cr_assert_eq(c.keepalive, 60 * CLOCK_SEC);
	cr_assert_eq(c.drain, 5 * CLOCK_SEC);
	cr_assert_str_eq(c.service, "tuple");
	cr_assert_str_eq(c.control_socket, "/run/portd/control.sock");
	cr_assert_eq(c.control_mode, 0660);
	cr_assert_str_eq(c.control_group, "");
	cr_assert_eq(c.log_level, LOG_LEVEL_INFO);
	assert_reads_back(&c);
}

Test(config_print, every_key_is_read_and_reads_back)
{
	struct config c = load_text("[listener]\naddress = 127.0.0.1:0\nbacklog = 4K\n"
	                            "[workers]\ncount = 1024\nfd_table = private\n"
	                            "[budget]\nfds = 1M\nmax_connections = 1023M\n"
	                            "[shed]\nqueue_timeout = infinity\nanswer = message\n"
	                            "message = sorry\\r\\n\nlow_watermark = 0%\n"
	                            "[timeouts]\nfirst_byte = 1500ms\nidle = infinity\n"
	                            "keepalive = 0s\ndrain = infinity\n"
	                            "[service]\ntype = discard\n"
	                            "[control]\nsocket = /run/p\xc3\xb6rt/x\nmode = 600\n"
	                            "group = _port.d-1\n[log]\nlevel = debug\n");
	char buf[ADDR_TEXT_MAX];

	cr_assert_str_eq(addr_format_named(&c.address, buf), "127.0.0.1:0");
	cr_assert_eq(c.backlog, 4096);
	cr_assert_eq(c.workers, 1024);
	cr_assert_eq(c.fd_table, CONFIG_FD_TABLE_PRIVATE);
	cr_assert_eq(c.fds, 1U << 20);
	cr_assert_eq(c.max_connections, 1023U << 20);
	cr_assert_eq(c.queue_timeout, CLOCK_INFINITY);
	cr_assert_eq(c.answer, CONFIG_ANSWER_MESSAGE);
	cr_assert_eq(c.message.len, 7);
	cr_assert_eq(memcmp(c.message.bytes, "sorry\r\n", 7), 0);
	cr_assert_eq(c.low_watermark, 0);
	cr_assert_eq(c.first_byte, 1500 * CLOCK_MSEC);
	cr_assert_eq(c.idle, 0, "infinity means none");
	cr_assert_eq(c.keepalive, 0);
	cr_assert_eq(c.drain, CLOCK_INFINITY);
	cr_assert_str_eq(c.service, "discard");
	cr_assert_str_eq(c.control_socket, "/run/p\xc3\xb6rt/x");
	cr_assert_eq(c.control_mode, 0600);
	cr_assert_str_eq(c.control_group, "_port.d-1");
	cr_assert_eq(c.log_level, LOG_LEVEL_DEBUG);
	assert_reads_back(&c);
}

Test(config_print, the_ends_of_every_range_are_in_it)
{
	static const char *const texts[] = {"[listener]\nbacklog = 1\n",
	        "[listener]\nbacklog = 2147483647\n", "[workers]\ncount = 1\n",
	        "[budget]\nfds = 64\nmax_connections = 1\n",
	        "[budget]\nfds = 1073741816\nmax_connections = 1073741816\n",
	        "[shed]\nqueue_timeout = 0s\nlow_watermark = 100%\n",
	        "[shed]\nqueue_timeout = 0\n",
	        "[timeouts]\nfirst_byte = 1ms\nidle = 1ms\n",
	        "[timeouts]\nkeepalive = 3s\ndrain = 0s\n",
	        "[timeouts]\nkeepalive = 32767s\n",
	        "[control]\nmode = 0777\ngroup = abcdefghijklmnopqrstuvwxyz01234\n",
	        "[control]\nmode = 000\n"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct config c = load_text(texts[i]);

		assert_reads_back(&c);
	}
}

/* As long as a line may be, of networks that are printed as `shown`. Returns the text, for free. */
static char *long_list(const char *typed, size_t len)
{
	static const char head[] = "[source]\npriority=";
	size_t end = strlen(head) - strlen("[source]\n");
	char *text = malloc(CONFIG_LINE_MAX + 64);

	cr_assert_not_null(text);
	char *p = stpcpy(text, head);
	for (unsigned i = 0; end + len + 4 <= CONFIG_LINE_MAX; i++, end += len + 4)
		p += sprintf(p, "%04x%s", i, typed);
	p[-1] = '\n';
	return text;
}

/* What is printed must be no longer than what is read. */
Test(config_print, lists_as_long_as_a_line_read_back_or_are_refused)
{
	/* With one group in :: the printed address has a character more, without it has none. */
	OWN_MEM char *same = long_list(":2:3:4:5:6:7:8,", 15);
	OWN_MEM char *longer = long_list(":2:3:4:5:6::8,", 14);
	struct config c = load_text(same);

	assert_reads_back(&c);
	config_release(&c);
	write_text("a", longer);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	cr_assert(strstr(said, "a:2: [source] priority: takes a line of "), "%s", said);
	cr_assert(strstr(said, "; allowed: 131072 bytes"), "%s", said);
}

Test(config_print, strange_messages_read_back)
{
	static const char *const messages[] = {" ", "  a  ", "; a", "a ; b", "# a",
	        "a #b", "=", "[x]", "\\n", "\"", "'", "\t", "a:b=c", "\xc3\xbc ;"};
	struct config c = load_text("");

	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		c.message.len = strlen(messages[i]);
		memcpy(c.message.bytes, messages[i], c.message.len);
		assert_reads_back(&c);
	}
	c.answer = CONFIG_ANSWER_MESSAGE;
	c.message.len = sizeof(c.message.bytes);
	for (unsigned start = 0; start < 256; start++) {
		for (unsigned i = 0; i < sizeof(c.message.bytes); i++)
			c.message.bytes[i] = (uint8_t)(start + i);
		assert_reads_back(&c);
	}
	memset(c.message.bytes, 0, sizeof(c.message.bytes));
	assert_reads_back(&c);
}

Test(config_print, blanks_comments_line_ends_and_byte_order_mark)
{
	struct config c =
	        load_text("\xef\xbb\xbf# portd\r\n; more\r\n   \t \n"
	                  "   # an indented comment, \xe2\x82\xac \xf0\x9f\x9a\xa2\n"
	                  "[listener] ; the port\nbacklog=5 ; five\r\n"
	                  "[shed]\n[shed]\t\nmessage\t =\t a;b \t# c = d\t; e\n"
	                  "[listener]\naddress\t=[::1]:5\n"
	                  "[log]\nlevel = error");
	char buf[ADDR_TEXT_MAX];

	cr_assert_eq(c.backlog, 5);
	cr_assert_str_eq(addr_format_named(&c.address, buf), "[::1]:5");
	cr_assert_eq(c.message.len, 12);
	cr_assert_eq(memcmp(c.message.bytes, "a;b \t# c = d", 12), 0);
	cr_assert_eq(c.log_level, LOG_LEVEL_ERROR, "a last line without an end");
}

Test(config_print, a_later_file_wins_over_an_earlier_and_an_override_over_all)
{
	struct config c;

	write_text("a", "[listener]\nbacklog = 1\n[shed]\nanswer = message\n");
	cr_assert_eq(mkdir("a.d", 0755), 0);
	write_text("a.d/2.conf", "[listener]\nbacklog = 3\n");
	write_text("a.d/10.conf", "[listener]\nbacklog = 2\n[shed]\nmessage = x\n");
	write_text("a.d/.hidden.conf", "nonsense\n");
	write_text("a.d/other", "nonsense\n");
	cr_assert_eq(load("a", &c, NULL, NULL), 0, "%s", said);
	cr_assert_eq(c.backlog, 3, "in name order 2.conf comes after 10.conf");
	cr_assert_eq(c.message.len, 1, "what a file lacks another may give");
	cr_assert_eq(load("a", &c, "listener.backlog=4", "listener.backlog=5"), 0);
	cr_assert_eq(c.backlog, 5);
	/* Its value is taken as it stands. */
	cr_assert_eq(load("a", &c, "shed.message= a ; b = c ", NULL), 0, "%s", said);
	cr_assert_eq(c.message.len, 11);
	cr_assert_eq(memcmp(c.message.bytes, " a ; b = c ", 11), 0);
	cr_assert_eq(load("a", &c, "shed.message=", "shed.answer=close"), 0, "%s", said);
	cr_assert_eq(c.message.len, 0);
	cr_assert_eq(symlink("nowhere", "a.d/gone.conf"), 0);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	cr_assert(
	        strstr(said, "a.d/gone.conf: cannot be read: No such file"), "%s", said);
}

Test(config_print, overrides_of_no_shape)
{
	static const char *const bad[] = {"", "=", "x", "x=y", "x.y", ".=", "listener.=5",
	        ".backlog=5", "listener.backlog", "listener.backlog =5",
	        " listener.backlog=5", "listener.backlog=", "listener.backlog=5 ",
	        "listener.backlog= 5", "log.level=\x01", "shed.message=a\nb",
	        "shed.message=\xff", "x=listener.backlog"};
	struct config c;

	write_text("a", "");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_eq(load("a", &c, bad[i], NULL), 1, "-o '%s'", bad[i]);
		cr_assert_eq(strncmp(said, "-o ", 3), 0, "%s", said);
		cr_assert(strstr(said, "; allowed: "), "%s", said);
		cr_assert_eq(strchr(said, '\n')[1], '\0', "more than one line: %s", said);
	}
}

Test(config_print, the_template_is_the_defaults)
{
	struct config defaults = load_text(""), c;
	OWN_FILE FILE *f = fopen("b", "w");
	OWN_FILE FILE *active = fopen("a", "w");
	char line[256];
	unsigned keys = 0;

	cr_assert(f && active);
	config_print_template(f);
	cr_assert_eq(fflush(f), 0);
	cr_assert_eq(load("b", &c, NULL, NULL), 0, "%s", said);
	assert_same(&c, &defaults);
	/* With each key taken out of its comment, it must be a file that says the same.
	 */
	cr_assert(f = freopen("b", "r", f));
	while (fgets(line, sizeof(line), f)) {
		bool is_key = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z';

		keys += is_key;
		(void)fputs(is_key ? line + 1 : line, active);
		cr_assert_leq(strlen(line), 91, "%s", line);
	}
	cr_assert_eq(fflush(active), 0);
	cr_assert_eq(keys, 36);
	cr_assert_eq(load("a", &c, NULL, NULL), 0, "%s", said);
	assert_same(&c, &defaults);
}

Test(config_print, the_template_is_what_is_installed)
{
	const char *top = getenv("top_srcdir");
	char path[PATH_MAX], line[256], installed[256];
	OWN_FILE FILE *f = fopen("b", "w+");

	cr_assert(top, "no top_srcdir");
	(void)snprintf(path, sizeof(path), "%s/etc/portd.conf", top);
	OWN_FILE FILE *conf = fopen(path, "r");

	cr_assert(f && conf, "%s: %m", path);
	config_print_template(f);
	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		cr_assert(fgets(installed, sizeof(installed), conf));
		cr_assert_str_eq(line, installed);
	}
	cr_assert_null(fgets(installed, sizeof(installed), conf));
}

Test(config_print, a_copy_shares_its_lists_and_outlives_what_it_is_a_copy_of)
{
	struct config c = load_text("[source]\nallow = 10.0.0.0/8 ::/0\n"
	                            "deny = 10.1.0.0/16\npriority = 192.0.2.1\n");
	struct config copy;

	config_share(&c, &copy);
	config_release(&c);
	cr_assert_eq(prefix_set_count(copy.source_allow), 2);
	cr_assert_eq(prefix_set_count(copy.source_deny), 1);
	cr_assert_eq(prefix_set_count(copy.source_priority), 1);
	config_release(&copy);
	/* A default owns no memory, however it was written: nobody has to release it. */
	c = load_text("[source]\nallow =\ndeny =\npriority =\n");
	cr_assert_null(c.source_allow);
	cr_assert_null(c.source_deny);
	cr_assert_null(c.source_priority);
}

static void note_changed(const char *key, void *arg)
{
	(void)strcat(arg, key);
	(void)strcat(arg, "\n");
}

Test(config_print, a_reload_keeps_what_is_fixed)
{
	struct config old = load_text("");
	struct config new =
	        load_text("[listener]\naddress = [::1]:1\nbacklog = 1\n"
	                  "[workers]\ncount = 3\nfd_table = private\n"
	                  "[budget]\nfds = 100\nmax_connections = 3\n"
	                  "[shed]\nqueue_timeout = 2s\nanswer = message\nmessage = x\n"
	                  "low_watermark = 1%\n"
	                  "[timeouts]\nfirst_byte = 1s\nidle = 1s\nkeepalive = 9s\n"
	                  "drain = 1s\n[service]\ntype = echo\n[control]\n"
	                  "socket = /x\nmode = 600\ngroup = x\n[log]\nlevel = error\n");
	struct config expected = new;
	char changed[512] = "";

	cr_assert_eq(config_keep_fixed(&old, &new, note_changed, changed), 9);
	cr_assert_str_eq(changed,
	        "listener.address\nworkers.count\nworkers.fd_table\nbudget.fds\n"
	        "timeouts.keepalive\nservice.type\ncontrol.socket\n"
	        "control.mode\ncontrol.group\n");
	/* The fixed ones are the old ones, the live ones the new ones. */
	expected.address = old.address;
	expected.workers = old.workers;
	expected.fd_table = old.fd_table;
	expected.fds = old.fds;
	expected.keepalive = old.keepalive;
	memcpy(expected.service, old.service, sizeof(old.service));
	memcpy(expected.control_socket, old.control_socket, sizeof(old.control_socket));
	expected.control_mode = old.control_mode;
	memcpy(expected.control_group, old.control_group, sizeof(old.control_group));
	assert_same(&new, &expected);
	changed[0] = '\0';
	cr_assert_eq(config_keep_fixed(&old, &new, note_changed, changed), 0);
	cr_assert_str_eq(changed, "");
}

static void assert_from(
        const struct config *c, enum config_key_index key, const char *text)
{
	char buf[CONFIG_PLACE_MAX];

	cr_assert_str_eq(config_format_key(c, key, buf), text);
}

Test(config_print, each_value_is_known_by_where_it_was_set_last)
{
	struct config c;

	write_text("a",
	        "[budget]\nfds = 300\nmax_connections = 9\n\n[control]\ngroup = x\n");
	cr_assert_eq(mkdir("a.d", 0755), 0);
	write_text("a.d/1.conf", "\n[budget]\n; here\nmax_connections = auto\n");
	cr_assert_eq(load("a", &c, "control.group=y", "log.level=\033"), 1);
	assert_from(&c, CONFIG_KEY_backlog, "[listener] backlog");
	assert_from(&c, CONFIG_KEY_fds, "a:2: [budget] fds");
	assert_from(
	        &c, CONFIG_KEY_max_connections, "a.d/1.conf:4: [budget] max_connections");
	assert_from(&c, CONFIG_KEY_control_group, "-o control.group=y: [control] group");
	assert_from(&c, CONFIG_KEY_log_level, "[log] level");
	struct config_place place = {"d\n", 3, NULL};

	c.origin[CONFIG_KEY_log_level] = place;
	assert_from(&c, CONFIG_KEY_log_level, "d\\x0a:3: [log] level");
	/* However long the path: what is wrong is still named. */
	static char path[5000];
	char text[CONFIG_PLACE_MAX];

	memset(path, '/', sizeof(path) - 1);
	place.name = path;
	c.origin[CONFIG_KEY_max_connections] = place;
	(void)config_format_key(&c, CONFIG_KEY_max_connections, text);
	cr_assert(strstr(text, "//:3: [budget] max_connections"), "%s", text);
}

Test(config_print, a_key_that_was_not_taken_keeps_its_place)
{
	struct config old, new;
	char changed[100] = "";

	write_text("a", "[listener]\nbacklog = 5\n[budget]\nfds = 300\n");
	cr_assert_eq(load("a", &old, NULL, NULL), 0);
	write_text("a", "[listener]\n\nbacklog = 5\n[budget]\n\nfds = 301\n[log]\n");
	cr_assert_eq(load("a", &new, NULL, NULL), 0);
	cr_assert_eq(config_keep_fixed(&old, &new, note_changed, changed), 1);
	cr_assert_str_eq(changed, "budget.fds\n", "a line that moved is no change");
	assert_from(&new, CONFIG_KEY_fds, "a:4: [budget] fds");
	assert_from(&new, CONFIG_KEY_backlog, "a:3: [listener] backlog");
}
