// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: adding up requests that have ended, and telling a share of them */
#ifndef __HTTP_TOTALS_BPF_H
#define __HTTP_TOTALS_BPF_H

#include "ring.bpf.h"

const volatile __u64 targ_duration_bounds[DURATIONS];
const volatile __u64 targ_size_bounds[SIZES];

__u64 lost[LOST] = {};

static const struct http_totals zero;
/* statuses of which a route has one at least: those that paths get which are there */
static const __u16 proofs[] = { 200, 201, 202, 204, 302, 303 };
/* keeps the type in the object, which no map has */
const struct http_event *http_event_type;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__uint(key_size, sizeof(struct http_series)); /* no type: it may be cut down */
	__uint(value_size, sizeof(struct http_totals));
} series SEC(".maps");

/* what `series` has no room for, with the route "other" */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__uint(key_size, sizeof(struct http_series));
	__uint(value_size, sizeof(struct http_totals));
} overflow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

static __always_inline void add(__u64 *to, __u64 n)
{
	/* softirq may interrupt the same program on the same CPU */
	__sync_fetch_and_add(to, n);
}

static __always_inline void lose(enum http_lost why)
{
	add(&lost[why], 1);
}

static __always_inline __u32 bucket(const volatile __u64 *bounds, __u32 count, __u64 value)
{
	__u32 i;

	for (i = 0; i < count; i++)
		if (value <= bounds[i])
			break;
	return i;
}

/*
 * What a scanner asks for is no route: none that is never answered, or by nothing but the client's
 * own fault. Who answers may speak another version than who asked.
 */
static __always_inline bool is_route(struct http_series *one)
{
	__u8 minor = one->key.minor, error = one->key.error;
	__u16 status = one->key.status;
	void *found = NULL;
	__u32 i;

	if (status && status / 100 != 4)
		return true;
	one->key.error = 0;
	for (i = 0; i < 2 * sizeof(proofs) / sizeof(*proofs) && !found; i++) {
		one->key.status = proofs[i / 2];
		one->key.minor = i % 2;
		found = bpf_map_lookup_elem(&series, one);
	}
	one->key.status = status;
	one->key.minor = minor;
	one->key.error = error;
	return found;
}

static __always_inline struct http_totals *totals_of(struct http_series *one)
{
	struct http_totals *found = bpf_map_lookup_elem(&series, one);

	if (found)
		return found;
	if (is_route(one)) {
		bpf_map_update_elem(&series, one, &zero, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&series, one);
		if (found)
			return found;
	}
	__builtin_memset(one->key.route, 0, ROUTE);
	__builtin_memcpy(one->key.route, "other", 5);
	found = bpf_map_lookup_elem(&overflow, one);
	if (found)
		return found;
	bpf_map_update_elem(&overflow, one, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&overflow, one);
}

static __always_inline void count(struct http_request *request, struct http_series *one, __u64 now,
				  __u64 length)
{
	struct http_totals *totals = totals_of(one);
	__u64 duration = now - request->start_ns;
	__u32 i;

	if (!totals) {
		lose(L_SERIES);
		return;
	}
	i = bucket(targ_duration_bounds, DURATIONS, duration);
	if (i <= DURATIONS)
		add(&totals->duration[i], 1);
	add(&totals->duration_ns, duration);
	if (request->bytes == UNKNOWN) {
		add(&totals->request_unknown, 1);
	} else if (request->bytes) {
		i = bucket(targ_size_bounds, SIZES, request->bytes) - 1;
		if (i < SIZES)
			add(&totals->request[i], 1);
		add(&totals->request_bytes, request->bytes);
	}
	if (length != UNKNOWN) {
		i = bucket(targ_size_bounds, SIZES, length);
		if (i <= SIZES)
			add(&totals->response[i], 1);
		add(&totals->response_bytes, length);
	}
}

static __always_inline void tell(struct http_conn *conn, struct http_series *one, __u64 now,
				 __u64 length)
{
	struct http_request *request = &conn->request;
	struct http_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		lose(L_SPAN);
		return;
	}
	event->start_ns = request->start_ns;
	event->end_ns = now;
	event->request_bytes = request->bytes;
	event->response_bytes = length;
	event->series = *one;
	__builtin_memcpy(event->target, request->target, TARGET);
	event->first_byte_ns = conn->answering ? conn->first_ns - request->start_ns : 0;
	bpf_ringbuf_submit(event, wakeup(&events));
}

/*
 * The current request ends, with this status, version and error: 16, 8 and 8 bits. A function that
 * the verifier checks once.
 */
__noinline int finish(struct http_conn *conn, __u32 outcome, __u64 now, __u64 length)
{
	struct http_series one;
	__u32 ended;

	if (!conn)
		return 0;
	ended = conn->ended;
	if (!__sync_bool_compare_and_swap(&conn->claimed, ended, ended + 1))
		return 0; /* its socket is released while the last of it leaves */
	one = conn->request.series;
	if (outcome & 0xffff) {
		one.key.status = outcome;
		one.key.minor = outcome >> 16;
	}
	one.key.error = outcome >> 24;
	count(&conn->request, &one, now, length);
	if (conn->request.sampled)
		tell(conn, &one, now, length);
	conn->answering = 0;
	barrier();
	conn->ended++;
	return 0;
}

#endif
