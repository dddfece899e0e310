/*
 * probe.h - where to look inside a running portd: USDT probes, which bpftrace(8), perf(1) and
 * SystemTap find in the binary (`readelf -n`). A probe is one nop while nobody looks, and its arguments
 * are at hand anyway. Built without sys/sdt.h (Debian's systemtap-sdt-dev) there are none.
 *
 * portd(8), LOOKING INSIDE, has the same table: names and arguments are an interface, additive only. A
 * reason is the word of `portctl stats`, a string.
 */
#ifndef CORE_PROBE_H
#define CORE_PROBE_H

#include <config.h>

#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>
#else
#define DTRACE_PROBE2(provider, name, a, b)    ((void)(a), (void)(b))
#define DTRACE_PROBE3(provider, name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define DTRACE_PROBE6(provider, name, a, b, c, d, e, f) \
	((void)(a), (void)(b), (void)(c), (void)(d), (void)(e), (void)(f))
#endif

/* accept4(2) has given a connection: worker, descriptor. */
#define PROBE_ACCEPT(worker, fd) DTRACE_PROBE2(portd, accept, worker, fd)

/* Its service begins: worker, descriptor, ns it has waited in the backlog queue (UINT64_MAX: not
 * measured, which is so for 15 of 16 while portd is not full). Where memory is refused a shed follows. */
#define PROBE_ADMIT(worker, fd, waited) DTRACE_PROBE3(portd, admit, worker, fd, waited)

/* It is turned away: worker, descriptor, reason. */
#define PROBE_SHED(worker, fd, reason) DTRACE_PROBE3(portd, shed, worker, fd, reason)

/* It was served, and is over: worker, descriptor, reason, ns since it was opened, bytes received, bytes
 * sent. bpftrace takes no more than these six arguments on x86-64. */
#define PROBE_CLOSE(worker, fd, reason, age, in, out) \
	DTRACE_PROBE6(portd, close, worker, fd, reason, age, in, out)

#endif
