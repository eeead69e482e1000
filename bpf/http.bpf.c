// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * http: HTTP/1.x requests served by the processes of one cgroup.
 *
 * A request starts with the segment in which its request line arrives and ends
 * when the last byte of its response leaves, on the same socket. Sequence
 * numbers tell what was sent again, and what belongs to a body. Requests that
 * do not wait for responses stand in a queue. One that is not answered when
 * its socket is released ends there, with an error. Every request is added up
 * here, by method, route, status and port; a share is told one by one.
 *
 * Not seen: TLS, HTTP/2, UNIX sockets, a request line that does not begin with
 * a segment or behind another request in one, and segments out of order. Sizes
 * are those of Content-Length; a chunked body has none, and ends with a segment
 * whose end looks like that of its last chunk.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "http.h"
#include "http_message.bpf.h"
#include "http_packet.bpf.h"
#include "http_connection.bpf.h"
#include "http_totals.bpf.h"

#define AF_INET	  2
#define HUGE	  (1ULL << 30) /* sequence numbers do not reach farther */
#define LAST	  "0\r\n\r\n"  /* chunk, with what ends a body behind it */
#define LAST_SIZE (sizeof(LAST) - 1)

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
	if (has_body(key->method)) {
		*end = header_of(skb, head, seg->offset, seg->len, WINDOWS);
	} else {
		head->length = UNKNOWN;
		*end = header(head);
	}
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

/* the size of a request's body, and where the next request begins: behind so many bytes, or 0 */
static __always_inline __u32 measure(struct http_conn *conn, struct http_segment *seg,
				     struct http_head *head, struct http_request *request,
				     __u8 method, __u32 end)
{
	bool body = has_body(method);

	if (end && !head->chunked && head->length == UNKNOWN)
		head->length = 0;
	request->bytes = head->chunked ? UNKNOWN : end || body ? head->length : 0;
	conn->ack = seg->ack;
	conn->open = head->chunked || (end ? head->length >= HUGE : body);
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
	conn = receiving(skb, seg->source);
	if (!conn) {
		lose(L_SOCKET);
		return 0;
	}
	if (!is_next(conn, seg, &known))
		return known;
	waiting = conn->begun - conn->ended;
	request = slot_of(skb, conn, waiting);
	if (!request) {
		lose(L_PIPELINE);
		return 0;
	}
	method = one->key.method;
	one->cgroup = targ_containers ? bpf_skb_cgroup_id(skb) : 0;
	if (differs(one, &request->series))
		request->series = *one;
	request->start_ns = head->arrived_ns;
	request->sampled = bpf_get_prandom_u32() <= targ_sample;
	if (request->sampled) {
		target = method == M_OTHER ? 0 : head->target;
		keep_target(skb, seg->offset + target, seg->len - target, request->target);
	}
	end = measure(conn, seg, head, request, method, end);
	if (!waiting)
		conn->current = conn->begun;
	barrier();
	conn->begun++;
	return end;
}

SEC("cgroup_skb/ingress")
int http_ingress(struct __sk_buff *skb)
{
	struct http_segment seg;
	struct http_head head;
	__u32 i, end, taken;

	if (!parse(skb, &seg))
		return 1;
	for (i = 0; i < QUEUE; i++) {
		struct http_series one = {};

		if (!recognise(skb, &seg, &head, &one.key, &end))
			break;
		taken = begin(skb, &seg, &head, &one, end);
		if (!taken || taken >= seg.len)
			break;
		seg.offset += taken;
		seg.seq += taken;
		seg.len -= taken;
	}
	return 1;
}

/* make the request current whose response comes now */
static __noinline int turn(struct __sk_buff *skb, struct http_conn *conn)
{
	struct http_queue *queue = queue_of(skb, 0);

	if (queue)
		conn->request = queue->waiting[conn->ended & (QUEUE - 1)];
	conn->current = conn->ended;
	return 0;
}

static __always_inline __u32 outcome_of(struct http_conn *conn)
{
	return conn->request.series.key.status | conn->request.series.key.minor << 16;
}

