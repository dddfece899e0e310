/*
 * signals.c - TERM, INT and HUP, from the first moment on.
 *
 * Invariant: whether a second signal to stop is the same wish is not judged by the time at which it
 * is read: a timer of a lower priority says when the time for that is over. So one that came in time
 * counts as such, however late this thread was.
 */
#include "daemon/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/daemon.h"
#include "daemon/reload.h"
#include "daemon/stop.h"
#include "net/fdtable.h"

static void signals_set(sigset_t *set)
{
	(void)sigemptyset(set);
	(void)sigaddset(set, SIGTERM);
	(void)sigaddset(set, SIGINT);
	(void)sigaddset(set, SIGHUP);
}

void signals_hold(void)
{
	sigset_t set;

	signals_set(&set);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGUSR1, SIG_IGN);
	(void)signal(SIGUSR2, SIG_IGN);
	(void)signal(SIGTTIN, SIG_IGN);
	(void)signal(SIGTTOU, SIG_IGN);
}

void signals_release(void)
{
	sigset_t set;

	signals_set(&set);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

bool signals_stop_is_pending(void)
{
	sigset_t set;

	return sigpending(&set) == 0 &&
	       (sigismember(&set, SIGTERM) == 1 || sigismember(&set, SIGINT) == 1);
}

/* Returns 0, or the errno of a process without a controlling terminal, or of one that is short of
 * descriptors. */
static int terminal_try(void)
{
	OWN_FD int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? errno : 0;
}

void signals_look(struct signals *s)
{
	struct sigaction hup;

	s->has_terminal = terminal_try() == 0 && sigaction(SIGHUP, NULL, &hup) == 0 &&
	                  hup.sa_handler != SIG_IGN;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGCHLD, SIG_IGN);
	/* Those that had ended before are not the kernel's to bury. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* The controlling terminal is not there any more. */
static bool terminal_is_gone(struct daemon *d)
{
	int err = terminal_try();

	if (err_is_no_fd(err)) {
		fdtable_lock();
		(void)reserve_lend(&d->reserve, 1);
		err = terminal_try();
		(void)reserve_fill(&d->reserve);
		fdtable_unlock();
	}
	return err != 0 && !err_is_no_fd(err);
}

/* It comes from the kernel, or from the shell whose terminal it is, which passes it on. */
static bool signals_is_hangup(struct daemon *d, const struct signalfd_siginfo *info)
{
	if (!d->signals.has_terminal)
		return false;
	if (info->ssi_code != SI_KERNEL && (pid_t)info->ssi_pid != getsid(0))
		return false;
	return terminal_is_gone(d);
}

static int signals_on_settled(sd_event_source *source, uint64_t usec, void *arg)
{
	struct daemon *d = arg;

	(void)source;
	(void)usec;
	d->signals.settled = true;
	return 0;
}

static void signals_stop(struct daemon *d)
{
	bool first = !d->stopping;

	daemon_stop(d);
	if (!first)
		return;
	int r = sd_event_add_time_relative(d->event, &d->signals.settle, CLOCK_MONOTONIC,
	        SIGNALS_SAME_USEC, 1000, signals_on_settled, d);
	if (r >= 0)
		r = sd_event_source_set_priority(
		        d->signals.settle, SD_EVENT_PRIORITY_NORMAL + 1);
	if (r < 0)
		d->signals.settled = true;
}

static int signals_on_stop(
        sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct daemon *d = arg;

	(void)source;
	(void)info;
	if (!d->stopping || d->signals.settled)
		signals_stop(d);
	return 0;
}

static int signals_on_hangup(
        sd_event_source *source, const struct signalfd_siginfo *info, void *arg)
{
	struct daemon *d = arg;
	uint64_t due = (d->reloaded_at / CLOCK_USEC) + SIGNALS_PACE_USEC;

	(void)source;
	if (d->stopping)
		return 0;
	if (signals_is_hangup(d, info)) {
		log_info("stopping: the terminal has hung up");
		signals_stop(d);
		return 0;
	}
	/* A flood of them must not keep this thread from all else. */
	if (d->reloaded_at && clock_now() / CLOCK_USEC < due &&
	        sd_event_source_set_time(d->signals.pace, due) >= 0 &&
	        sd_event_source_set_enabled(d->signals.pace, SD_EVENT_ONESHOT) >= 0)
		return 0;
	(void)reload_run(d, NULL);
	return 0;
}

static int signals_on_pace(sd_event_source *source, uint64_t usec, void *arg)
{
	struct daemon *d = arg;

	(void)source;
	(void)usec;
	if (!d->stopping)
		(void)reload_run(d, NULL);
	return 0;
}

int signals_open(struct daemon *d)
{
	int r = sd_event_add_signal(d->event, NULL, SIGTERM, signals_on_stop, d);

	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGINT, signals_on_stop, d);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGHUP, signals_on_hangup, d);
	if (r >= 0)
		r = sd_event_add_time(d->event, &d->signals.pace, CLOCK_MONOTONIC, 0,
		        1000, signals_on_pace, d);
	if (r >= 0)
		r = sd_event_source_set_enabled(d->signals.pace, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

void signals_close(struct signals *s)
{
	s->settle = sd_event_source_disable_unref(s->settle);
	s->pace = sd_event_source_disable_unref(s->pace);
}
