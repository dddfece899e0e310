/*
 * test_config.c - mistakes in configuration files: each is told with its file, line and
 * key, in one line, with what is allowed; and what is no file at all.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/own.h"
#include "config_files.h"
#include "core/limits.h"

TestSuite(config, .init = enter, .fini = leave);

static unsigned count_lines(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* Exactly this was said: one line for each of the expected, which it begins with, and
 * each with what is allowed. */
static void assert_said(unsigned n, ...)
{
	const char *line = said;
	va_list args;

	cr_assert_eq(count_lines(said), n, "not %u mistakes:\n%s", n, said);
	va_start(args, n);
	for (unsigned i = 0; i < n; i++) {
		const char *expected = va_arg(args, const char *);
		const char *end = strchr(line, '\n');
		const char *allowed = strstr(line, "; allowed: ");

		cr_assert_eq(strncmp(line, expected, strlen(expected)), 0,
		        "expected: %s...\nseen:     %s", expected, line);
		cr_assert(allowed && allowed < end, "says not what is allowed: %s", line);
		line = end + 1;
	}
	va_end(args);
}

/* One mistake in a file of one, and what is said of it. */
struct mistake {
	const char *text;
	const char *said;
};

static const struct mistake values[] = {
        {"[listener]\naddress = 80\n", "a:2: [listener] address: '80' is not understood"},
        {"[listener]\naddress = localhost:80\n",
                "a:2: [listener] address: 'localhost:80' "},
        {"[listener]\naddress =\n", "a:2: [listener] address: '' is empty"},
        {"[listener]\nbacklog = 0\n",
                "a:2: [listener] backlog: '0' is out of range; allowed: 1 "},
        {"[listener]\nbacklog = 2147483648\n",
                "a:2: [listener] backlog: '2147483648' is out of "},
        {"[listener]\nbacklog = 99999999999999999999\n",
                "a:2: [listener] backlog: '9999999999999"},
        {"[listener]\nbacklog = -1\n", "a:2: [listener] backlog: '-1' is not understood"},
        {"[listener]\nbacklog = 1 2\n",
                "a:2: [listener] backlog: '1 2' is not understood"},
        {"[listener]\nbacklog = \"5\"\n",
                "a:2: [listener] backlog: '\"5\"' is not understood"},
        {"[listener]\nbacklog = auto\n",
                "a:2: [listener] backlog: 'auto' is not understood"},
        {"[listener]\nbacklog = 5 # five\n",
                "a:2: [listener] backlog: '5 # five' is not "},
        {"[listener]\nbacklog = 5;five\n", "a:2: [listener] backlog: '5;five' is not "},
        {"[listener]\nbacklog = = 5\n",
                "a:2: [listener] backlog: '= 5' is not understood"},
        {"[listener]\nbacklog =; 5\n",
                "a:2: [listener] backlog: '; 5' is not understood"},
        {"[listener]\nbacklog = ; 5\n", "a:2: [listener] backlog: '' is empty"},
        {"[workers]\ncount = 0\n",
                "a:2: [workers] count: '0' is out of range; allowed: auto, or 1"},
        {"[workers]\ncount = 1025\n", "a:2: [workers] count: '1025' is out of range"},
        {"[workers]\nfd_table = mine\n", "a:2: [workers] fd_table: 'mine' is not "
                                         "understood; allowed: shared, private"},
        {"[budget]\nfds = 63\n", "a:2: [budget] fds: '63' is out of range"},
        {"[budget]\nmax_connections = 0\n",
                "a:2: [budget] max_connections: '0' is out of range"},
        {"[shed]\nqueue_timeout = 5\n",
                "a:2: [shed] queue_timeout: '5' is not understood"},
        {"[shed]\nanswer = RESET\n", "a:2: [shed] answer: 'RESET' is not understood; "
                                     "allowed: reset, close, message"},
        {"[shed]\nmessage = a\\q\n", "a:2: [shed] message: 'a\\q' is not understood"},
        {"[shed]\nlow_watermark = 101%\n",
                "a:2: [shed] low_watermark: '101%' is out of range"},
        {"[shed]\nlow_watermark = 95\n",
                "a:2: [shed] low_watermark: '95' is not understood"},
        {"[timeouts]\nidle = 999us\n", "a:2: [timeouts] idle: '999us' is out of range"},
        {"[timeouts]\nfirst_byte = 1d\n",
                "a:2: [timeouts] first_byte: '1d' is not understood"},
        {"[timeouts]\nkeepalive = 2999ms\n",
                "a:2: [timeouts] keepalive: '2999ms' is out of range"},
        {"[timeouts]\nkeepalive = 32768s\n",
                "a:2: [timeouts] keepalive: '32768s' is out of range"},
        {"[timeouts]\nkeepalive = infinity\n",
                "a:2: [timeouts] keepalive: 'infinity' is out of "},
        {"[timeouts]\ndrain = -1s\n", "a:2: [timeouts] drain: '-1s' is not understood"},
        {"[service]\ntype = http\n", "a:2: [service] type: 'http' is not understood; "
                                     "allowed: tuple, echo, discard"},
        {"[control]\nsocket = run/x\n",
                "a:2: [control] socket: 'run/x' is not understood"},
        {"[control]\nsocket = /run/\n",
                "a:2: [control] socket: '/run/' is not understood"},
        {"[control]\nsocket = /run/x # here\n",
                "a:2: [control] socket: '/run/x # here' is not "},
        {"[control]\nmode = 0668\n", "a:2: [control] mode: '0668' is not understood"},
        {"[control]\nmode = 1777\n", "a:2: [control] mode: '1777' is out of range"},
        {"[control]\ngroup = a b\n", "a:2: [control] group: 'a b' is not understood"},
        {"[control]\ngroup = -x\n", "a:2: [control] group: '-x' is not understood"},
        {"[log]\nlevel = notice\n", "a:2: [log] level: 'notice' is not understood; "
                                    "allowed: error, warning, info, debug"},
        {"[shed]\nanswer = message\n", "a:2: [shed] answer: 'message' needs a text"},
        {"[shed]\nmessage =\n\nanswer = message\n",
                "a:4: [shed] answer: 'message' needs a text"},
};

