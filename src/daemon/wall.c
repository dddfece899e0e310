/*
 * wall.c - the time on the wall, and texts for JSON.
 */
#include "daemon/wall.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"

struct wall wall_read(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (struct wall){.ahead = (int64_t)ts.tv_sec * (int64_t)CLOCK_SEC +
	                              ts.tv_nsec - (int64_t)clock_now()};
}

char *wall_format(const struct wall *wall, uint64_t at, char buf[static WALL_TEXT_MAX])
{
	int64_t ns = (int64_t)at + wall->ahead;
	time_t seconds = ns / (int64_t)CLOCK_SEC;
	struct tm tm;

	/* Before 1970 by the wall: a clock that nobody has set. */
	if (ns < 0)
		seconds = ns = 0;
	(void)gmtime_r(&seconds, &tm);
	size_t len = strftime(buf, WALL_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(buf + len, WALL_TEXT_MAX - len, ".%03uZ",
	        (unsigned)(ns % (int64_t)CLOCK_SEC / (int64_t)CLOCK_MSEC));
	return buf;
}
