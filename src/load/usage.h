/*
 * usage.h - what portload says about itself.
 */
#ifndef LOAD_USAGE_H
#define LOAD_USAGE_H

extern const char usage_help[];
extern const char usage_version[];

#endif
