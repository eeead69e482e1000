// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Bytes that are read and written, for dataplane.c: views of them, protobuf's numbers, and names as
 * UTF-8 whatever they are. Nothing is written beyond the room that there is.
 */
#ifndef DATAPLANE_BYTES_H
#define DATAPLANE_BYTES_H

#include <stddef.h>
#include <stdint.h>

#define WORD(of) (const uint8_t *)(of), sizeof(of) - 1

/* bytes that are being read */
struct view {
	const uint8_t *at;
	size_t size;
};

/* bytes that are being written; `full` if that was not possible */
struct out {
	uint8_t *at;
	size_t room;
	size_t used;
	int full;
};

static int is_same(struct view one, struct view other)
{
	return one.size == other.size && !__builtin_memcmp(one.at, other.at, one.size);
}

/* bytes before the first NUL */
static struct view name_of(const char *at, size_t most)
{
	struct view found = { (const uint8_t *)at, 0 };

	while (found.size < most && at[found.size])
		found.size++;
	return found;
}

/* what is before and what is behind the first `mark`; whether there is one */
static int divide(struct view whole, uint8_t mark, struct view *before, struct view *behind)
{
	size_t i = 0;

	while (i < whole.size && whole.at[i] != mark)
		i++;
	*before = (struct view){ whole.at, i };
	*behind = (struct view){ whole.at + whole.size, 0 };
	if (i == whole.size)
		return 0;
	*behind = (struct view){ whole.at + i + 1, whole.size - i - 1 };
	return 1;
}

static void put(struct out *out, const void *from, size_t size)
{
	if (out->full || size > out->room - out->used) {
		out->full = 1;
		return;
	}
	__builtin_memcpy(out->at + out->used, from, size);
	out->used += size;
}

static void put_byte(struct out *out, uint8_t byte)
{
	if (out->full || out->used == out->room)
		out->full = 1;
	else
		out->at[out->used++] = byte;
}

static void put_view(struct out *out, struct view of)
{
	put(out, of.at, of.size);
}

static void put_number(struct out *out, uint64_t number)
{
	while (number >= 0x80) {
		put_byte(out, (uint8_t)number | 0x80);
		number >>= 7;
	}
	put_byte(out, (uint8_t)number);
}

static size_t number_size(uint64_t number)
{
	size_t size = 1;

	while (number >= 0x80) {
		number >>= 7;
		size++;
	}
	return size;
}

/*
 * Bytes of the character at the start of `of`, which has some; or, `bad`, of what is none and is
 * told by one U+FFFD, as Python's decode(errors="replace") does.
 */
static size_t character(struct view of, int *bad)
{
	uint8_t first = of.at[0], least = 0x80, most = 0xbf;
	size_t size, i;

	*bad = 0;
	if (first < 0x80)
		return 1;
	*bad = 1;
	if (first < 0xc2 || first > 0xf4)
		return 1;
	size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	if (first == 0xe0)
		least = 0xa0;
	else if (first == 0xed)
		most = 0x9f;
	else if (first == 0xf0)
		least = 0x90;
	else if (first == 0xf4)
		most = 0x8f;
	for (i = 1; i < size; i++) {
		if (i == of.size || of.at[i] < least || of.at[i] > most)
			return i;
		least = 0x80;
		most = 0xbf;
	}
	*bad = 0;
	return size;
}

/* names as UTF-8, whatever they are */
static void put_text(struct out *out, struct view of)
{
	size_t size;
	int bad;

	while (of.size) {
		size = character(of, &bad);
		if (bad)
			put(out, "\xef\xbf\xbd", 3);
		else
			put(out, of.at, size);
		of.at += size;
		of.size -= size;
	}
}

#endif
