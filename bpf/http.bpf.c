// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * http: HTTP/1.x requests served by the processes of one cgroup.
 *
 * A request starts with the segment in which its request line arrives and ends
 * when the last byte of its response leaves, on the same socket. Sequence
 * numbers tell what was sent again, and what belongs to a body. Requests that
 * do not wait for responses stand in a queue. One that is not answered when
 * its socket is released or closed ends there, with an error. Every request is
 * added up here, by method, route, status and port; a share is told one by one.
 *
 * Not seen: TLS, HTTP/2, UNIX sockets, a request line that does not begin with
 * a segment or behind another request in one, and segments out of order. Sizes
 * are those of Content-Length. A body without one is all that is transferred up
 * to its end, the frames of its chunks with it; a chunked one ends with a
 * segment whose end looks like that of its last chunk.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "http.h"
#include "selected.bpf.h"
#include "http_message.bpf.h"
#include "http_packet.bpf.h"
#include "socket.bpf.h"
#include "http_connection.bpf.h"
#include "http_totals.bpf.h"
#include "http_request.bpf.h"
#include "http_response.bpf.h"
#include "http_release.bpf.h"

SEC("cgroup_skb/ingress")
int http_ingress(struct __sk_buff *skb)
{
	struct http_segment seg;
	struct http_head head;
	__u32 i, end, taken;

	if (!parse(skb, &seg) || !socket_of(skb))
		return 1;
	for (i = 0; i <= QUEUE; i++) {
		struct http_series one = {};

		if (!recognise(skb, &seg, &head, &one.key, &end))
			break;
		if (targ_selecting && !is_selected(bpf_skb_cgroup_id(skb)))
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
	if (!conn || conn->generation != generation)
		return 1;
	if (conn->begun == conn->ended) {
		unasked(skb, &seg, conn);
		return 1;
	}
	for (i = 0; i < QUEUE; i++) {
		if (conn->answering && has_ended(skb, &seg, conn))
			finish(conn, outcome_of(conn), conn->last_ns, ended_size(conn));
		taken = conn->answering ? go_on(skb, &seg, conn) : answer(skb, &seg, conn);
		if (!taken || taken >= seg.len)
			break;
		seg.offset += taken;
		seg.seq += taken;
		seg.len -= taken;
		if (conn->begun == conn->ended) {
			unasked(skb, &seg, conn);
			break;
		}
	}
	/* what waited to be sent when its socket was released has no other end */
	if (seg.fin && conn->answering)
		give_up(conn, E_SERVER_CLOSED, bpf_ktime_get_ns());
	return 1;
}

SEC("cgroup/sock_release")
int http_release(struct bpf_sock *sk)
{
	struct http_conn *conn = bpf_sk_storage_get(&conns, sk, NULL, 0);

	if (!conn) {
		if (any_early)
			release_early(sk, bpf_ktime_get_ns());
		return 1;
	}
	if (is_waiting(conn) && !still_sends(sk, conn))
		give_up_all(conn, bpf_sk_storage_get(&queues, sk, NULL, 0), error_of(sk->state));
	return 1;
}

/*
 * The end of connections of the whole machine, of which those that we know matter: where a socket
 * was never accepted, or still had to send when it was released, no program runs for it any more.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(http_state, struct sock *sk, int oldstate, int newstate)
{
	struct http_conn *conn;

	if (newstate != BPF_TCP_CLOSE)
		return 0;
	conn = bpf_sk_storage_get(&conns, sk, NULL, 0);
	if (!conn || !is_waiting(conn))
		return 0;
	if (conn->answering == A_CLOSE && was_cut(sk, conn))
		conn->answering = A_LENGTH; /* its end never left */
	give_up_all(conn, bpf_sk_storage_get(&queues, sk, NULL, 0),
		    error_at_end(sk, conn, oldstate));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
