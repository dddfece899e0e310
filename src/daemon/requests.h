/*
 * requests.h - what the control socket can be asked, and the answers. Main thread only.
 */
#ifndef DAEMON_REQUESTS_H
#define DAEMON_REQUESTS_H

#include <stdio.h>

#include "daemon/control.h"

/* Answers one request; arg is the struct daemon. It is the control socket's handler. */
void requests_answer(void *arg, const struct control_request *request, FILE *out);

#endif
