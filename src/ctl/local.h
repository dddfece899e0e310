/*
 * local.h - portd says times in UTC; people read their own.
 */
#ifndef CTL_LOCAL_H
#define CTL_LOCAL_H

#include <stddef.h>
#include <stdio.h>

/* Writes the text with each time of the form 2026-11-22T14:02:11.123Z in local time, with its offset:
 * 2026-11-22T15:02:11.123+01:00. All else stays as it is. */
void local_write(const char *text, size_t len, FILE *out);

#endif