/*
 * A response that starts with this segment; how many of its bytes are its, 0 if none. This and
 * go_on are functions that the verifier checks once, and not for each turn of the loop around them.
 */
__noinline __u32 answer(struct __sk_buff *skb, struct http_segment *seg, struct http_conn *conn)
{
	struct http_head head;
	const char *text = head.text;
	struct http_key *key;
	__u32 end, status, minor;
	__u64 now;

	if (!seg || !conn)
		return 0;
	key = &conn->request.series.key;
	if (conn->answered && (__s32)(seg->seq - conn->out_seq) < 0)
		return 0; /* sent again */
	if (!read(skb, seg->offset, seg->len, &head) || !is_response(&head))
		return 0;
	now = bpf_ktime_get_ns();
	minor = (__u8)(text[7] - '0');
	status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + text[11] - '0';
	status &= 0xffff;
	__builtin_memset(&head, 0, offsetof(struct http_head, n));
	end = header_of(skb, &head, seg->offset, seg->len, WINDOWS);
	if (status / 100 == 1 && status != 101) { /* interim */
		conn->ack = seg->seq + (end ? end : seg->len);
		return end;
	}
	if (conn->current != conn->ended)
		turn(skb, conn);
	if (key->method == M_HEAD || status == 204 || status == 304 || status == 101 ||
	    (key->method == M_CONNECT && status / 100 == 2)) {
		head.length = 0;
		head.chunked = 0;
	}
	conn->answered = 1;
	if (!end || (!head.chunked && head.length <= seg->len - end)) { /* all of it is here */
		end = end ? end + head.length : seg->len;
		conn->out_seq = seg->seq + end;
		finish(conn, status | minor << 16, now, head.length);
		return end;
	}
	key->status = status;
	key->minor = minor;
	conn->out_seq = seg->seq + end;
	conn->response_bytes = conn->left = head.chunked ? UNKNOWN : head.length;
	conn->last_ns = now;
	conn->answering = head.chunked ? A_CHUNKED : head.length == UNKNOWN ? A_CLOSE : A_LENGTH;
	return end;
}

/* more of a response's body; how many bytes of the segment are its, 0 if all of them */
__noinline __u32 go_on(struct __sk_buff *skb, struct http_segment *seg, struct http_conn *conn)
{
	__u64 tail = 0;
	__u32 old;

	if (!seg || !conn)
		return 0;
	old = conn->out_seq - seg->seq; /* bytes that were sent before */
	if ((__s32)old < 0)
		old = 0;
	if (old >= seg->len)
		return 0;
	conn->last_ns = bpf_ktime_get_ns();
	if (conn->answering == A_LENGTH && conn->left <= seg->len - old) {
		old += conn->left;
		conn->out_seq = seg->seq + old;
		finish(conn, outcome_of(conn), conn->last_ns, conn->response_bytes);
		return old;
	}
	conn->left -= seg->len - old;
	conn->out_seq = seg->seq + seg->len;
	if (conn->answering == A_CHUNKED && seg->len >= LAST_SIZE &&
	    !bpf_skb_load_bytes(skb, seg->offset + seg->len - LAST_SIZE, &tail, LAST_SIZE) &&
	    tail == (WORD(LAST "\0\0\0") & FIRST(LAST_SIZE)))
		finish(conn, outcome_of(conn), conn->last_ns, UNKNOWN);
	return 0;
}

/* a body whose end was not seen ends where the response behind it begins */
static __always_inline bool has_ended(struct __sk_buff *skb, struct http_segment *seg,
				      struct http_conn *conn)
{
	__u64 word = 0;

	return conn->answering != A_LENGTH && conn->begun - conn->ended > 1 &&
	       (__s32)(seg->seq - conn->out_seq) >= 0 &&
	       !bpf_skb_load_bytes(skb, seg->offset, &word, 7) &&
	       word == (WORD("HTTP/1. ") & FIRST(7));
}

