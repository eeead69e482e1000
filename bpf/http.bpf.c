// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * http: HTTP/1.x requests served by the processes of one cgroup.
 *
 * A request starts with the segment that arrives with a method at its first
 * byte and ends with the next one that leaves with "HTTP/1." at its first
 * byte, on the same socket. Every request is added up here, by method, route,
 * status and port; a sampled share is told one by one.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP	0x0800
#define ETH_P_IPV6	0x86DD
#define MESSAGE	384	/* bytes of a message that are looked at */
#define ROUTE		56	/* bytes of a route that are kept */
#define LINE		24	/* room for "content-length: " and a number */
#define DURATIONS	14	/* bucket bounds, see harness/agent/http.py */
#define SIZES		9
#define DIGITS		1
#define LETTERS		2	/* that are hexadecimal digits */
#define OTHERS		4
#define UNKNOWN		(~0ULL)

#define WORD(t) (*(const __u64 *)(t))
#define FIRST(n) (~0ULL >> (64 - 8 * (n)))
#define LOWER 0x2020202020202020ULL
#define EACH(byte) (0x0101010101010101ULL * (byte))

/* in the order of harness/agent/http.py */
enum http_method { M_GET = 1, M_POST, M_PUT, M_DELETE, M_HEAD, M_PATCH, M_OPTIONS, M_CONNECT, M_TRACE };

struct http_key {
	char route[ROUTE];
	__u16 status;
	__u16 port;
	__u8 method;
	__u8 minor;
	__u16 unused;
};

struct http_totals {
	__u64 duration[DURATIONS + 1];
	__u64 duration_ns;
	__u64 request[SIZES + 1];
	__u64 request_bytes;
	__u64 response[SIZES + 1];
	__u64 response_bytes;
};

struct http_event {
	__u64 start_ns;
	__u64 end_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	struct http_key key;
	char target[128];
};

struct http_head {
	__u64 length;	/* Content-Length */
	char text[MESSAGE];
};

struct http_cursor {
	__u32 out;	/* bytes of the route so far */
	__u32 start;	/* where its last segment starts */
	__u32 seen;	/* what that is made of */
};

/* one per socket; its parts are written by one direction each */
struct http_conn {
	__u64 start_ns;
	__u64 request_bytes;
	__u32 generation;
	__u32 end_seq;
	__u32 pending;
	__u32 target;
	struct http_cursor cursor;
	struct http_key key;
	struct http_head in;
	struct http_head out;
};

struct http_segment {
	__u32 offset;
	__u32 len;
	__u32 seq;
	__u16 source;
	__u16 dest;
};

const volatile __u64 targ_duration_bounds[DURATIONS];
const volatile __u64 targ_size_bounds[SIZES];
const volatile __u32 targ_sample;	/* a span if a random number is not above */

__u32 generation = 0;	/* raised by each `on`: state from before an `off` is void */
__u64 lost = 0;

static const struct http_totals zero;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__type(key, struct http_key);
	__type(value, struct http_totals);
} series SEC(".maps");

/* what `series` has no room for, with the route "other" */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 512);
	__type(key, struct http_key);
	__type(value, struct http_totals);
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

/* false for what carries no TCP payload */
static __always_inline bool parse(struct __sk_buff *skb, struct http_segment *seg)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data;
	struct iphdr *ip = data;
	struct tcphdr *tcp;
	__u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return false;
		offset = ip->ihl * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end || ip6->nexthdr != IPPROTO_TCP)
			return false;
		offset = sizeof(*ip6);
	} else {
		return false;
	}
	tcp = data + offset;
	if ((void *)(tcp + 1) > end)
		return false;
	offset += tcp->doff * 4;
	if (skb->len <= offset)
		return false;
	seg->offset = offset;
	seg->len = skb->len - offset;
	seg->seq = bpf_ntohl(tcp->seq);
	seg->source = bpf_ntohs(tcp->source);
	seg->dest = bpf_ntohs(tcp->dest);
	return true;
}

static __always_inline struct http_conn *conn_of(struct __sk_buff *skb, __u64 flags)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&conns, sk, NULL, flags) : NULL;
}

