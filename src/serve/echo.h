/*
 * echo.h - the service «echo»: returns what it gets (RFC 862), serves half-open clients
 * right, and stops reading from a client that does not read.
 */
#ifndef SERVE_ECHO_H
#define SERVE_ECHO_H

#include "core/service.h"

extern const struct service echo_service;

#endif
