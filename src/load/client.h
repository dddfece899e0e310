/*
 * client.h - one connection: started, connected, spoken to, and what became of it.
 */
#ifndef LOAD_CLIENT_H
#define LOAD_CLIENT_H

#include <stdint.h>

#include "load/engine.h"

/* Starts a connection that was due then (ns of clock_now). It may have its outcome when this
 * returns. Returns 0, or -errno if this machine lacks something; the attempt is counted
 * as failed then. */
int client_start(struct engine *engine, uint64_t due);

/* What epoll says of a descriptor. */
void client_ready(struct engine *engine, int fd, uint32_t events);

/* Its time is up. */
void client_expire(struct engine *engine, int fd);

/* Hold: what has stood long enough stands. Counts it as served. */
void client_settle(struct engine *engine, int fd);

/* Says the payload over a held connection; client_ready notices when it has come back. */
void client_ask(struct engine *engine, int fd);

/* A connection that was asked by client_ask, and has not echoed: counted so, and still held. */
void client_unanswered(struct engine *engine, int fd);

/* Closes it with a reset, with nothing counted but that it is no longer open. */
void client_drop(struct engine *engine, int fd);

#endif
