/*
 * portctl.c - what portctl makes of an answer, of portd's or of a hostile one. The first line has letters
 * that choose the command and its options, the rest is the answer; FUZZ_NEXT begins the next one for a
 * command that asks again.
 *
 *   p print   h health   l health --live   e events   E events --json   f events --follow
 *   m limits  M limits --json   c conns   C conns --json
 *   then: u --utc, 0 to 6 --sort, s --source, digits 7 to 9 --limit, x nobody answers, a to d: another
 *   machine for limits
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "ctl/client.h"
#include "ctl/commands.h"
#include "ctl/conns.h"
#include "ctl/limits.h"

#define FD_FIRST 200

static struct fuzz_piece answers; /* that are still to come */
static bool nobody;
static char machine_kind;

int __real_connect(int fd, const struct sockaddr *to, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
void __wrap_limits_machine_read(
        const char *root, uint64_t pid, struct limits_machine *ret);
void __wrap_limits_config_read(const char *root, struct limits_portd *p);

/* fd becomes one end of a pair; the other has written the next answer, and is closed. */
int __wrap_connect(int fd, const struct sockaddr *to, socklen_t len)
{
	int pair[2], size = 1 << 20;

	(void)to;
	(void)len;
	if (nobody || answers.len == 0) {
		errno = ENOENT;
		return -1;
	}
	struct fuzz_piece answer = fuzz_cut(&answers, FUZZ_NEXT);

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	                   pair) == 0,
	        "no pair of sockets");
	(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	while (answer.len > 0) {
		ssize_t n = send(pair[1], answer.bytes, answer.len, MSG_NOSIGNAL);

		if (n <= 0)
			break; /* what does not fit was cut */
		answer.bytes += n;
		answer.len -= (size_t)n;
	}
	FUZZ_CHECK(dup3(pair[0], fd, O_CLOEXEC) == fd, "no descriptor");
	(void)close(pair[0]);
	(void)close(pair[1]);
	return 0;
}

/* Whoever pauses need not wait. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return __real_poll(fds, n, n == 1 && fds->events ? timeout : 0);
}

static struct limits_value value_of(uint64_t n)
{
	struct limits_value v = {.n = n, .from = "/proc/sys/fuzz"};

	if (machine_kind == 'b')
		v = (struct limits_value){
		        .n = LIMITS_NONE, .err = EACCES, .from = "/proc/x"};
	if (machine_kind == 'c')
		v.n = LIMITS_NONE;
	if (machine_kind == 'd')
		v.n = n % 3;
	return v;
}

#define AT(field) offsetof(struct limits_machine, field)

static const struct {
	size_t at;
	uint64_t n;
} values[] = {
        {AT(nofile_soft), 1024},
        {AT(nofile_hard), 20000},
        {AT(nr_open), 1048576},
        {AT(file_max), UINT64_C(1) << 40},
        {AT(file_used), 2000},
        {AT(memory_total), UINT64_C(8) << 30},
        {AT(memory_available), UINT64_C(4) << 30},
        {AT(cgroup_memory), UINT64_C(2) << 30},
        {AT(cgroup_memory_used), 1 << 20},
        {AT(cgroup_pids), 100},
        {AT(cgroup_pids_used), 3},
        {AT(somaxconn), 4096},
        {AT(syn_backlog), 1024},
        {AT(syncookies), 1},
        {AT(abort_on_overflow), 0},
        {AT(tcp_mem[0]), 1000},
        {AT(tcp_mem[1]), 2000},
        {AT(tcp_mem[2]), 3000},
        {AT(tcp_mem_used), 10},
        {AT(conntrack_max), 262144},
        {AT(conntrack_used), 7},
        {AT(port_first), 32768},
        {AT(port_last), 60999},
        {AT(unit.nofile_soft), 1024},
        {AT(unit.nofile_hard), 1024},
};

void __wrap_limits_machine_read(
        const char *root, uint64_t pid, struct limits_machine *ret)
{
	(void)root;
	memset(ret, 0, sizeof(*ret));
	ret->pid = pid;
	ret->is_portd = machine_kind == 'a';
	ret->cpus = 2;
	ret->page = 4096;
	ret->network = (enum limits_network)(machine_kind % 4);
	ret->ports_reserved = 1;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		*(struct limits_value *)(void *)((char *)ret + values[i].at) =
		        value_of(values[i].n);
	if (machine_kind == 'a')
		(void)snprintf(
		        ret->unit.name, sizeof(ret->unit.name), "portd@fuzz.service");
}

void __wrap_limits_config_read(const char *root, struct limits_portd *p)
{
	(void)root;
	limits_place_take(p, "budget.fds", "/etc/portd.conf:3");
}

/* Standard output is a file in memory from the first run on. Returns what was written to it. */
static char *standard_output(size_t *ret_len)
{
	static int fd;

	if (fd == 0) {
		int low = memfd_create("fuzz", MFD_CLOEXEC);

		fd = fcntl(low, F_DUPFD_CLOEXEC, FD_FIRST);
		FUZZ_CHECK(
		        fd > 0 && dup2(low, STDOUT_FILENO) == STDOUT_FILENO, "no memfd");
		(void)close(low);
	}
	off_t len = lseek(fd, 0, SEEK_END);
	char *text = malloc((size_t)len + 1);

	FUZZ_CHECK(len >= 0 && text && pread(fd, text, (size_t)len, 0) == len,
	        "no standard output");
	text[len] = '\0';
	FUZZ_CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0, "no memfd");
	*ret_len = (size_t)len;
	return text;
}

