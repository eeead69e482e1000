// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: what becomes of requests that are not answered when their socket is released or closed */
#ifndef __HTTP_RELEASE_BPF_H
#define __HTTP_RELEASE_BPF_H

#define AF_INET	     2
#define EPIPE	     32
#define ECONNABORTED 103
#define ECONNRESET   104

static __always_inline __u32 error_of(__u32 state)
{
	if (state == BPF_TCP_CLOSE_WAIT)
		return E_CLIENT_CLOSED;
	return state == BPF_TCP_CLOSE ? E_RESET : E_SERVER_CLOSED;
}

/*
 * Whether data arrived after its server had closed it, which the kernel answers by an RST: its
 * error is then the same as after one of the client's. What was sent again counts as well, though
 * it is no late data and no RST follows it: a client that resets after that is taken for late.
 */
static __always_inline bool was_late(struct sock *sk, struct http_conn *conn)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return tp && conn->received && tp->data_segs_in != conn->received;
}

/*
 * Who ended a connection that has this error; the server had closed it before, or not. One that
 * the kernel gave up has ETIMEDOUT, or what it was told last of the way to the client.
 */
static __always_inline __u32 error_at_end(struct sock *sk, struct http_conn *conn, __u32 before)
{
	switch (sk->sk_err) {
	case 0:
		return error_of(before);
	case ECONNRESET:
		return was_late(sk, conn) ? E_SERVER_CLOSED : E_RESET;
	case EPIPE: /* reset behind the client's FIN */
	case ECONNABORTED:
		return E_RESET;
	default:
		return E_TIMEOUT;
	}
}

/* whether a connection ended before its server had ended it: by a FIN, behind all that left */
static __always_inline bool was_cut(struct sock *sk, struct http_conn *conn)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return tp && tp->write_seq - conn->out_seq != 1;
}

/* whether some of its requests are not answered */
static __always_inline bool is_waiting(struct http_conn *conn)
{
	return conn->begun != conn->ended && conn->generation == generation;
}

/* none of them is answered any more */
static __always_inline void give_up_all(struct http_conn *conn, struct http_queue *queue,
					__u32 error)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 i;

	for (i = 0; i < QUEUE && conn->begun != conn->ended; i++) {
		if (conn->current != conn->ended && queue) {
			conn->request = queue->waiting[conn->ended & (QUEUE - 1)];
			conn->current = conn->ended;
		}
		give_up(conn, error, now);
	}
}

/*
 * Whether what still waits to be sent may be the rest of the response: then that ends it, and how
 * much was received by now is kept.
 */
static __always_inline bool still_sends(struct bpf_sock *sk, struct http_conn *conn)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	__u32 written = 0, sent = 0;

	if (sk->protocol != IPPROTO_TCP || sk->state == BPF_TCP_CLOSE) /* nothing leaves any more */
		return false;
	written = BPF_CORE_READ(tp, write_seq);
	sent = BPF_CORE_READ(tp, snd_nxt);
	if (written == sent)
		return false;
	if (conn->answering == A_LENGTH && conn->left > (__u32)(written - conn->out_seq))
		return false;
	conn->received = BPF_CORE_READ(tp, data_segs_in);
	return true;
}

/* of a connection whose socket never sent or received anything by itself */
static __noinline int release_early(struct bpf_sock *sk, __u64 now)
{
	struct inet_sock *inet = (struct inet_sock *)sk; /* no program is told its own end */
	struct http_client client = {};
	struct http_conn *conn;
	__u32 last;

	client.server_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	client.port = bpf_ntohs(*(volatile __u32 *)&sk->dst_port); /* as a word: before 5.18 */
	if (sk->family == AF_INET) {
		last = sk->dst_ip4;
		barrier_var(last); /* the compiler would load from either place at once */
		client.address[2] = client.server[2] = bpf_htonl(0xffff);
		client.server[3] = BPF_CORE_READ(inet, sk.__sk_common.skc_rcv_saddr);
	} else {
		BPF_CORE_READ_INTO(&client.server, inet, sk.__sk_common.skc_v6_rcv_saddr);
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

#endif
