/*
 * conn_pool.h - where connections come from and go to: conn.c's, and that of what lingers, alone.
 */
#ifndef CORE_CONN_POOL_H
#define CORE_CONN_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/conn.h"

/* A FREE connection for fd, off its list; NULL without memory. */
struct conn *conn_alloc(
        struct worker *w, int fd, void (*ready)(struct watch *, uint32_t));
/* From any state to CLOSED, the descriptor too unless the caller keeps it. */
void conn_retire(struct conn *conn, bool keep_fd);
/* The only way to change it. */
void conn_set_state(struct conn *conn, enum conn_state next);
/* One writer: the worker. */
void conn_count_gauge(_Atomic uint32_t *gauge, int by);

#endif