/* What the first line asks for. */
struct asked {
	char command;
	struct command_call call;
	uint64_t limit;
};

static const struct {
	char letter;
	const char *request;
	command_fn *run;
	bool is_json, is_plain;
} commands[] = {
        {'p', "stats text", commands_print, false, false},
        {'h', "health", commands_health, false, true},
        {'l', "health live", commands_health_live, false, true},
        {'e', "events", commands_print_times, false, false},
        {'E', "events json", commands_print, false, false},
        {'f', "events", commands_follow, false, false},
        {'m', "limits", commands_limits, false, true},
        {'M', "limits", commands_limits_json, true, true},
        {'c', "conns", commands_conns, false, true},
        {'C', "conns", commands_conns_json, true, true},
};

static void asked_read(struct asked *a, struct fuzz_piece line)
{
	static const char *const sorts[] = {
	        "age", "idle", "bytes", "in", "out", "source", "worker"};

	*a = (struct asked){.command = line.len > 0 ? line.bytes[0] : 'p',
	        .call = {.path = "/fuzz.sock", .timeout_s = 10}};
	(void)conns_parse_sort(NULL, &a->call.sort);
	nobody = false;
	machine_kind = '\0';
	for (size_t i = 1; i < line.len; i++) {
		char c = line.bytes[i];

		if (c == 'u')
			a->call.utc = true;
		else if (c == 's')
			a->call.from = "192.0.2.0/24";
		else if (c == 'x')
			nobody = true;
		else if (c >= 'a' && c <= 'd')
			machine_kind = c;
		else if (c >= '0' && c <= '6')
			(void)conns_parse_sort(sorts[c - '0'], &a->call.sort);
		else if (c >= '7' && c <= '9')
			a->limit = (uint64_t)(c - '7') * 2;
		if (c >= '7' && c <= '9')
			a->call.limit = &a->limit;
	}
}

/* What comes out, by the contract of commands.h and portctl(1). */
static void check_outcome(size_t i, int code, const char *out, size_t out_len,
        const struct fuzz_taken *told)
{
	bool lists = commands[i].run == commands_conns ||
	             commands[i].run == commands_conns_json;

	FUZZ_CHECK(code == EXIT_DONE || code == EXIT_REFUSED || code == EXIT_NO_ANSWER,
	        "code %d", code);
	FUZZ_CHECK(code != EXIT_DONE || told->len == 0, "code 0, told: %s", told->text);
	FUZZ_CHECK(code != EXIT_NO_ANSWER || told->len > 0, "code 2, and no reason");
	FUZZ_CHECK(code != EXIT_REFUSED || told->len > 0 || out_len > 0,
	        "code 1, and no reason");
	FUZZ_CHECK(code != EXIT_NO_ANSWER || out_len == 0 ||
	                   commands[i].run == commands_follow,
	        "no answer, and yet: %s", out);
	FUZZ_CHECK(told->len == 0 || strncmp(told->text, "portctl: ", 9) == 0, "told: %s",
	        told->text);
	fuzz_check_plain("stderr", told->text, told->len);
	if (commands[i].is_plain)
		fuzz_check_plain("stdout", out, out_len);
	if (commands[i].is_json && (code == EXIT_DONE || (lists && out_len > 0)))
		fuzz_check_json("stdout", out, out_len);
}

static void run(size_t i, struct asked *a)
{
	FILE *const err = stderr;
	struct fuzz_taken told;
	struct sigaction interrupt;
	size_t out_len;

	a->call.request = commands[i].request;
	(void)sigaction(SIGINT, NULL, &interrupt);
	free(standard_output(&out_len));
	stderr = fuzz_take(&told);
	int code = commands[i].run(&a->call);
	stderr = err;
	fuzz_taken(&told);
	(void)sigaction(SIGINT, &interrupt, NULL);
	OWN_MEM char *out = standard_output(&out_len);

	check_outcome(i, code, out, out_len, &told);
	fuzz_drop(&told);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_piece rest = {(const char *)data, size};
	struct asked asked;

	asked_read(&asked, fuzz_cut(&rest, "\n"));
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		answers = rest;
		if (commands[i].letter == asked.command)
			run(i, &asked);
	}
	return 0;
}
