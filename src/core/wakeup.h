/*
 * wakeup.h - waking a worker, and the main thread: an eventfd each, whose number is the same in every table.
 */
#ifndef CORE_WAKEUP_H
#define CORE_WAKEUP_H

struct event;
struct worker;

/* Wakes a worker. Any thread. */
void worker_kick(struct worker *w);
/* The same even if a peer that was to wake it has stalled on the way: for the main thread. */
void worker_wake(struct worker *w);
/* Tells the main thread something, if the ring has room. w's own thread. */
void worker_tell(struct worker *w, const struct event *event);
/* Something is there for the main thread to read. */
void worker_tell_main(struct worker *w);

#endif