SEC("cgroup_skb/egress")
int http_egress(struct __sk_buff *skb)
{
	struct http_segment seg;
	struct http_conn *conn;
	__u32 i, taken;

	if (!parse(skb, &seg))
		return 1;
	conn = conn_of(skb, 0);
	if (!conn && any_early)
		conn = adopt(skb, seg.dest, true);
	if (!conn || conn->begun == conn->ended || conn->generation != generation)
		return 1;
	for (i = 0; i < QUEUE; i++) {
		if (conn->answering && has_ended(skb, &seg, conn))
			finish(conn, outcome_of(conn), conn->last_ns, UNKNOWN);
		taken = conn->answering ? go_on(skb, &seg, conn) : answer(skb, &seg, conn);
		if (!taken || taken >= seg.len || conn->begun == conn->ended)
			break;
		seg.offset += taken;
		seg.seq += taken;
		seg.len -= taken;
	}
	return 1;
}

static __always_inline __u32 error_of(__u32 state)
{
	if (state == BPF_TCP_CLOSE_WAIT)
		return E_CLIENT_CLOSED;
	return state == BPF_TCP_CLOSE ? E_RESET : E_SERVER_CLOSED;
}

/* no response comes any more, or no more of one */
static __always_inline void give_up(struct http_conn *conn, __u32 error, __u64 now)
{
	if (!conn->answering)
		finish(conn, error << 24, now, UNKNOWN);
	else if (conn->answering == A_LENGTH)
		finish(conn, outcome_of(conn) | error << 24, now, UNKNOWN);
	else
		finish(conn, outcome_of(conn), conn->last_ns, UNKNOWN);
}

/* whether what still waits to be sent may be the rest of the response: then that ends it */
static __always_inline bool still_sends(struct bpf_sock *sk, struct http_conn *conn)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	__u32 written = 0, sent = 0;

	if (sk->protocol != IPPROTO_TCP)
		return false;
	written = BPF_CORE_READ(tp, write_seq);
	sent = BPF_CORE_READ(tp, snd_nxt);
	if (written == sent)
		return false;
	return conn->answering != A_LENGTH || conn->left <= (__u32)(written - conn->out_seq);
}

/* of a connection whose socket never sent or received anything by itself */
static __noinline int release_early(struct bpf_sock *sk, __u64 now)
{
	struct http_client client = {};
	struct http_conn *conn;
	__u32 last;

	client.port = bpf_ntohs(*(volatile __u32 *)&sk->dst_port); /* as a word: before 5.18 */
	if (sk->family == AF_INET) {
		last = sk->dst_ip4;
		barrier_var(last); /* the compiler would load from either place at once */
		client.address[2] = bpf_htonl(0xffff);
	} else {
		client.address[0] = sk->dst_ip6[0];
		client.address[1] = sk->dst_ip6[1];
		client.address[2] = sk->dst_ip6[2];
		last = sk->dst_ip6[3];
		barrier_var(last);
	}
	client.address[3] = last;
	conn = bpf_map_lookup_elem(&early, &client);
	if (!conn)
		return 0;
	if (conn->generation == generation && conn->begun != conn->ended)
		give_up(conn, error_of(sk->state), now);
	bpf_map_delete_elem(&early, &client);
	return 0;
}

SEC("cgroup/sock_release")
int http_release(struct bpf_sock *sk)
{
	struct http_conn *conn = bpf_sk_storage_get(&conns, sk, NULL, 0);
	struct http_queue *queue;
	__u64 now;
	__u32 i;

	if (!conn) {
		if (any_early)
			release_early(sk, bpf_ktime_get_ns());
		return 1;
	}
	if (conn->begun == conn->ended || conn->generation != generation || still_sends(sk, conn))
		return 1;
	now = bpf_ktime_get_ns();
	queue = bpf_sk_storage_get(&queues, sk, NULL, 0);
	for (i = 0; i < QUEUE && conn->begun != conn->ended; i++) {
		if (conn->current != conn->ended && queue) {
			conn->request = queue->waiting[conn->ended & (QUEUE - 1)];
			conn->current = conn->ended;
		}
		give_up(conn, error_of(sk->state), now);
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
