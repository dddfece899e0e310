/*
 * gauges.h - how many connections are open now, of all workers. Any thread: what is read was true of each
 * worker at some moment of the call.
 */
#ifndef CORE_GAUGES_H
#define CORE_GAUGES_H

#include <stdbool.h>
#include <stdint.h>

struct port;

/* Open connections. O(workers), as all of these. */
uint32_t port_connections(const struct port *port);
/* The same without those in priority slots. */
uint32_t port_ordinary(const struct port *port);
/* Of those, without whom a dry run (if one is on) has let in against a limit. */
uint32_t port_asked_open(const struct port *port, bool dry_run);

#endif
