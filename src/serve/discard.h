/*
 * discard.h - the service «discard»: reads and throws away (RFC 863).
 */
#ifndef SERVE_DISCARD_H
#define SERVE_DISCARD_H

#include "core/service.h"

extern const struct service discard_service;

#endif
