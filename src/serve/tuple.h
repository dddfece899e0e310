/*
 * tuple.h - the service «tuple»: one line, `tcp SRC_ADDR SRC_PORT DST_ADDR DST_PORT\n`,
 * then closes so that the client surely gets it. What makes a connection unique, shown by
 * the connection itself.
 */
#ifndef SERVE_TUPLE_H
#define SERVE_TUPLE_H

#include "core/service.h"

extern const struct service tuple_service;

#endif