static const struct mistake shapes[] = {
        {"[listener]\nbacklgo = 5\n",
                "a:2: [listener] backlgo: 'backlgo' is no key of this "
                "section; did you mean 'backlog'?; allowed: address, backlog"},
        {"[listener]\nbacklogg = 5\n",
                "a:2: [listener] backlogg: 'backlogg' is no key of this "
                "section; did you mean 'backlog'?"},
        {"[listener]\nBacklog = 5\n",
                "a:2: [listener] Backlog: 'Backlog' is no key of this "
                "section; did you mean 'backlog'?"},
        {"[listener]\nidle = 5s\n",
                "a:2: [listener] idle: 'idle' is no key of this section; "
                "did you mean [timeouts] idle?"},
        {"[listener]\nxyzzy = 5\n", "a:2: [listener] xyzzy: 'xyzzy' is no key of this "
                                    "section; allowed: address"},
        {"[budget]\npriorities = 16\n",
                "a:2: [budget] priorities: 'priorities' is no key"},
        {"[shed]\nevict = 1s\n", "a:2: [shed] evict: 'evict' is no key"},
        {"[shed]\ndry_run = perhaps\n",
                "a:2: [shed] dry_run: 'perhaps' is not understood; allowed: no, yes"},
        {"[source]\nallow = ,\n",
                "a:2: [source] allow: ',' has commas and no network; allowed: networks"},
        {"[source]\ndeny = , ,\n", "a:2: [source] deny: ',\\x20,' has commas and no"},
        {"[source]\npriority = ,,\n", "a:2: [source] priority: ',,' has commas and no"},
        {"[timeouts]\nlives = 1h\n", "a:2: [timeouts] lives: 'lives' is no key"},
        {"[listner]\n",
                "a:1: [listner]: 'listner' is no section; did you mean 'listener'?"},
        {"[sources]\nrate = 5\nburst = 7\n", "a:1: [sources]: 'sources' is no section; "},
        {"[Listener]\n",
                "a:1: [Listener]: 'Listener' is no section; did you mean 'listener'?"},
        {"[ listener ]\n", "a:1: [ listener ]: ' listener ' is no section; did you mean"},
        {"[]\n", "a:1: []: '' is no section"},
        {"[listener\nbacklog = 5\n", "a:1: '[listener' has no ']'"},
        {"[listener] backlog = 5\n", "a:1: '[listener] backlog = 5' has text after ']'"},
        {"[listener]# x\n", "a:1: '[listener]# x' has text after ']'"},
        {"backlog = 5\n[listener]\n", "a:1: 'backlog' stands before any section"},
        {"[listener]\nbacklog : 5\n",
                "a:2: [listener]: 'backlog : 5' has a ':' where only '='"},
        {"[listener]\nback:log = 5\n", "a:2: [listener]: 'back:log' is no name of a key"},
        {"[listener]\nbacklog\n",
                "a:2: [listener]: 'backlog' is no section, key or comment"},
        {"[listener]\n= 5\n", "a:2: [listener]: '' is no name of a key"},
        {"[listener]\nmy backlog = 5\n",
                "a:2: [listener]: 'my backlog' is no name of a key"},
        {"[listener]\n  backlog = 5\n", "a:2: [listener]: 'backlog = 5' is indented"},
        {"[listener]\n\tbacklog = 5\n", "a:2: [listener]: 'backlog = 5' is indented"},
        {"[listener]\nbacklog = 5\n\nbacklog = 6\n",
                "a:4: [listener] backlog: '6' comes after line 2 has set this key"},
        {"[listener]\nbacklog = 5\n[log]\n[listener]\nbacklog = 5\n",
                "a:5: [listener] backlog: '5' comes after line 2 has set this key"},
        {"[listener]\n# caf\xe9\n", "a:2: [listener]: '# caf\\xe9' is not UTF-8"},
        {"[shed]\nmessage = \xc0\xaf\n",
                "a:2: [shed]: 'message = \\xc0\\xaf' is not UTF-8"},
        {"[shed]\nmessage = \xed\xa0\x80\n",
                "a:2: [shed]: 'message = \\xed\\xa0\\x80' is not UTF"},
        {"[shed]\nmessage = \xf4\x90\x80\x80\n",
                "a:2: [shed]: 'message = \\xf4\\x90\\x80\\x80' is"},
        {"[shed]\nmessage = \xe2\x82",
                "a:2: [shed]: 'message = \\xe2\\x82' is not UTF-8"},
        {"[shed]\nmessage = \xe2\x82(\n",
                "a:2: [shed]: 'message = \\xe2\\x82(' is not UTF-8"},
        {"[shed]\nmessage = a\x1b[31m\n",
                "a:2: [shed]: 'message = a\\x1b[31m' has a control "},
        {"[shed]\nmessage = a\rb\n",
                "a:2: [shed]: 'message = a\\x0db' has a control character"},
        {"[shed]\nmessage = \x7f\n",
                "a:2: [shed]: 'message = \\x7f' has a control character"},
        {"\n\n#\r\n[listener]\r\n\r\nbacklog = x\r\n",
                "a:6: [listener] backlog: 'x' is not"},
};

