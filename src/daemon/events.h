/*
 * events.h - what goes into the history, and the answer to `portctl events`. Each of these is called
 * where the thing happens. Main thread only.
 */
#ifndef DAEMON_EVENTS_H
#define DAEMON_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/state.h"
#include "daemon/history.h"

struct daemon;
struct stats;

/* The port is open, from wherever it has its listener. */
void events_open(struct daemon *d);
/* The service manager keeps the listener from now on. */
void events_stored(struct daemon *d);
/* A spell of being full began, ended. */
void events_full(
        struct daemon *d, const struct state_spell *spell, const struct stats *s);
void events_not_full(struct daemon *d, const struct state_spell *spell);
void events_gate(struct daemon *d, bool closed);
void events_drain(struct daemon *d, bool on);
/* The verdict of a reload; the first mistake is in d->reload_error. */
void events_reload(struct daemon *d, bool rejected);
/* HISTORY_STALLED or HISTORY_TURNS_AGAIN: about this worker, while so many are stalled. */
void events_stall(
        struct daemon *d, enum history_kind kind, unsigned id, unsigned stalled);
void events_accept_error(struct daemon *d, unsigned worker, int err);
/* The port is down, for d->down_why; it works again, after `lasted` ns. */
void events_down(struct daemon *d);
void events_up(struct daemon *d, uint64_t lasted);
/* So many reports of workers were lost. */
void events_reports_lost(struct daemon *d, uint64_t lost);
void events_stopping(struct daemon *d);

/* With every tick: writes what was kept back and is due. */
void events_flush(struct daemon *d);

/* `events [json]`: all that is there, and what is kept back, as far as it is known now. With a cursor
 * («0» or what the last answer ended with): what came since, and a last line «cursor CURSOR». */
void events_answer(struct daemon *d, bool json, const char *cursor, FILE *out);

#endif
