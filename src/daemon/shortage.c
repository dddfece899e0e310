/*
 * shortage.c - see shortage.h.
 *
 * Invariant: where the files cannot be opened (descriptors may be short, too) what was last read
 * stays.
 */
#include "daemon/shortage.h"

#include <errno.h>
#include <inttypes.h>

#include "base/clock.h"
#include "core/memory.h"
#include "daemon/daemon.h"
#include "daemon/status.h"
#include "net/fdtable.h"

static void shortage_tell(struct daemon *d, const struct memory *m)
{
	bool is_short = memory_is_short(m, false);

	if (!is_short)
		tell(&d->tell, TELL_MEMORY, clock_now(), NULL,
		        "memory is no longer short: %" PRIu64 " of %" PRIu64
		        " MiB left; new clients are served again",
		        m->left >> 20, m->limit >> 20);
	else
		tell(&d->tell, TELL_MEMORY, clock_now(), NULL,
		        "memory is short: %" PRIu64 " of %" PRIu64
		        " MiB left; new clients are turned away; %s, or lower "
		        "[budget] max_connections",
		        m->left >> 20, m->limit >> 20,
		        m->of_group ? "raise the control group's limit (MemoryMax=, "
		                      "memory.max)"
		                    : "give the machine more memory");
	status_touch(d);
}

static int shortage_on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct daemon *d = arg;
	struct memory m;
	uint64_t pause = CLOCK_SEC;

	(void)usec;
	/* While somebody lends a descriptor the next look is early enough. */
	int r = fdtable_enter() ? memory_read(&memory_paths, &m) : -EAGAIN;
	if (r != -EAGAIN)
		fdtable_leave();
	if (r == 0) {
		if (port_note_memory(d->port, &m))
			shortage_tell(d, &m);
		pause = memory_pause(&m);
	}
	r = sd_event_source_set_time_relative(source, pause / CLOCK_USEC);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int shortage_open_timer(struct daemon *d)
{
	return sd_event_add_time_relative(d->event, &d->memory_timer, CLOCK_MONOTONIC, 0,
	        1000, shortage_on_timer, d);
}
