// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/dataplane.c on made-up records, in memory of exactly their size; test_dataplane.py compiles
 * it with the sanitizers of addresses and of what is undefined. dataplane_fuzz SEED ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane.c"

static uint64_t state;

static uint64_t chance(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void *room_for(size_t size)
{
	void *found = malloc(size ? size : 1);

	if (!found)
		abort();
	/* of nothing, not even the first byte may be touched */
	return size ? found : (uint8_t *)found + 1;
}

static void give_back(void *room, size_t size)
{
	free(size ? room : (uint8_t *)room - 1);
}

static void fill(uint8_t *to, size_t size)
{
	static const char *pieces[] = {
		"/",
		"?",
		"&",
		"=",
		" ",
		"sig=x",
		"Signature=",
		"HTTP://",
		"http://h",
		"\xc3\xa9",
		"\xe2\x82",
		"\xf0\x9f\x98\x80",
		"\xed\xa0\x80",
		"\xff",
		"a",
	};
	const char *piece;
	size_t i, length;

	if (chance(3)) {
		for (i = 0; i < size; i++)
			to[i] = chance(2) ? (uint8_t)chance(256)
					  : "/?&= \xc3\xe2\xf0\xed"[chance(9)];
		return;
	}
	memset(to, 0, size);
	for (i = 0; i < size; i += length) {
		piece = pieces[chance(sizeof(pieces) / sizeof(*pieces))];
		length = strlen(piece);
		memcpy(to + i, piece, length < size - i ? length : size - i);
	}
}

static void make(struct http_event *event)
{
	fill((uint8_t *)event, sizeof(*event));
	fill((uint8_t *)event->target, TARGET);
	if (!chance(8))
		return; /* whatever it is */
	fill((uint8_t *)event->series.key.route, ROUTE);
	event->series.key.method = chance(METHODS);
	event->series.key.error = chance(ERRORS);
	event->request_bytes = chance(2) ? UNKNOWN : chance(1ULL << 63);
	event->response_bytes = chance(2) ? UNKNOWN : chance(1ULL << 63);
	event->first_byte_ns = chance(2) ? 0 : chance(1ULL << 63);
}

static void check(int holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void encode(const uint8_t *records, uint64_t number)
{
	size_t ids_size = number * (TRACE_ID + SPAN_ID), room = chance(number * 1024 + 2);
	uint8_t *ids = room_for(ids_size), *to = room_for(room);
	int64_t used;

	fill(ids, ids_size);
	used = harness_http_spans(records, number, ids, chance(1ULL << 62), to, room);
	check(used >= -2 && used <= (int64_t)room, "more bytes than there is room for");
	give_back(ids, ids_size);
	give_back(to, room);
}

static void find(const uint8_t *records, uint64_t number)
{
	uint64_t slots_number = chance(4) ? 64 : chance(65), i;
	uint32_t *slots = room_for(slots_number * sizeof(*slots));
	uint32_t *found = room_for(number * sizeof(*found));
	int64_t series = harness_http_slowest(records, number, slots, slots_number, found);

	check(series >= -1 && series <= (int64_t)number, "more series than records");
	for (i = 0; series > 0 && i < (uint64_t)series; i++)
		check(found[i] < number, "a record that is none");
	give_back(slots, slots_number * sizeof(*slots));
	give_back(found, number * sizeof(*found));
}

static void take(void)
{
	size_t size = chance(2) ? sizeof(struct http_event) : chance(300), room = chance(1000);
	struct run run = { room_for(room), room, chance(8) ? 0 : chance(1200), 0 };
	uint64_t before, odd;
	uint8_t *record;
	int i, code;

	for (i = 0; i < 4; i++) {
		record = room_for(size);
		if (size == sizeof(struct http_event))
			make((struct http_event *)record);
		else
			fill(record, size);
		before = run.used;
		odd = run.odd;
		code = harness_http_take(&run, record, size);
		check(code == 0 || code == FULL, "an answer that is none");
		check(run.odd > odd ? run.used == before
				    : run.used == before + sizeof(struct http_event),
		      "a record that is neither kept nor counted");
		give_back(record, size);
	}
	give_back(run.records, room);
}

int main(int argc, char **argv)
{
	uint64_t round, rounds, number, i;
	struct http_event *records;

	check(argc == 3, "dataplane_fuzz SEED ROUNDS");
	state = strtoull(argv[1], NULL, 10) * 2654435769 + 1;
	rounds = strtoull(argv[2], NULL, 10);
	for (round = 0; round < rounds; round++) {
		number = chance(33);
		records = room_for(number * sizeof(*records));
		for (i = 0; i < number; i++)
			make(&records[i]);
		encode((const uint8_t *)records, number);
		find((const uint8_t *)records, number);
		take();
		give_back(records, number * sizeof(*records));
	}
	printf("%llu\n", (unsigned long long)round);
	return 0;
}
