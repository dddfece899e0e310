/*
 * own.h - ownership, in the type and the name.
 *
 * A variable with a cleanup attribute owns what it names and gives it up when it goes out
 * of scope; TAKE_FD and TAKE_PTR hand it on. Every destructor here accepts the empty
 * value and leaves errno alone, so that any half-built object may be destroyed.
 */
#ifndef BASE_OWN_H
#define BASE_OWN_H

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Closes fd if there is one. Always returns -1, so that `x = own_close(x)` empties x.
 * EINTR counts as closed, as close(2) says for Linux. */
static inline int own_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;
		(void)close(fd);
		errno = saved;
	}
	return -1;
}

static inline void own_close_p(int *fd)
{
	*fd = own_close(*fd);
}

static inline void own_free_p(void *p)
{
	/* p is the address of some pointer; memcpy would only hide that. */
	free(*(void **)p);
	*(void **)p = NULL;
}

static inline void own_fclose_p(FILE **f)
{
	if (*f)
		(void)fclose(*f);
	*f = NULL;
}

#define OWN_FD   __attribute__((cleanup(own_close_p)))
#define OWN_MEM  __attribute__((cleanup(own_free_p)))
#define OWN_FILE __attribute__((cleanup(own_fclose_p)))

/* The value, leaving the variable empty: ownership moves to the caller. */
#define TAKE_FD(fd) \
	({ \
		int *take_p_ = &(fd); \
		int take_v_ = *take_p_; \
		*take_p_ = -1; \
		take_v_; \
	})
#define TAKE_PTR(ptr) \
	({ \
		__typeof__(ptr) *take_p_ = &(ptr); \
		__typeof__(ptr) take_v_ = *take_p_; \
		*take_p_ = NULL; \
		take_v_; \
	})

#endif
