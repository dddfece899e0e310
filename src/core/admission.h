/*
 * admission.h - from an accepted client, for whom there is a slot, to a connection.
 */
#ifndef CORE_ADMISSION_H
#define CORE_ADMISSION_H

#include <stdint.h>

#include "core/ticket.h"

struct worker;

/* Serves an accepted connection that was judged and for which this worker has a slot; takes all
 * over. waited_ns is its time in the queue, CLOCK_INFINITY if it was not measured. */
void worker_admit(struct worker *w, int fd, uint64_t waited_ns, struct ticket *ticket);

#endif
