// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * http: HTTP/1.x requests served by the processes of one cgroup.
 *
 * A request starts with the segment that arrives with a method at its first
 * byte and ends with the next one that leaves with "HTTP/1." at its first
 * byte, on the same socket. Every request is added up here, by method, route,
 * status and port; a sampled share is told one by one.
 *
 * Not seen: TLS, HTTP/2, the second and further of pipelined requests, and a
 * first line that is torn apart by a segment's end. Sizes are Content-Length
 * as found in the first MESSAGE bytes; a chunked body has none.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "http.h"
#include "http_message.bpf.h"
#include "ring.bpf.h"

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86DD
#define SHORTEST   16 /* bytes of a message, of which its method takes 8 at most */

struct http_segment {
	__u32 offset;
	__u32 len;
	__u32 seq;
	__u16 source;
	__u16 dest;
};

const volatile __u64 targ_duration_bounds[DURATIONS];
const volatile __u64 targ_size_bounds[SIZES];
const volatile __u32 targ_sample;    /* a span if a random number is not above */
const volatile bool targ_containers; /* whether records tell the cgroup that they are of */

__u32 generation = 0; /* raised by each `on`: state from before an `off` is void */
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

/* read the head of a message; false if it is too short for one */
static __always_inline bool read(struct __sk_buff *skb, __u32 offset, __u32 len,
				 struct http_head *head)
{
	__u64 n = len < MESSAGE ? len : MESSAGE;

	barrier_var(n);				  /* the compiler would check `len`, and load `n` */
	__builtin_memset(head, 0, sizeof(*head)); /* older verifiers ask for it */
	if (n < SHORTEST)
		return false;
	barrier_var(n); /* the compiler would make both checks one, which Linux 6.1 cannot follow */
	if (n > MESSAGE || bpf_skb_load_bytes(skb, offset, head->text, n))
		return false;
	head->n = n;
	return true;
}

static __always_inline __u32 bucket(const volatile __u64 *bounds, __u32 count, __u64 value)
{
	__u32 i;

	for (i = 0; i < count; i++)
		if (value <= bounds[i])
			break;
	return i;
}

static __always_inline struct http_totals *totals_of(struct http_series *one)
{
	struct http_totals *found = bpf_map_lookup_elem(&series, one);

	if (found)
		return found;
	bpf_map_update_elem(&series, one, &zero, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&series, one);
	if (found)
		return found;
	__builtin_memset(one->key.route, 0, ROUTE);
	__builtin_memcpy(one->key.route, "other", 5);
	found = bpf_map_lookup_elem(&overflow, one);
	if (found)
		return found;
	bpf_map_update_elem(&overflow, one, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&overflow, one);
}

static __always_inline void count(struct http_conn *conn, struct http_series *one, __u64 now,
				  __u64 length)
{
	struct http_totals *totals = totals_of(one);
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

static __always_inline void tell(struct http_conn *conn, struct http_series *one, __u64 now,
				 __u64 length)
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
	event->series = *one;
	__builtin_memcpy(event->target, conn->target, TARGET);
	bpf_ringbuf_submit(event, wakeup(&events));
}

static __always_inline void keep_target(struct __sk_buff *skb, __u32 offset, __u32 len,
					struct http_conn *conn)
{
	__u64 n = len < TARGET ? len : TARGET;

	barrier_var(n); /* as in read(), which has found SHORTEST bytes in this segment */
	if (n < SHORTEST - 8)
		return;
	barrier_var(n);
	if (n <= TARGET)
		bpf_skb_load_bytes(skb, offset, conn->target, n);
}

/* the two directions run on different CPUs: what is not written does not travel */
static __always_inline bool differs(const struct http_key *a, const struct http_key *b)
{
	__u64 difference = 0;
	__u32 i;

	for (i = 0; i < sizeof(*a) / 8; i++)
		difference |= ((const __u64 *)a)[i] ^ ((const __u64 *)b)[i];
	return difference;
}

static __always_inline bool is_response(struct http_head *head)
{
	return (*(__u64 *)head->text & FIRST(7)) == (WORD("HTTP/1. ") & FIRST(7));
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	struct http_key key = {};
	struct http_head head;
	struct http_segment seg;
	struct http_conn *conn;
	__u64 word, length = 0;
	__u32 target, end;
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
	if (!read(skb, seg.offset, seg.len, &head))
		return 1;
	head.target = target;
	conn->start_ns = bpf_ktime_get_ns();
	key.method = method;
	key.port = seg.dest;
	route_of(&key, &head);
	if (differs(&key, &conn->key))
		conn->key = key;
	conn->sampled = bpf_get_prandom_u32() <= targ_sample;
	if (conn->sampled)
		keep_target(skb, seg.offset + target, seg.len - target, conn);
	conn->end_seq = seg.seq + seg.len;
	if (method == M_POST || method == M_PUT || method == M_PATCH) {
		end = header(&head);
		length = head.length;
		if (end && length != UNKNOWN)
			conn->end_seq = seg.seq + end + length;
	}
	conn->request_bytes = length;
	conn->generation = generation;
	conn->pending = 1;
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct http_head head;
	struct http_segment seg;
	struct http_series one;
	struct http_conn *conn;
	const char *text = head.text;
	__u64 now;
	__u32 end;

	if (!parse(skb, &seg))
		return 1;
	conn = conn_of(skb, 0);
	if (!conn || !conn->pending)
		return 1;
	if (!read(skb, seg.offset, seg.len, &head) || !is_response(&head))
		return 1;
	if (conn->generation != generation) {
		conn->pending = 0;
		return 1;
	}
	end = header(&head);
	if (text[9] == '1' && (text[10] != '0' || text[11] != '1')) { /* interim, not 101 */
		if (!end || end >= seg.len || !read(skb, seg.offset + end, seg.len - end, &head) ||
		    !is_response(&head))
			return 1;
		header(&head);
	}
	conn->pending = 0;
	now = bpf_ktime_get_ns();
	one.key = conn->key;
	one.cgroup = targ_containers ? bpf_skb_cgroup_id(skb) : 0;
	one.key.minor = text[7] - '0';
	one.key.status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + text[11] - '0';
	if (one.key.method == M_HEAD || one.key.status == 204 || one.key.status == 304)
		head.length = 0;
	count(conn, &one, now, head.length);
	if (conn->sampled)
		tell(conn, &one, now, head.length);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
