/*
 * configure.h - what a start and a reload have in common: what a configuration names and the system has or
 * has not, and how mistakes and warnings are told.
 */
#ifndef DAEMON_CONFIGURE_H
#define DAEMON_CONFIGURE_H

#include <stdio.h>
#include <sys/types.h>

struct config;
struct daemon;

/* Looks up [control] group. Returns 0, or the code to exit with after a line in
 * errors. It may ask the name services. */
int start_find_group(const struct config *config, gid_t *ret, FILE *errors);

/* Writes «warning: …» to out if the kernel has clamped the backlog. */
void start_check_backlog(const struct daemon *d, FILE *out);

/* Calls line for each line of text (NULL: none), without its newline.
 */
void start_each_line(
        const char *text, void (*line)(const char *line, void *arg), void *arg);
/* For start_each_line: «warning: » and the line to the FILE arg. */
void start_print_warning(const char *line, void *arg);

#endif
