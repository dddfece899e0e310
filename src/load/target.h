/*
 * target.h - whom to load, and from which addresses: names are looked up, strangers are
 * refused.
 */
#ifndef LOAD_TARGET_H
#define LOAD_TARGET_H

#include <stdbool.h>

#include "load/options.h"

/* "127.0.0.1:7777", "[::1]:7777", "[fe80::1%eth0]:7777" or "localhost:7777". Of a name's addresses the
 * first of IPv4 is taken, which has more sources on loopback, else the first. told: the address as it
 * is to be told, with its interface named as in text. Returns 0, -EINVAL (not of this form), or 1 with
 * *ret_why, a text that lasts: the name is not known, or there is no such interface. */
int target_parse(const char *text, struct addr *ret, char told[static ADDR_TEXT_MAX],
        const char **ret_why);

/* 127.0.0.0/8 and ::1. */
bool target_is_loopback(const struct addr *addr);

/* "COUNT", "ADDRESS", or "ADDRESS/BITS"; NULL: as many as are needed of the loopback
 * network, or the kernel's choice for any other target. Returns 0; -EINVAL (not of this
 * form); -ERANGE (more than OPTIONS_SOURCES_MAX, or none); -EAFNOSUPPORT (not of the
 * target's family); -ENODEV (no such interface); -EADDRNOTAVAIL: a COUNT above what the target's side has (::1 is alone, and
 * beyond loopback only the user knows which addresses are his). */
int target_sources(const char *text, const struct addr *target, struct source_range *ret);

/* Address number index of the range, with port 0. index is below its limit. */
void target_source(const struct source_range *range, uint64_t index, struct addr *ret);

#endif
