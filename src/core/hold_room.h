/*
 * hold_room.h - room for the held client: the slots that are free, those for priority sources, and the
 * slot of the connection that has been idle longest.
 */
#ifndef CORE_HOLD_ROOM_H
#define CORE_HOLD_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct worker;

enum hold_room {
	HOLD_ROOM_NONE, /* nobody has been idle for long enough: look again at *ret_when */
	HOLD_ROOM_MADE,  /* a slot came free, here and now */
	HOLD_ROOM_ASKED, /* a peer was asked for one, and tells; look again at *ret_when */
};

/* Takes a slot for the worker that should have the next client: w itself, or the emptiest one if w
 * holds more than its share. Returns its id, or -1. Holder only. */
int hold_room_take(struct worker *w);

/* Slots are free, but nobody can take one because descriptors are missing. */
bool hold_room_lacks_fds(const struct worker *w);

/* No slot is to be had, but fewer connections are open than there are slots, and descriptors are not
 * short: a worker took one to accept with. In a moment it gives it back, and tells the holder, or turns
 * it into a connection, and does not. True for at most HOLD_PASSING_NS at a time: who took it may stand
 * still. Holder only. */
bool hold_room_is_passing(struct worker *w);
/* w was late, and so may its peers be: slots that their clients have given up meanwhile may still have to
 * come free. */
bool hold_room_was_late(const struct worker *w);
/* If so: wakes the peers, and is true until they have turned; for HOLD_LATE_NS at most, and once for each
 * held client. Until then nobody goes for want of a slot. Holder only. */
bool hold_room_awaits_peers(struct worker *w);

/* Could there be room for a client, of a priority source or not, although no ordinary slot is free?
 * Then it is worth holding even if its time is up, and with queue_timeout = infinity too. */
bool hold_room_is_possible(const struct worker *w, bool priority);

/* Has the connection closed that has been idle longest in all of portd, if it has been so for
 * [shed] evict_idle; a client whose time is up (`expired`) gets one such try. *ret_when: ns,
 * CLOCK_INFINITY: never. Holder only. */
enum hold_room hold_room_evict(struct worker *w, bool expired, uint64_t *ret_when);

/* The holder has asked w. Called in w's turn. */
void hold_room_answer(struct worker *w);

/* Takes a priority slot for a held client of a priority source. Returns false if there is none, or
 * no descriptor. Holder only. */
bool hold_room_take_priority(struct worker *w);

#endif
