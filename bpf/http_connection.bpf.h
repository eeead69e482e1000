// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: what is kept of each connection, and where: by socket, or by client before it has one */
#ifndef __HTTP_CONNECTION_BPF_H
#define __HTTP_CONNECTION_BPF_H

#define TOO_OLD (120 * 1000000000ULL) /* for a client that is still connecting */

__u32 generation = 0; /* raised by each `on`: state from before an `off` is void */
bool any_early = false;

static const struct http_conn fresh;

_Static_assert(__builtin_offsetof(struct http_conn, request.start_ns) == 32,
	       "harness/agent/http.py reads it");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_queue);
} queues SEC(".maps");

/*
 * Data that arrive before a connection has a socket: with the segment that completes the
 * handshake, as after a deferred accept or a lost ACK, or in a SYN (TCP Fast Open). Then the
 * filter has the listener's socket.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct http_client);
	__type(value, struct http_conn);
} early SEC(".maps");

static __always_inline struct http_conn *conn_of(struct __sk_buff *skb, __u64 flags)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&conns, sk, NULL, flags) : NULL;
}

static __noinline struct http_queue *queue_of(struct __sk_buff *skb, __u64 flags)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->state == BPF_TCP_LISTEN) /* which is not its own */
		return NULL;
	return bpf_sk_storage_get(&queues, sk, NULL, flags);
}

/* the state of a client that has no socket yet */
static __noinline struct http_conn *early_of(struct __sk_buff *skb, struct http_segment *seg)
{
	struct http_client client = {};
	struct http_conn *conn;

	client.port = seg->source;
	client.server_port = seg->dest;
	addresses_of(skb, (__u8 *)client.address, (__u8 *)client.server);
	conn = bpf_map_lookup_elem(&early, &client);
	if (conn && bpf_ktime_get_ns() - conn->request.start_ns < TOO_OLD)
		return conn;
	if (!any_early)
		any_early = true;
	bpf_map_update_elem(&early, &client, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&early, &client);
}

/*
 * The server's end, as its socket has it: what leaves has the address that the client knows, which
 * is another one where the machine redirects connections.
 */
static __always_inline void server_of(struct __sk_buff *skb, struct bpf_sock *sk,
				      struct http_client *client)
{
	__u32 last;

	client->server_port = sk->src_port;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		last = sk->src_ip4;
		barrier_var(last); /* the compiler would load from either place at once */
		client->server[2] = bpf_htonl(0xffff);
	} else {
		client->server[0] = sk->src_ip6[0];
		client->server[1] = sk->src_ip6[1];
		client->server[2] = sk->src_ip6[2];
		last = sk->src_ip6[3];
		barrier_var(last);
	}
	client->server[3] = last;
}

/* give a socket the state that its client had before; NULL if it had none */
static __noinline struct http_conn *adopt(struct __sk_buff *skb, __u32 port, bool sent)
{
	struct http_client client = {};
	struct http_conn *conn, *before;
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	client.port = port;
	server_of(skb, sk, &client);
	if (sent)
		addresses_of(skb, NULL, (__u8 *)client.address);
	else
		addresses_of(skb, (__u8 *)client.address, NULL);
	before = bpf_map_lookup_elem(&early, &client);
	if (!before)
		return NULL;
	conn = conn_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) /* no memory: the next packet tries again, or its release */
		return NULL;
	*conn = *before;
	bpf_map_delete_elem(&early, &client);
	return conn;
}

/* the connection of a packet that a client sent */
static __always_inline struct http_conn *receiving(struct __sk_buff *skb, struct http_segment *seg)
{
	struct bpf_sock *sk = skb->sk;
	struct http_conn *conn;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	if (sk->state == BPF_TCP_LISTEN)
		return early_of(skb, seg);
	conn = bpf_sk_storage_get(&conns, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (conn && !conn->generation && any_early)
		adopt(skb, seg->source, false);
	return conn;
}

/* where the next request of a connection is kept; NULL if there is no room */
static __always_inline struct http_request *slot_of(struct __sk_buff *skb, struct http_conn *conn,
						    __u32 waiting)
{
	struct http_queue *queue;

	if (!waiting)
		return &conn->request;
	if (waiting >= QUEUE)
		return NULL;
	queue = queue_of(skb, BPF_SK_STORAGE_GET_F_CREATE);
	return queue ? &queue->waiting[conn->begun & (QUEUE - 1)] : NULL;
}

#endif
