/*
 * siphash.h - SipHash-2-4: a short keyed hash of which nobody without the key can choose
 * collisions (Aumasson and Bernstein, «SipHash: a fast short-input PRF», 2012). For
 * tables whose keys come from the network.
 */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash_rotate(uint64_t v, unsigned by)
{
	return v << by | v >> (64 - by);
}

static inline void siphash_rounds(uint64_t v[static 4], int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[1] = siphash_rotate(v[1], 13) ^ v[0];
		v[0] = siphash_rotate(v[0], 32);
		v[2] += v[3];
		v[3] = siphash_rotate(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = siphash_rotate(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = siphash_rotate(v[1], 17) ^ v[2];
		v[2] = siphash_rotate(v[2], 32);
	}
}

/* key: 128 secret random bits, the first eight of the paper's bytes in key[0], lowest
 * first. */
static inline uint64_t siphash(const uint64_t key[static 2], const void *data, size_t len)
{
	uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575),
	        key[1] ^ UINT64_C(0x646f72616e646f6d),
	        key[0] ^ UINT64_C(0x6c7967656e657261),
	        key[1] ^ UINT64_C(0x7465646279746573)};
	const char *p = data;
	uint64_t word, last = (uint64_t)len << 56;

	for (size_t left = len; left >= 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		word = le64toh(word);
		v[3] ^= word;
		siphash_rounds(v, 2);
		v[0] ^= word;
	}
	word = 0;
	memcpy(&word, p, len % 8);
	last |= le64toh(word);
	v[3] ^= last;
	siphash_rounds(v, 2);
	v[0] ^= last;
	v[2] ^= 0xff;
	siphash_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
