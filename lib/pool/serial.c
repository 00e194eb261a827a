/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The identity of an image: what initiators see as its serial number and, through it, its NAA name. It has to be the same for ever, on every host,
 * so nothing below may change; the test has the vectors.
 *
 *     serial = UUID of version 8 (RFC 9562 5.8) whose other 122 bits are those of SipHash-2-4 with 128 bits of output (Aumasson and
 *              Bernstein, 2012, and its 128-bit variant) under the key "lunkit:image:id1" over KIND, one NUL byte, NAME
 *
 * Options don't take part: the same image attached read-only is the same disk. LIO takes the first 25 hexadecimal digits for the NAA designator, 94 bits of the hash.
 */
#include <stdio.h>
#include <string.h>

#include "base/byteorder.h"
#include "pool/reference.h"

struct siphash {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
	return value << bits | value >> (64 - bits);
}

static void siphash_rounds(struct siphash *s, unsigned rounds)
{
	while (rounds--) {
		s->v0 += s->v1;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v3;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 += s->v3;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 += s->v1;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v2 = rotate(s->v2, 32);
	}
}

static void siphash_word(struct siphash *s, uint64_t word)
{
	s->v3 ^= word;
	siphash_rounds(s, 2);
	s->v0 ^= word;
}

static void siphash_128(const uint8_t key[static 16], const uint8_t *data, size_t length, uint8_t out[static 16])
{
	uint64_t k0 = get_le64(key), k1 = get_le64(key + 8);
	struct siphash s = { k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee, k0 ^ UINT64_C(0x6c7967656e657261),
			     k1 ^ UINT64_C(0x7465646279746573) };
	size_t whole = length & ~(size_t)7;
	for (size_t at = 0; at < whole; at += 8)
		siphash_word(&s, get_le64(data + at));
	uint8_t last[8] = { 0 };
	memcpy(last, data + whole, length - whole);
	last[7] = (uint8_t)length;
	siphash_word(&s, get_le64(last));
	s.v2 ^= 0xee;
	siphash_rounds(&s, 4);
	put_le64(out, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
	s.v1 ^= 0xdd;
	siphash_rounds(&s, 4);
	put_le64(out + 8, s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}

void reference_serial(const struct reference *reference, char ret[static 37])
{
	static const char key[] = "lunkit:image:id1";
	uint8_t data[REFERENCE_KIND_MAX + REFERENCE_NAME_MAX], id[16];
	size_t kind = strlen(reference->kind), name = strlen(reference->name);
	memcpy(data, reference->kind, kind + 1);
	memcpy(data + kind + 1, reference->name, name);
	siphash_128((const uint8_t *)key, data, kind + 1 + name, id);
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x80);
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	for (unsigned i = 0; i < 16; i++)
		ret += sprintf(ret, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
}

/* The last component without its extension, in characters that configfs, targetcli and udev all take as they are. */
void reference_backstore(const struct reference *reference, char ret[static 64])
{
	enum { STEM_MAX = 32 };
	char serial[37];
	reference_serial(reference, serial);
	const char *slash = strrchr(reference->name, '/'), *stem = slash ? slash + 1 : reference->name, *dot = strrchr(stem, '.');
	size_t length = dot && dot > stem ? (size_t)(dot - stem) : strlen(stem), used = 0;
	for (size_t i = 0; i < length && used < STEM_MAX; i++) {
		char c = stem[i], lower = (char)(c | 0x20);
		bool plain = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_';
		/* a run of anything else is one hyphen, and none comes first */
		if (plain)
			ret[used++] = c;
		else if (used && ret[used - 1] != '-')
			ret[used++] = '-';
	}
	while (used && ret[used - 1] == '-')
		used--;
	if (!used)
		used = (size_t)(stpcpy(ret, reference->kind) - ret);
	snprintf(ret + used, 64 - used, "-%.8s", serial);
}