/* the enum method at the start of a message, 0 for none, and where its target starts */
static __always_inline __u8 method_of(__u64 word, __u32 *target)
{
#define METHOD(name)                                              \
	if ((word & FIRST(sizeof(#name))) ==                      \
	    (WORD(#name "      ") & FIRST(sizeof(#name)))) {      \
		*target = sizeof(#name);                          \
		return M_##name;                                       \
	}
	METHOD(GET)
	METHOD(POST)
	METHOD(PUT)
	METHOD(DELETE)
	METHOD(HEAD)
	METHOD(PATCH)
	METHOD(OPTIONS)
	METHOD(CONNECT)
	METHOD(TRACE)
	return 0;
}

/* how many bytes of the message were read into `head`, at least 16, or 0 */
static __always_inline __u32 read(struct __sk_buff *skb, __u32 offset, __u32 len, struct http_head *head)
{
	__u32 n = len < MESSAGE ? len : MESSAGE;

	if (n < 16 || n > MESSAGE || bpf_skb_load_bytes(skb, offset, head->text, n))
		return 0;
	return n;
}

/* /users/42/cards?page=2 becomes /users/{id}/cards; numbers, dates, UUIDs and
 * long hexadecimal names are ids. The cursor lives in the map, where the
 * verifier does not follow its values: in registers it would try them all.
 */
__noinline int route_of(struct http_conn *conn, __u32 n)
{
	volatile struct http_cursor *at;
	const char *in;
	char *route;
	__u32 i, out = 0;

	if (!conn || conn->target > 8)
		return 0;
	at = &conn->cursor;
	in = conn->in.text + conn->target;
	route = conn->key.route;

	at->out = at->start = at->seen = 0;
	for (i = 0; i < MESSAGE - 8; i++) {
		char c = in[i];
		__u32 seen = at->seen;

		out = at->out;
		if (i >= n || c <= ' ' || c == '?' || c == '/') {
			if ((seen & (DIGITS | OTHERS)) == DIGITS &&
			    (!(seen & LETTERS) || out - at->start >= 16)) {
				out = at->start;
				if (out < ROUTE - 4)
					__builtin_memcpy(route + out, "{id}", 4);
				out += 4;
			}
			if (i >= n || c != '/')
				break;
			at->start = out + 1;
			at->seen = 0;
		} else if (c >= '0' && c <= '9') {
			at->seen = seen | DIGITS;
		} else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
			at->seen = seen | LETTERS;
		} else if (c != '-') {
			at->seen = seen | OTHERS;
		}
		if (out < ROUTE)
			route[out] = c;
		at->out = out + 1;
	}
	for (i = 0; i < ROUTE / 8; i++) {	/* the rest of the key must be zeros */
		__u64 *word = (__u64 *)route + i;

		if (out <= i * 8)
			*word = 0;
		else if (out < i * 8 + 8)
			*word &= FIRST(out - i * 8);
	}
	return 0;
}

/* the length of a message's header, 0 if it ends beyond n; Content-Length as found */
__noinline __u32 header(struct http_head *head, __u32 n)
{
	__u32 i, k;

	if (!head)
		return 0;
	head->length = UNKNOWN;
	for (i = 8; i < MESSAGE - LINE && i < n; i++) {
		const char *line = head->text + i + 1;
		__u64 length = 0;

		if (head->text[i] != '\n')
			continue;
		if (line[0] == '\r')
			return i + 3;
		if ((*(__u64 *)line | LOWER) != WORD("content-") ||
		    ((*(__u64 *)(line + 8) | LOWER) & FIRST(7)) != (WORD("length: ") & FIRST(7)))
			continue;
		for (k = 16; k < LINE && line[k] >= '0' && line[k] <= '9'; k++)
			length = length * 10 + line[k] - '0';
		head->length = length;
	}
	return 0;
}

static __always_inline __u32 bucket(const volatile __u64 *bounds, __u32 count, __u64 value)
{
	__u32 i;

	for (i = 0; i < count; i++)
		if (value <= bounds[i])
			break;
	return i;
}

static __always_inline struct http_totals *totals_of(struct http_key *key)
{
	struct http_totals *found = bpf_map_lookup_elem(&series, key);

	if (found)
		return found;
	bpf_map_update_elem(&series, key, &zero, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&series, key);
	if (found)
		return found;
	__builtin_memset(key->route, 0, ROUTE);
	__builtin_memcpy(key->route, "other", 5);
	found = bpf_map_lookup_elem(&overflow, key);
	if (found)
		return found;
	bpf_map_update_elem(&overflow, key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&overflow, key);
}

static __always_inline void count(struct http_conn *conn, __u64 now, __u64 length)
{
	struct http_totals *totals = totals_of(&conn->key);
	__u64 duration = now - conn->start_ns;
	__u32 i;

	if (!totals) {
		add(&lost, 1);
		return;
	}
	i = bucket(targ_duration_bounds, DURATIONS, duration);
	if (i <= DURATIONS)
		add(&totals->duration[i], 1);
	add(&totals->duration_ns, duration);
	if (conn->request_bytes != UNKNOWN) {
		i = bucket(targ_size_bounds, SIZES, conn->request_bytes);
		if (i <= SIZES)
			add(&totals->request[i], 1);
		add(&totals->request_bytes, conn->request_bytes);
	}
	if (length != UNKNOWN) {
		i = bucket(targ_size_bounds, SIZES, length);
		if (i <= SIZES)
			add(&totals->response[i], 1);
		add(&totals->response_bytes, length);
	}
}

static __always_inline void tell(struct http_conn *conn, __u64 now, __u64 length)
{
	struct http_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		add(&lost, 1);
		return;
	}
	event->start_ns = conn->start_ns;
	event->end_ns = now;
	event->request_bytes = conn->request_bytes;
	event->response_bytes = length;
	event->key = conn->key;
	if (conn->target <= 8)
		__builtin_memcpy(event->target, conn->in.text + conn->target, sizeof(event->target));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	struct http_segment seg;
	struct http_conn *conn;
	__u32 n, target;
	__u64 word, length = 0;
	__u8 method;

	if (!parse(skb, &seg) || bpf_skb_load_bytes(skb, seg.offset, &word, sizeof(word)))
		return 1;
	method = method_of(word, &target);
	if (!method)
		return 1;
	conn = conn_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		add(&lost, 1);
		return 1;
	}
	/* a body that looks like a request, or a request sent again */
	if (conn->pending && conn->generation == generation && (__s32)(seg.seq - conn->end_seq) < 0)
		return 1;
	conn->pending = 0;
	n = read(skb, seg.offset, seg.len, &conn->in);
	if (!n)
		return 1;
	conn->start_ns = bpf_ktime_get_ns();
	conn->target = target;
	conn->key.method = method;
	conn->key.port = seg.dest;
	route_of(conn, n - target);
	conn->end_seq = seg.seq + seg.len;
	if (method == M_POST || method == M_PUT || method == M_PATCH) {
		target = header(&conn->in, n);
		length = conn->in.length;
		if (target && length != UNKNOWN)
			conn->end_seq = seg.seq + target + length;
	}
	conn->request_bytes = length;
	conn->generation = generation;
	conn->pending = 1;
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct http_segment seg;
	struct http_conn *conn;
	__u64 now, length;
	__u32 n, i;
	struct http_head *head;
	char *out;

	if (!parse(skb, &seg))
		return 1;
	conn = conn_of(skb, 0);
	if (!conn || !conn->pending)
		return 1;
	head = &conn->out;
	out = head->text;
	n = read(skb, seg.offset, seg.len, head);
	if (!n || (*(__u64 *)out & FIRST(7)) != (WORD("HTTP/1. ") & FIRST(7)))
		return 1;
	if (conn->generation != generation) {
		conn->pending = 0;
		return 1;
	}
	if (out[9] == '1' && (out[10] != '0' || out[11] != '1')) {	/* interim, not 101 */
		i = header(head, n);
		if (!i || i >= seg.len)
			return 1;
		n = read(skb, seg.offset + i, seg.len - i, head);
		if (!n || (*(__u64 *)out & FIRST(7)) != (WORD("HTTP/1. ") & FIRST(7)))
			return 1;
	}
	conn->pending = 0;
	now = bpf_ktime_get_ns();
	conn->key.minor = out[7] - '0';
	conn->key.status = (out[9] - '0') * 100 + (out[10] - '0') * 10 + out[11] - '0';
	header(head, n);
	length = head->length;
	if (conn->key.method == M_HEAD || conn->key.status == 204 || conn->key.status == 304)
		length = 0;
	count(conn, now, length);
	if (bpf_get_prandom_u32() <= targ_sample)
		tell(conn, now, length);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
