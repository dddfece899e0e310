/*
 * json.h - the one part of JSON (RFC 8259) that goes wrong when everybody writes it anew.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdio.h>

/* Writes text as a JSON string, quotes included. What is not printable ASCII becomes \u00XX, byte for
 * byte: the answer is ASCII whatever a client, a file or a person had in there. Errors are out's
 * (ferror). */
void json_put_string(FILE *out, const char *text);

#endif
