/*
 * overload.h - the spell of being full: when it begins and ends, and which spells the count of whom was shed
 * (source_top_shed) is of.
 */
#ifndef CORE_OVERLOAD_H
#define CORE_OVERLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/state.h"

struct port;
struct worker;

/* In w's own thread. A spell begins, unless one is on: the main thread is told. */
void port_begin_spell(struct worker *w, enum state_cause cause);
/* It begins for want of slots, if there is none and as many connections are open. */
void port_check_full(struct worker *w);
/* It ends, if connections are down to [shed] low_watermark and some worker can take a slot. */
void port_check_spell(struct worker *w);

/* The main thread's. */
/* While `sum` is true the beginning of a spell does not make the count of whom was shed begin anew: several spells
 * are told of as one. With false it begins anew now, in the midst of a spell if one is on. */
void port_top_sum(struct port *port, bool sum);
/* How many that are, the one that is on included. */
uint32_t port_top_spells(struct port *port);
/* Is the count of whom was shed one of this spell alone? */
bool port_top_is_of(struct port *port, const struct state_spell *spell);

#endif
