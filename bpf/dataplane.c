// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The agent's way from records of a ring buffer to OTLP's bytes, for this machine and not for the
 * kernel: harness/agent/http_native.py calls it once a batch. What it makes of a record is what
 * harness/agent/http_telemetry.py and protobuf make of it, byte for byte; that is what it is
 * tested against. It keeps nothing between calls, allocates nothing, and reads and writes only
 * what it is handed. It needs no header of a C library: it is compiled for other processors, too.
 */
#include <stddef.h>
#include <stdint.h>

typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;

#include "http.h"

#define SHOWN	   __attribute__((visibility("default")))
#define ABI	   1	/* of harness/agent/http_native.py */
#define FULL	   -125 /* -ECANCELED: libbpf reads no further */
#define BODY	   2048 /* bytes of a span, more than any has */
#define NO_VERSION 10
#define METHODS	   (M_OTHER + 1)
#define ERRORS	   (E_RESET + 1)
#define TRACE_ID   16
#define SPAN_ID	   8
#define SERIES	   sizeof(struct http_series)
#define WORD(of)   (const uint8_t *)(of), sizeof(of) - 1

_Static_assert(sizeof(struct http_event) == 232, "harness/agent/http_telemetry.py reads it");

/* where records of a ring buffer go; of harness/agent/http_native.py */
struct run {
	uint8_t *records;
	uint64_t room; /* bytes */
	uint64_t used;
	uint64_t odd; /* records that are no http_event */
};

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

static const struct view methods[METHODS] = {
	{ WORD("") },	     { WORD("GET") },	{ WORD("POST") },   { WORD("PUT") },
	{ WORD("DELETE") },  { WORD("HEAD") },	{ WORD("PATCH") },  { WORD("OPTIONS") },
	{ WORD("CONNECT") }, { WORD("TRACE") }, { WORD("_OTHER") },
};
static const struct view errors[ERRORS] = {
	{ WORD("") },
	{ WORD("server_closed") },
	{ WORD("client_closed") },
	{ WORD("connection_reset") },
};
/* keys of a query whose values the semantic conventions keep to themselves */
static const struct view secret[] = {
	{ WORD("AWSAccessKeyId") },
	{ WORD("Signature") },
	{ WORD("sig") },
	{ WORD("X-Goog-Signature") },
	{ WORD("X-Amz-Credential") },
	{ WORD("X-Amz-Security-Token") },
	{ WORD("X-Amz-Signature") },
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

/* field 9 of a Span up to its value, an AnyValue of `size` bytes */
static void put_key(struct out *out, struct view key, size_t size)
{
	size_t key_size = 1 + number_size(key.size) + key.size;

	put_byte(out, 0x4a);
	put_number(out, key_size + 1 + number_size(size) + size);
	put_byte(out, 0x0a);
	put_number(out, key.size);
	put_view(out, key);
	put_byte(out, 0x12);
	put_number(out, size);
}

static void add_string(struct out *out, struct view key, struct view value)
{
	put_key(out, key, 1 + number_size(value.size) + value.size);
	put_byte(out, 0x0a);
	put_number(out, value.size);
	put_view(out, value);
}

static void add_integer(struct out *out, struct view key, uint64_t value)
{
	put_key(out, key, 1 + number_size(value));
	put_byte(out, 0x18);
	put_number(out, value);
}

/* three times as long at most */
static void add_text(struct out *out, struct view key, struct view value)
{
	uint8_t bytes[3 * 3 * TARGET];
	struct out text = { bytes, sizeof(bytes), 0, 0 };

	put_text(&text, value);
	out->full |= text.full;
	add_string(out, key, (struct view){ bytes, text.used });
}

static void add_status(struct out *out, struct view key, uint32_t status)
{
	uint8_t digits[10];
	size_t at = sizeof(digits);

	do {
		digits[--at] = '0' + status % 10;
		status /= 10;
	} while (status);
	add_string(out, key, (struct view){ digits + at, sizeof(digits) - at });
}

/* a query without the values of keys that give access to something */
static void put_scrubbed(struct out *out, struct view query)
{
	struct view pair, key, value;
	int more, has_value, hidden;
	size_t i;

	do {
		more = divide(query, '&', &pair, &query);
		has_value = divide(pair, '=', &key, &value);
		put_view(out, key);
		if (has_value) {
			hidden = 0;
			for (i = 0; i < sizeof(secret) / sizeof(*secret); i++)
				hidden |= is_same(key, secret[i]);
			put_byte(out, '=');
			put_view(out, hidden ? (struct view){ WORD("REDACTED") } : value);
		}
		if (more)
			put_byte(out, '&');
	} while (more);
}

/* whether a target begins with http://, in capitals or not */
static int is_absolute(struct view target)
{
	static const uint8_t scheme[] = "http://";
	size_t i;
	uint8_t c;

	if (target.size < sizeof(scheme) - 1)
		return 0;
	for (i = 0; i < sizeof(scheme) - 1; i++) {
		c = target.at[i];
		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != scheme[i])
			return 0;
	}
	return 1;
}

