// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The agent's way from records of a ring buffer to OTLP's bytes, for this machine and not for the
 * kernel: harness/agent/http_native.py calls it once a batch. What it makes of a record is what
 * Python makes of it, byte for byte; that is what it is tested against. It keeps nothing between
 * calls, allocates nothing, and reads and writes only what it is handed. It needs no header of a C
 * library: it is compiled for other processors, too.
 */
#include "dataplane_span.h"

#define SHOWN  __attribute__((visibility("default")))
#define ABI    2    /* of harness/agent/http_native.py */
#define FULL   -125 /* -ECANCELED: libbpf reads no further */
#define BODY   2048 /* bytes of a span, more than any has */
#define SERIES sizeof(struct http_series)

/* where records of a ring buffer go; of harness/agent/http_native.py */
struct run {
	uint8_t *records;
	uint64_t room; /* bytes */
	uint64_t used;
	uint64_t odd; /* records that are no http_event */
};

static void load(struct http_event *event, const uint8_t *records, uint64_t i)
{
	__builtin_memcpy(event, records + i * sizeof(*event), sizeof(*event));
}

SHOWN uint32_t harness_abi(void)
{
	return ABI;
}

/* a callback of libbpf's ring buffers: keep a record; the reader stops where no more have room */
SHOWN int harness_http_take(void *ctx, void *data, size_t size)
{
	struct run *run = ctx;
	struct http_event event;

	if (size < sizeof(event) || run->used > run->room ||
	    run->room - run->used < sizeof(event)) {
		run->odd++;
		return 0;
	}
	load(&event, data, 0);
	if (!is_sound(&event)) {
		run->odd++;
		return 0;
	}
	__builtin_memcpy(run->records + run->used, &event, sizeof(event));
	run->used += sizeof(event);
	return run->room - run->used < sizeof(event) ? FULL : 0;
}

/* the field `spans` of a ScopeSpans, each with its `ids`: how many bytes; -1: no room, -2: unsound
 */
SHOWN int64_t harness_http_spans(const uint8_t *records, uint64_t number, const uint8_t *ids,
				 uint64_t offset_ns, uint8_t *to, uint64_t room)
{
	struct out out = { to, room, 0, 0 };
	struct http_event event;
	uint8_t bytes[BODY];
	struct out body;
	uint64_t i;

	for (i = 0; i < number; i++) {
		load(&event, records, i);
		if (!is_sound(&event))
			return -2;
		body = (struct out){ bytes, sizeof(bytes), 0, 0 };
		put_span(&body, &event, ids + i * (TRACE_ID + SPAN_ID), offset_ns);
		if (body.full)
			return -2;
		put_byte(&out, 0x12);
		put_number(&out, body.used);
		put(&out, bytes, body.used);
		if (out.full)
			return -1;
	}
	return (int64_t)out.used;
}

static uint64_t hash_of(const uint8_t *series)
{
	uint64_t found = 0, word;
	size_t i;

	for (i = 0; i < SERIES; i += sizeof(word)) {
		__builtin_memcpy(&word, series + i, sizeof(word));
		found = (found ^ word) * 0x9e3779b97f4a7c15;
		found ^= found >> 32;
	}
	return found;
}

static const uint8_t *series_of(const uint8_t *records, uint64_t i)
{
	return records + i * sizeof(struct http_event) + offsetof(struct http_event, series);
}

static int64_t lasted(const uint8_t *records, uint64_t i)
{
	struct http_event event;

	load(&event, records, i);
	return (int64_t)(event.end_ns - event.start_ns);
}

/*
 * The slowest record of each series, the first of those that took as long: how many there are.
 * `slots` are a power of two, and twice as many as records at least; `found` has room for as many
 * as there are records. -1 if it is otherwise.
 */
SHOWN int64_t harness_http_slowest(const uint8_t *records, uint64_t number, uint32_t *slots,
				   uint64_t slots_number, uint32_t *found)
{
	uint64_t i, at, series = 0;

	if (!slots_number || slots_number & (slots_number - 1) || slots_number / 2 < number)
		return -1;
	for (i = 0; i < slots_number; i++)
		slots[i] = 0;
	for (i = 0; i < number; i++) {
		at = hash_of(series_of(records, i)) & (slots_number - 1);
		while (slots[at] && __builtin_memcmp(series_of(records, found[slots[at] - 1]),
						     series_of(records, i), SERIES))
			at = (at + 1) & (slots_number - 1);
		if (!slots[at]) {
			found[series++] = (uint32_t)i;
			slots[at] = (uint32_t)series;
		} else if (lasted(records, i) > lasted(records, found[slots[at] - 1])) {
			found[slots[at] - 1] = (uint32_t)i;
		}
	}
	return (int64_t)series;
}
