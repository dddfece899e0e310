/*
 * conns.h - the answer to `conns`: the open connections, as a stream. Main thread only.
 *
 * Lines of words with a blank between them:
 *   open N                      how many were open when it began
 *   SRC_ADDR SRC_PORT DST_ADDR DST_PORT WORKER AGE IDLE IN OUT
 *                               for each: times in us up to when it began, traffic in bytes
 *   missing WORKER              one that does not turn: not all of its connections were told of
 *   end N                       how many were; without this line the answer was cut
 */
#ifndef DAEMON_CONNS_H
#define DAEMON_CONNS_H

#include <stdio.h>

#include "daemon/control.h"

struct daemon;

/* Begins the answer, for connections from one network or address ("": all). Puts a stream into
 * *request->stream, or writes an error to out: there are places for so many listings at once
 * (core/walk.h), and where all are taken, who is privileged gets that of the oldest who is not. */
void conns_answer(struct daemon *d, const struct control_request *request,
        const char *network, FILE *out);

/* Goes on with the listings that wait for a worker: it may have answered, or stalled. With every tick
 * and whenever workers have news. */
void conns_check(struct daemon *d);

#endif