static void assert_mistakes(const struct mistake *rows, size_t n)
{
	struct config c;

	for (size_t i = 0; i < n; i++) {
		write_text("a", rows[i].text);
		cr_assert_eq(
		        load("a", &c, NULL, NULL), 1, "no mistake in:\n%s", rows[i].text);
		assert_said(1, rows[i].said);
	}
}

Test(config, every_mistake_in_a_value_is_told_with_its_place)
{
	assert_mistakes(values, ARRAY_SIZE(values));
}

Test(config, every_mistake_of_a_lines_shape_is_told_with_its_place)
{
	assert_mistakes(shapes, ARRAY_SIZE(shapes));
}

Test(config, all_mistakes_are_told_not_only_the_first)
{
	struct config c;

	write_text("a",
	        "[listener\nbacklog = 0\nfoo\n[nonsense]\nx = 1\n[timeouts]\nidle = 5\n"
	        "[shed]\nanswer = message\nlow_watermark = 200%\n");
	write_text("b", "");
	cr_assert_eq(mkdir("a.d", 0755), 0);
	write_text("a.d/1.conf", "backlog = 7\n[log]\nlevel = loud\n");
	cr_assert_eq(load("a", &c, "listener.backlog=-5", "nowhere.x=1"), 1);
	assert_said(11, "a:1: '[listener' has no ']'",
	        "a:2: [listener] backlog: '0' is out of range",
	        "a:3: [listener]: 'foo' is no section, key or comment",
	        "a:4: [nonsense]: 'nonsense' is no section",
	        "a:7: [timeouts] idle: '5' is not",
	        "a:10: [shed] low_watermark: '200%' is out of range",
	        "a.d/1.conf:1: 'backlog' stands before any section",
	        "a.d/1.conf:3: [log] level: 'loud' is not understood",
	        "-o listener.backlog=-5: [listener] backlog: '-5' is not understood",
	        "-o nowhere.x=1: [nowhere]: 'nowhere' is no section",
	        "a:9: [shed] answer: 'message' needs a text");
	/* Two in one line: what is left of the name is empty. */
	write_text("b", "[ ;x\n");
	cr_assert_eq(load("b", &c, NULL, NULL), 1);
	assert_said(2, "b:1: '[ ;x' has no ']'", "b:1: []: '' is no section");
}

