// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A record of http as a Span of OTLP, for dataplane.c: what harness/agent/http_telemetry.py and
 * protobuf make of it, byte for byte.
 */
#ifndef DATAPLANE_SPAN_H
#define DATAPLANE_SPAN_H

#include "dataplane_bytes.h"

typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;

#include "http.h"

#define NO_VERSION 10
#define METHODS	   (M_OTHER + 1)
#define ERRORS	   (E_TIMEOUT + 1)
#define TRACE_ID   16
#define SPAN_ID	   8

_Static_assert(sizeof(struct http_event) == 240, "harness/agent/http_telemetry.py reads it");

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
	{ WORD("timeout") },
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

/* a size that OTLP's integers hold */
static int is_size(uint64_t bytes)
{
	return bytes == UNKNOWN || bytes <= INT64_MAX;
}

static int is_sound(const struct http_event *event)
{
	return event->series.key.method < METHODS && event->series.key.error < ERRORS &&
	       is_size(event->request_bytes) && is_size(event->response_bytes) &&
	       event->first_byte_ns <= INT64_MAX;
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
	if (event->first_byte_ns)
		add_integer(out, (struct view){ WORD("http.response.time_to_first_byte_ns") },
			    event->first_byte_ns);
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

#endif
