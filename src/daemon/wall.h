/*
 * wall.h - ns of CLOCK_MONOTONIC, which everything is kept in, as the time on the wall, which people
 * ask for.
 *
 * Both clocks are read when somebody asks, not when something happens: a wall clock that jumps
 * shifts all times alike and changes no order. Only UTC: a time zone is a file, and portd may be
 * out of descriptors. portctl makes local time of it.
 */
#ifndef DAEMON_WALL_H
#define DAEMON_WALL_H

#include <stdint.h>

struct wall {
	int64_t ahead; /* CLOCK_REALTIME minus CLOCK_MONOTONIC, ns */
};

/* Both clocks, now. */
struct wall wall_read(void);

/* RFC 3339, for `at`, ns of CLOCK_MONOTONIC: "2026-11-22T14:02:11.123Z". Returns buf. */
#define WALL_TEXT_MAX 40
char *wall_format(const struct wall *wall, uint64_t at, char buf[static WALL_TEXT_MAX]);

#endif