Test(config, a_wrong_message_is_one_mistake_not_two)
{
	struct config c;

	write_text("a", "[shed]\nanswer = message\nmessage = \\\n");
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(1, "a:3: [shed] message: '\\' is not understood");
}

Test(config, nul_bytes)
{
	static const char text[] = "[listener]\nbacklog = 5\0"
	                           "0\n# \0\n";
	struct config c;

	write_bytes("a", text, sizeof(text) - 1);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(2, "a:2: [listener]: 'backlog = 5\\x000' has a NUL byte",
	        "a:3: [listener]: '# \\x00' has a NUL byte");
}

Test(config, long_lines)
{
	OWN_MEM char *text = malloc(300000);
	struct config c;

	cr_assert(text);
	/* A comment whose tail inih would take for a setting: 199 bytes, then a key. */
	(void)sprintf(
	        text, "[listener]\n#%0198d\nbacklog = 5\n#%0198dbacklog = 6\n", 0, 0);
	write_text("a", text);
	cr_assert_eq(load("a", &c, NULL, NULL), 0, "%s", said);
	cr_assert_eq(c.backlog, 5);
	/* A value longer than inih's line, whole: 512 bytes as \xNN are 2048. */
	(void)sprintf(text, "[shed]\nanswer = message\nmessage = ");
	for (unsigned i = 0; i < 512; i++)
		(void)strcat(text, "\\x41");
	write_text("a", text);
	cr_assert_eq(load("a", &c, NULL, NULL), 0, "%s", said);
	cr_assert_eq(c.message.len, 512);
	cr_assert_eq(c.message.bytes[511], 'A');
	(void)strcat(text, "B\n");
	write_text("a", text);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(1, "a:3: [shed] message: '\\x41\\x41");
	/* 131072 bytes are a line, 131073 are none; the next line still has its number. */
	(void)sprintf(text, "#%0131071d\r\n#%0131072d\n[x]\n", 0, 0);
	write_text("a", text);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(2, "a:2: '#0000", "a:3: [x]: 'x' is no section");
	cr_assert(strstr(said, " is longer than 131072 bytes; "), "%s", said);
	/* Names that inih would cut to one that exists. */
	(void)sprintf(text, "[listener%0100d]\n[listener]\nbacklog%0100d = 5\n", 0, 0);
	write_text("a", text);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(2, "a:1: [listener000", "a:3: [listener]: 'backlog000");
}

Test(config, what_is_no_file, .timeout = 20)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX, .sun_path = "b"};
	OWN_FD int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct config c;

	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(1, "a: cannot be read: No such file or directory");
	cr_assert_eq(load("", &c, NULL, NULL), 1);
	cr_assert_eq(mkdir("d", 0755), 0);
	cr_assert_eq(load("d", &c, NULL, NULL), 1);
	assert_said(1, "d: cannot be read: it is a directory");
	cr_assert_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	cr_assert_eq(load("b", &c, NULL, NULL), 1);
	assert_said(1, "b: cannot be read: ");
	/* Without an end, and without a line. */
	cr_assert_eq(load("/dev/zero", &c, NULL, NULL), 1);
	assert_said(1, "/dev/zero: cannot be read: it has more than 1 MiB");
	cr_assert_eq(load("/dev/null", &c, NULL, NULL), 0);
	/* A FIFO that nobody writes to must not hang a reload, nor count as the defaults. */
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	cr_assert_eq(load("fifo", &c, NULL, NULL), 1);
	assert_said(1, "fifo: cannot be read: it is a pipe with nothing in it: ");
	/* The drop-in directory that is none. */
	write_text("a", "");
	write_text("a.d", "");
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(1, "a.d: cannot be read: Not a directory");
}

