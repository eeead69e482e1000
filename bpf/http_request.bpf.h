// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: where a request begins, and what is kept of it until it is answered */
#ifndef __HTTP_REQUEST_BPF_H
#define __HTTP_REQUEST_BPF_H

#define HUGE	     (1ULL << 30) /* sequence numbers do not reach farther */
#define MOST_SKIPPED 255

const volatile __u32 targ_sample;    /* a span if a random number is not above */
const volatile bool targ_containers; /* whether records tell the cgroup that they are of */

/* the two directions run on different CPUs: what is not written does not travel */
static __always_inline bool differs(const struct http_series *a, const struct http_series *b)
{
	__u64 difference = 0;
	__u32 i;

	for (i = 0; i < sizeof(*a) / 8; i++)
		difference |= ((const __u64 *)a)[i] ^ ((const __u64 *)b)[i];
	return difference;
}

static __always_inline bool has_body(__u8 method)
{
	return method == M_POST || method == M_PUT || method == M_PATCH || method == M_OTHER;
}

/* the request that a segment starts with, if it does: its key without the status, its header */
static __always_inline bool recognise(struct __sk_buff *skb, struct http_segment *seg,
				      struct http_head *head, struct http_key *key, __u32 *end)
{
	__u32 found;

	if (bpf_skb_load_bytes(skb, seg->offset, head->text, sizeof(__u64)))
		return false;
	found = method_in(WORD(head->text));
	if (!found || !read(skb, seg->offset, seg->len, head))
		return false;
	__builtin_memset(head, 0, offsetof(struct http_head, n));
	head->arrived_ns = bpf_ktime_get_ns();
	key->method = found;
	head->target = found >> 8;
	if (key->method == M_OTHER) {
		head->target = other_method(head);
		if (!head->target)
			return false;
	}
	route_of(key, head);
	*end = header_of(skb, head, seg->offset, seg->len, WINDOWS);
	if (head->line ? !head->version : key->method == M_OTHER)
		return false; /* another protocol's */
	key->minor = head->version - '0';
	key->port = seg->dest;
	return true;
}

/* whether a client has received more than the responses that were known as such */
static __always_inline bool is_past(struct http_conn *conn, __u32 ack)
{
	if ((__s32)(ack - conn->ack) <= 0)
		return false;
	return !conn->answered || (__s32)(ack - conn->out_seq) > 0;
}

/* whether a request begins here; if not, how many bytes belong to what is known already */
static __always_inline bool is_next(struct http_conn *conn, struct http_segment *seg, __u32 *known)
{
	__u32 waiting = conn->begun - conn->ended;

	if (conn->generation != generation) {
		conn->begun = conn->claimed = conn->ended;
		conn->answered = conn->answering = 0;
		conn->generation = generation;
		return true;
	}
	*known = conn->end_seq - seg->seq;
	if ((__s32)*known > 0) /* sent again, or a body that looks like a request */
		return false;
	*known = 0;
	if (waiting && conn->open)
		return false;
	if (waiting == 1 && !conn->answering && is_past(conn, seg->ack)) {
		lose(L_UNSEEN); /* the client does not wait for it any more */
		conn->claimed = ++conn->ended;
	}
	return true;
}

/*
 * The size of a request's body, left in `head`, and where the next request begins: behind so many
 * bytes, or 0. That of a chunked one is known when it is answered.
 */
static __always_inline __u32 measure(struct http_conn *conn, struct http_segment *seg,
				     struct http_head *head, __u8 method, __u32 end)
{
	bool body = has_body(method);

	if (head->chunked)
		head->length = UNKNOWN;
	else if (head->length == UNKNOWN && (end || !body))
		head->length = 0;
	conn->ack = seg->ack;
	conn->open = O_KNOWN;
	if (head->chunked) {
		conn->open = end ? O_CHUNKED : O_UNKNOWN;
		conn->body_seq = seg->seq + end;
	} else if (end ? head->length >= HUGE : body) {
		conn->open = O_UNKNOWN;
	}
	if (conn->open || !end) {
		conn->end_seq = seg->seq + seg->len;
		return 0;
	}
	end += head->length;
	conn->end_seq = seg->seq + end;
	return end;
}

/*
 * A request that was recognised begins; how many bytes are its, 0 if that is unknown. A function
 * that the verifier checks once, and not for each turn of the loop around it.
 */
__noinline __u32 begin(struct __sk_buff *skb, struct http_segment *seg, struct http_head *head,
		       struct http_series *one, __u32 end)
{
	struct http_request *request;
	struct http_conn *conn;
	__u32 known = 0, target, waiting;
	__u8 method;

	if (!seg || !head || !one)
		return 0;
	conn = receiving(skb, seg);
	if (!conn) {
		lose(L_SOCKET);
		return 0;
	}
	if (!is_next(conn, seg, &known))
		return known;
	waiting = conn->begun - conn->ended;
	if (!waiting)
		conn->skipped = 0;
	method = one->key.method;
	end = measure(conn, seg, head, method, end);
	request = slot_of(skb, conn, waiting);
	if (!request) {
		lose(L_PIPELINE);
		if (conn->skipped < MOST_SKIPPED)
			conn->skipped++;
		if (conn->open == O_CHUNKED) /* what is received now is no other one's body */
			conn->open = O_UNKNOWN;
		return end;
	}
	request->bytes = head->length;
	one->cgroup = targ_containers ? bpf_skb_cgroup_id(skb) : 0;
	if (differs(one, &request->series))
		request->series = *one;
	request->start_ns = head->arrived_ns;
	request->sampled = bpf_get_prandom_u32() <= targ_sample;
	if (request->sampled) {
		target = method == M_OTHER ? 0 : head->target;
		keep_target(skb, seg->offset + target, seg->len - target, request->target);
	}
	if (!waiting)
		conn->current = conn->begun;
	barrier();
	conn->begun++;
	return end;
}

#endif
