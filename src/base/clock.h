/*
 * clock.h - time, as nanoseconds of CLOCK_MONOTONIC. The wall clock is never used to
 * decide anything: it jumps.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_USEC     UINT64_C(1000)
#define CLOCK_MSEC     UINT64_C(1000000)
#define CLOCK_SEC      UINT64_C(1000000000)
#define CLOCK_INFINITY UINT64_MAX

/* Now, in ns. clock_gettime(2) cannot fail for CLOCK_MONOTONIC. */
static inline uint64_t clock_now(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_SEC + (uint64_t)ts.tv_nsec;
}

/* a + b, CLOCK_INFINITY if either is or if the sum overflows. */
static inline uint64_t clock_add(uint64_t a, uint64_t b)
{
	return a > CLOCK_INFINITY - b ? CLOCK_INFINITY : a + b;
}

#endif