Test(config, a_pipe_is_read_to_its_end)
{
	int ends[2];
	char path[32];
	struct config c;

	cr_assert_eq(pipe(ends), 0);
	if (fork() == 0) {
		static const char text[] = "[listener]\nbacklog = 77\n";

		for (size_t i = 0; i < sizeof(text) - 1; i++) {
			(void)usleep(1000);
			if (write(ends[1], text + i, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	ends[1] = own_close(ends[1]);
	(void)snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
	cr_assert_eq(load(path, &c, NULL, NULL), 0, "%s", said);
	cr_assert_eq(c.backlog, 77);
	/* What it said is gone: a reload finds nothing to take into force. */
	cr_assert_eq(load(path, &c, NULL, NULL), 1);
	assert_said(1, "/dev/fd/");
	cr_assert(strstr(said, "read before, and only a file can be read again"), "%s",
	        said);
	ends[0] = own_close(ends[0]);
}

Test(config, a_drop_in_is_no_pipe, .timeout = 20)
{
	OWN_FD int writer = -1;
	struct config c;

	write_text("a", "");
	cr_assert_eq(mkdir("a.d", 0755), 0);
	cr_assert_eq(mkfifo("a.d/1.conf", 0600), 0);
	write_text("a.d/2.conf", "[listener]\nbacklog = 0\n");
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(2, "a.d/1.conf: cannot be read: it is a pipe",
	        "a.d/2.conf:2: [listener] backlog: '0' is out of range");
	/* Also one that has something to say. */
	writer = open("a.d/1.conf", O_RDWR | O_CLOEXEC);
	cr_assert_eq(write(writer, "\n", 1), 1);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(2, "a.d/1.conf: cannot be read: it is a pipe; ", "a.d/2.conf:2: ");
	/* The way to mask a file of that name. */
	cr_assert_eq(unlink("a.d/1.conf"), 0);
	cr_assert_eq(symlink("/dev/null", "a.d/1.conf"), 0);
	write_text("a.d/2.conf", "");
	cr_assert_eq(load("a", &c, NULL, NULL), 0, "%s", said);
}

/* What is said of a budget, by computing it on a machine of 256 descriptors and 1 MiB. */
static const char *budget_said(const struct config *c, int expected)
{
	static char text[4096];
	struct machine m = {256, 256, UINT64_C(1) << 20, 2};
	struct budget b;
	OWN_FILE FILE *out = fmemopen(text, sizeof(text), "w");

	cr_assert_eq(limits_compute(&m, c, 1, &b, out, out), expected);
	(void)fflush(out);
	return text;
}

static void assert_begins(const char *text, const char *expected)
{
	cr_assert_eq(strncmp(text, expected, strlen(expected)), 0,
	        "expected: %s\nseen: %s", expected, text);
}

Test(config, what_the_machine_cannot_give_is_told_with_its_place)
{
	struct config c = load_text("[budget]\nmax_connections = 5000\n");
	const char *text = budget_said(&c, 1), *next = strchr(text, '\n') + 1;

	assert_begins(text,
	        "a:2: [budget] max_connections: 5000 asked, which needs fds 5128, "
	        "but fds 256 allows ");
	assert_begins(
	        next, "a:2: [budget] max_connections: 5000 asked, but at 8 KiB each ");
	c = load_text("[budget]\nmax_connections = 100\nfds = 150\n");
	assert_begins(budget_said(&c, 1),
	        "a:2: [budget] max_connections: 100 asked, which "
	        "needs fds 176, but fds 150 (a:3) allows ");
	c = load_text("[budget]\nmax_connections = 100\n");
	assert_begins(
	        budget_said(&c, 0), "a:2: [budget] max_connections: 100 connections at ");
	cr_assert_eq(load("/dev/null", &c, "budget.fds=300", NULL), 0);
	assert_begins(
	        budget_said(&c, 1), "-o budget.fds=300: [budget] fds: 300 asked, but ");
	c = load_text("[workers]\ncount = 100\n");
	assert_begins(budget_said(&c, 1),
	        "[budget] fds: 256 are there, but [workers] count 100 "
	        "(a:2) needs ");
}

Test(config, no_permission)
{
	struct config c;

	write_text("a", "");
	cr_assert_eq(mkdir("a.d", 0755), 0);
	write_text("a.d/1.conf", "");
	cr_assert_eq(chmod("a.d/1.conf", 0), 0);
	cr_assert_eq(chmod("a.d", 0711), 0);
	/* root may read everything; nobody may not. */
	if (geteuid() == 0)
		cr_assert_eq(seteuid(65534), 0);
	else
		cr_assert_eq(chmod("a.d", 0111), 0);
	cr_assert_eq(load("a", &c, NULL, NULL), 1);
	assert_said(1, "a.d: cannot be read: Permission denied");
	cr_assert_eq(load("a.d/1.conf", &c, NULL, NULL), 1);
	assert_said(1, "a.d/1.conf: cannot be read: Permission denied");
	cr_assert_eq(seteuid(getuid()), 0);
	cr_assert_eq(chmod("a.d", 0755), 0);
}
