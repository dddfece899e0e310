/*
 * reason.c - why there is no answer, in words.
 */
#include "ctl/reason.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl/client.h"

/* The socket is there, but not for us: tell whose it is. */
static void permission_format(const char *path, char *buf, size_t size)
{
	char text[4096], parent[CLIENT_PATH_MAX];
	struct group group, *found = NULL;
	struct stat st;
	const char *what = path;

	if (stat(path, &st) < 0) {
		/* Then it is the directory that keeps us out. */
		(void)snprintf(parent, sizeof(parent), "%s", path);
		char *slash = strrchr(parent, '/');
		if (slash)
			*slash = '\0';
		what = parent;
		if (!slash || stat(parent, &st) < 0) {
			(void)snprintf(
			        buf, size, "; a directory on the way is closed to you");
			return;
		}
	}
	if (getgrgid_r(st.st_gid, &group, text, sizeof(text), &found) == 0 && found)
		(void)snprintf(buf, size,
		        "; %s is for group %s (mode %04o): become a member, or be root",
		        what, found->gr_name, (unsigned)st.st_mode & 07777U);
	else
		(void)snprintf(buf, size,
		        "; %s is for group %u (mode %04o): become a member, or be root",
		        what, (unsigned)st.st_gid, (unsigned)st.st_mode & 07777U);
}

/* The unit whose socket this is, as portd's units have it. */
static void unit_format(const char *path, char *buf, size_t size)
{
	char name[256];

	if (sscanf(path, "/run/portd-%200[^/]/control.sock", name) == 1)
		(void)snprintf(buf, size, "portd@%s", name);
	else
		(void)snprintf(buf, size, "portd");
}

static void nobody_format(const char *path, int err, char *buf, size_t size)
{
	char more[512];

	errno = err;
	if (err != EACCES && err != EPERM) {
		unit_format(path, more, sizeof(more));
		errno = err;
		(void)snprintf(buf, size,
		        "no portd answers at %s: %m; is it running? (systemctl status "
		        "%s; "
		        "for another socket: -s, -i or $PORTD_SOCKET)",
		        path, more);
		return;
	}
	permission_format(path, more, sizeof(more));
	errno = err;
	(void)snprintf(buf, size, "may not open %s: %m%s", path, more);
}

void reason_format(const char *path, int outcome, int err, unsigned timeout_s, char *buf,
        size_t size)
{
	switch (outcome) {
	case CLIENT_NOBODY:
		nobody_format(path, err, buf, size);
		break;
	case CLIENT_TIMEOUT:
		(void)snprintf(
		        buf, size, "no answer from %s within %u s", path, timeout_s);
		break;
	case CLIENT_EMPTY:
		(void)snprintf(buf, size, "%s was closed without an answer", path);
		break;
	case CLIENT_CUT:
		(void)snprintf(buf, size, "the answer from %s was cut short", path);
		break;
	case CLIENT_HUGE:
		(void)snprintf(buf, size,
		        "the answer from %s is longer than any of portd's (%u MiB, %u "
		        "lines, %u bytes a row)",
		        path, CLIENT_ANSWER_MAX >> 20, CLIENT_ANSWER_LINES_MAX,
		        CLIENT_LINE_MAX);
		break;
	default:
		errno = -outcome;
		(void)snprintf(buf, size, "cannot ask %s: %m", path);
		break;
	}
}
