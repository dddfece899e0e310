/*
 * err.h - adjectives for errno, so that no other file lists errnos by hand.
 *
 * All functions take a positive errno. Convention of the whole tree: a function returns a
 * negative errno for a failure, 0 for success, and a positive value for a named outcome
 * that its header documents.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <errno.h>
#include <stdbool.h>

/* Nothing happened; ask again when the descriptor is ready. */
static inline bool err_is_again(int err)
{
	return err == EAGAIN || err == EINTR; /* EWOULDBLOCK is EAGAIN on Linux */
}

/* The peer, or the way to it, is gone. */
static inline bool err_is_disconnect(int err)
{
	switch (err) {
	case ECONNRESET:
	case ECONNABORTED:
	case ECONNREFUSED:
	case EPIPE:
	case ENOTCONN:
	case ESHUTDOWN:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case ENETRESET:
	case ENONET:
	case EPROTO:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

/* The machine, or this process, has run short of something: descriptors or memory. */
static inline bool err_is_exhausted(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

/* Of those: descriptors. */
static inline bool err_is_no_fd(int err)
{
	return err == EMFILE || err == ENFILE;
}

#endif