/* url.path and url.query */
static void add_target(struct out *out, struct view target)
{
	uint8_t path_bytes[1 + TARGET], query_bytes[3 * TARGET];
	struct out whole = { path_bytes, sizeof(path_bytes), 0, 0 };
	struct out shown = { query_bytes, sizeof(query_bytes), 0, 0 };
	struct view path, query, behind;

	divide(target, ' ', &target, &behind);
	if (is_absolute(target)) {
		target.at += sizeof("http://") - 1;
		target.size -= sizeof("http://") - 1;
		divide(target, '/', &path, &target);
		put_byte(&whole, '/');
	}
	divide(target, '?', &path, &query);
	put_view(&whole, path);
	add_text(out, (struct view){ WORD("url.path") }, (struct view){ path_bytes, whole.used });
	if (query.size) {
		put_scrubbed(&shown, query);
		add_text(out, (struct view){ WORD("url.query") },
			 (struct view){ query_bytes, shown.used });
	}
	out->full |= whole.full | shown.full;
}

static void put_name(struct out *out, const struct http_key *key)
{
	uint8_t bytes[3 * ROUTE];
	struct out route = { bytes, sizeof(bytes), 0, 0 };
	struct view method =
		key->method == M_OTHER ? (struct view){ WORD("HTTP") } : methods[key->method];

	put_text(&route, name_of(key->route, ROUTE));
	out->full |= route.full;
	put_byte(out, 0x2a);
	put_number(out, method.size + 1 + route.used);
	put_view(out, method);
	put_byte(out, ' ');
	put(out, bytes, route.used);
}

/* a field of eight bytes, which is left out where it is nothing */
static void put_fixed(struct out *out, uint8_t tag, uint64_t value)
{
	int i;

	if (!value)
		return;
	put_byte(out, tag);
	for (i = 0; i < 64; i += 8)
		put_byte(out, (uint8_t)(value >> i));
}

/* what series are told by, too */
static void add_key(struct out *out, const struct http_key *key)
{
	uint8_t version[] = { '1', '.', '0' + key->minor };

	add_string(out, (struct view){ WORD("http.request.method") }, methods[key->method]);
	add_text(out, (struct view){ WORD("http.route") }, name_of(key->route, ROUTE));
	add_integer(out, (struct view){ WORD("server.port") }, key->port);
	add_string(out, (struct view){ WORD("url.scheme") }, (struct view){ WORD("http") });
	if (key->status)
		add_integer(out, (struct view){ WORD("http.response.status_code") }, key->status);
	if (key->minor < NO_VERSION)
		add_string(out, (struct view){ WORD("network.protocol.version") },
			   (struct view){ version, sizeof(version) });
	if (key->status >= 500)
		add_status(out, (struct view){ WORD("error.type") }, key->status);
	else if (key->error)
		add_string(out, (struct view){ WORD("error.type") }, errors[key->error]);
}

static void add_attributes(struct out *out, const struct http_event *event)
{
	struct view target = name_of(event->target, TARGET), original;

	add_key(out, &event->series.key);
	if (event->series.key.method == M_OTHER) { /* it is kept before the target */
		divide(target, ' ', &original, &target);
		add_text(out, (struct view){ WORD("http.request.method_original") }, original);
	}
	add_target(out, target);
	if (event->request_bytes != UNKNOWN)
		add_integer(out, (struct view){ WORD("http.request.body.size") },
			    event->request_bytes);
	if (event->response_bytes != UNKNOWN)
		add_integer(out, (struct view){ WORD("http.response.body.size") },
			    event->response_bytes);
}

/* the fields of a Span in their order; `ids` are those of trace and span */
static void put_span(struct out *out, const struct http_event *event, const uint8_t *ids,
		     uint64_t offset_ns)
{
	const struct http_key *key = &event->series.key;

	put_byte(out, 0x0a);
	put_byte(out, TRACE_ID);
	put(out, ids, TRACE_ID);
	put_byte(out, 0x12);
	put_byte(out, SPAN_ID);
	put(out, ids + TRACE_ID, SPAN_ID);
	put_name(out, key);
	put(out, "\x30\x02", 2); /* SERVER */
	put_fixed(out, 0x39, event->start_ns + offset_ns);
	put_fixed(out, 0x41, event->end_ns + offset_ns);
	add_attributes(out, event);
	if (key->status >= 500 || key->error)
		put(out, "\x7a\x02\x18\x02", 4); /* ERROR */
	put(out, "\x85\x01\x01\x01\x00\x00",
	    6); /* sampled; that it has no remote parent is known */
}

/* a size that OTLP's integers hold */
static int is_size(uint64_t bytes)
{
	return bytes == UNKNOWN || bytes <= INT64_MAX;
}

static int is_sound(const struct http_event *event)
{
	return event->series.key.method < METHODS && event->series.key.error < ERRORS &&
	       is_size(event->request_bytes) && is_size(event->response_bytes);
}

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
