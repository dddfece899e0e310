/*
 * plural.h - what is counted, in words.
 */
#ifndef BASE_PLURAL_H
#define BASE_PLURAL_H

/* What a regular noun ends with after the number n. */
#define PLURAL(n) ((n) == 1 ? "" : "s")

#endif
