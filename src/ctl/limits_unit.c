/*
 * limits_unit.c - what systemd says about the service that a process is.
 *
 * Invariants: systemctl(1) is asked only where systemd is the manager (sd_booted(3)), for at most
 * ASK_NS, and believed only if the process is the main process of the unit: in a container the
 * same name can be another unit's. Without an answer there is no unit, and no error.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/own.h"
#include "base/parse.h"
#include "ctl/limits_machine.h"

#define ASK_NS     (2 * CLOCK_SEC)
#define ANSWER_MAX 4096

static void take_number(const char *text, const char *from, struct limits_value *ret)
{
	*ret = (struct limits_value){.n = LIMITS_NONE};
	(void)snprintf(ret->from, sizeof(ret->from), "%s", from);
	if (strcmp(text, "infinity") != 0)
		ret->err = -parse_uint(text, &ret->n);
}

bool limits_unit_parse(char *text, uint64_t pid, struct limits_unit *ret)
{
	char *rest = NULL;
	uint64_t main_pid = 0;

	ret->nofile_soft.err = ret->nofile_hard.err = ENODATA;
	for (char *line = strtok_r(text, "\n", &rest); line;
	        line = strtok_r(NULL, "\n", &rest)) {
		char *value = strchr(line, '=');

		if (!value)
			continue;
		*value++ = '\0';
		if (strcmp(line, "MainPID") == 0)
			(void)parse_uint(value, &main_pid);
		else if (strcmp(line, "LimitNOFILE") == 0)
			take_number(value, "LimitNOFILE", &ret->nofile_hard);
		else if (strcmp(line, "LimitNOFILESoft") == 0)
			take_number(value, "LimitNOFILESoft", &ret->nofile_soft);
	}
	return main_pid == pid && !ret->nofile_hard.err;
}

/* Starts systemctl; its output comes from *ret_fd. Returns 0 or an errno. */
static int ask(char *unit, int *ret_fd, pid_t *ret_pid)
{
	char *argv[] = {(char[]){"systemctl"}, (char[]){"show"}, (char[]){"--no-pager"},
	        (char[]){"--property=MainPID,LimitNOFILE,LimitNOFILESoft"},
	        (char[]){"--"}, unit, NULL};
	posix_spawn_file_actions_t actions;
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return errno;
	OWN_FD int read_end = pipe_fds[0], write_end = pipe_fds[1];
	int r = posix_spawn_file_actions_init(&actions);
	if (r)
		return r;
	r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&actions, write_end, 1);
	if (!r)
		r = posix_spawn_file_actions_addopen(
		        &actions, 2, "/dev/null", O_WRONLY, 0);
	if (!r)
		r = posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (!r)
		*ret_fd = TAKE_FD(read_end);
	return r;
}

/* Reads until the end or the deadline. Returns whether the end came. */
static bool listen_to(int fd, char buf[static ANSWER_MAX])
{
	uint64_t deadline = clock_now() + ASK_NS;
	size_t len = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_now();
		int n = now >= deadline
		                ? 0
		                : poll(&p, 1, (int)((deadline - now) / CLOCK_MSEC) + 1);

		if (n == 0 || (n < 0 && !err_is_again(errno)))
			return false;
		if (n < 0)
			continue;

		ssize_t got = read(fd, buf + len, ANSWER_MAX - 1 - len);
		if (got <= 0) {
			buf[len] = '\0';
			return got == 0 && len < ANSWER_MAX - 1;
		}
		len += (size_t)got;
	}
}

void limits_unit_read(
        const char *root, const struct limits_machine *m, struct limits_unit *ret)
{
	char path[64], text[ANSWER_MAX];
	struct limits_unit unit = {.name = ""};
	OWN_FD int fd = -1;
	pid_t child = 0;
	int status = 0;

	*ret = (struct limits_unit){.name = ""};
	(void)snprintf(path, sizeof(path), "%s/run/systemd/system", root);
	if (access(path, F_OK) < 0)
		return;
	limits_cgroup_unit(root, m, unit.name);
	if (!*unit.name || ask(unit.name, &fd, &child) != 0)
		return;

	bool complete = listen_to(fd, text);
	if (!complete)
		(void)kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0 && err_is_again(errno))
		;
	if (complete && limits_unit_parse(text, m->pid, &unit))
		*ret = unit;
}
