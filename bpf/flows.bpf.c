// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// TCP connections of one cgroup, counted by role, port and peer.
//
// Nothing runs per packet or per request: the kernel keeps bytes, round-trip
// time and retransmits in every socket already. They are read when a socket
// closes and, while it is open, by an iterator once per export.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define AF_INET6	 10
#define E2BIG		 7
#define MAX_CGROUP_DEPTH 16
#define MAX_FLOWS	 2000
#define STATES		 13
#define SOCK_DONE_BIT	 bpf_core_enum_value(enum sock_flags, SOCK_DONE)

enum role { CLIENT = 1, SERVER = 2 };

/* IPv4 peers are v4-mapped; overflow stands for all that no longer fit */
struct flow_key {
	__u8 role;
	__u8 overflow;
	__u16 port; /* the server's: local of a server, the peer's of a client */
	__u8 peer[16];
};

/* what is counted apart: user space cuts it down to `key` where records tell no cgroup */
struct flow_series {
	struct flow_key key;
	__u32 unused;
	__u64 cgroup; /* of the socket; 0 unless targ_containers, and of overflow */
};

struct flow {
	__u64 opened;
	__u64 closed;
	__u64 sent;
	__u64 received;
	__u64 retransmits;
	__u64 rtt_us; /* sum of smoothed round-trip times, one a reading */
	__u64 rtt_readings;
	__u64 pass; /* the iteration that counted open[] */
	__u32 open[STATES];
};

/* what has been counted of a connection; lives and dies with its socket */
struct connection {
	__u64 sent;
	__u64 received;
	__u64 retransmits;
	__u32 role;
	__u32 closed;
};

const volatile bool targ_containers = false;

__u64 targ_cgroup = 0; /* another one when the cgroup is made anew */
__u64 pass = 0;
__u64 opened = 0;
__u64 closed = 0;
__u64 lost = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_FLOWS);
	__uint(key_size,
	       sizeof(struct flow_series)); /* without a type, so that it can be cut down */
	__uint(value_size, sizeof(struct flow));
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

/* ports that the cgroup listens on: tells accepted from made connections */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, __u8);
} listening SEC(".maps");

static const struct flow no_flow;

static bool in_scope(const struct sock *sk)
{
	struct cgroup *cgroup = sk->sk_cgrp_data.cgroup;

	for (int depth = 0; depth < MAX_CGROUP_DEPTH && cgroup; depth++) {
		struct cgroup_subsys_state *parent;

		if (BPF_CORE_READ(cgroup, kn, id) == targ_cgroup)
			return true;
		parent = BPF_CORE_READ(cgroup, self.parent);
		cgroup = parent ? BPF_CORE_READ(parent, cgroup) : NULL;
	}
	return false;
}

/* skc_num is gone already when a socket closes */
static __u16 local_port(const struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

static void note_listener(const struct sock *sk)
{
	__u16 port = sk->__sk_common.skc_num; /* inet_sport is not set yet */
	__u8 yes = 1;

	bpf_map_update_elem(&listening, &port, &yes, BPF_ANY);
}

static __u32 guess_role(const struct sock *sk)
{
	__u16 port = local_port(sk);

	return bpf_map_lookup_elem(&listening, &port) ? SERVER : CLIENT;
}

static void read_key(const struct sock *sk, __u32 role, struct flow_key *key)
{
	const struct sock_common *common = &sk->__sk_common;

	key->role = role;
	key->port = role == SERVER ? local_port(sk) : bpf_ntohs(common->skc_dport);
	if (common->skc_family == AF_INET6) {
		BPF_CORE_READ_INTO(&key->peer, common, skc_v6_daddr);
	} else {
		key->peer[10] = key->peer[11] = 0xff;
		bpf_core_read(&key->peer[12], 4, &common->skc_daddr);
	}
}

static __u64 cgroup_of(const struct sock *sk)
{
	struct cgroup *cgroup = sk->sk_cgrp_data.cgroup;

	return BPF_CORE_READ(cgroup, kn, id);
}

static struct flow *find_flow(const struct sock *sk, __u32 role)
{
	struct flow_series one = {};
	struct flow *flow;

	read_key(sk, role, &one.key);
	if (targ_containers)
		one.cgroup = cgroup_of(sk);
	flow = bpf_map_lookup_elem(&flows, &one);
	if (flow)
		return flow;
	if (bpf_map_update_elem(&flows, &one, &no_flow, BPF_NOEXIST) == -E2BIG) {
		__builtin_memset(&one, 0, sizeof(one));
		one.key.overflow = 1; /* entered by user space beforehand */
	}
	return bpf_map_lookup_elem(&flows, &one);
}

/*
 * How much `now` is beyond what was counted. The iterator does not hold the
 * socket's lock, so the socket may close meanwhile: only one of both wins.
 */
static __u64 advance(__u64 *counted, __u64 now)
{
	for (int attempt = 0; attempt < 4; attempt++) {
		__u64 before = *(volatile __u64 *)counted;

		if (now <= before)
			return 0;
		if (__sync_val_compare_and_swap(counted, before, now) == before)
			return now - before;
	}
	return 0;
}

static void count(struct flow *flow, const struct tcp_sock *tp, struct connection *conn)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	/* a FIN takes one sequence number, which bytes_received includes */
	__u64 fin = (sk->__sk_common.skc_flags >> SOCK_DONE_BIT) & 1;
	__u64 sent = advance(&conn->sent, tp->bytes_sent - tp->bytes_retrans);
	__u64 received = advance(&conn->received, tp->bytes_received - fin);
	__u64 again = advance(&conn->retransmits, tp->total_retrans);

	__sync_fetch_and_add(&flow->sent, sent);
	__sync_fetch_and_add(&flow->received, received);
	__sync_fetch_and_add(&flow->retransmits, again);
	if (tp->srtt_us) {
		__sync_fetch_and_add(&flow->rtt_us, tp->srtt_us >> 3);
		__sync_fetch_and_add(&flow->rtt_readings, 1);
	}
}

static struct connection *track(struct tcp_sock *tp, __u32 role)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct connection *conn;
	struct flow *flow;

	conn = bpf_sk_storage_get(&connections, tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	if (!__sync_bool_compare_and_swap(&conn->role, 0, role))
		return conn;
	__sync_fetch_and_add(&opened, 1);
	flow = find_flow(sk, role);
	if (flow)
		__sync_fetch_and_add(&flow->opened, 1);
	return conn;
}

static void close(struct tcp_sock *tp)
{
	const struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct connection *conn;
	struct flow *flow;

	conn = bpf_sk_storage_get(&connections, tp, NULL, 0);
	if (!conn) /* it was opened while we were off */
		conn = track(tp, guess_role(sk));
	if (!conn || conn->closed)
		return;
	conn->closed = 1;
	__sync_fetch_and_add(&closed, 1);
	flow = find_flow(sk, conn->role);
	if (!flow)
		return;
	__sync_fetch_and_add(&flow->closed, 1);
	count(flow, tp, conn);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int oldstate, int newstate)
{
	struct tcp_sock *tp;

	if (newstate != TCP_ESTABLISHED && newstate != TCP_CLOSE && newstate != TCP_LISTEN)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP || !in_scope(sk))
		return 0;
	if (newstate == TCP_LISTEN) {
		note_listener(sk);
		return 0;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (newstate == TCP_ESTABLISHED)
		track(tp, oldstate == TCP_SYN_SENT ? CLIENT : SERVER);
	else if (oldstate != TCP_SYN_SENT && oldstate != TCP_SYN_RECV && oldstate != TCP_LISTEN &&
		 oldstate != TCP_CLOSE)
		close(tp);
	return 0;
}

/* connections that we know, as often as is exported: costs what they are */
SEC("iter/bpf_sk_storage_map")
int read_open(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct connection *conn = ctx->value;
	struct sock *sk = ctx->sk;
	struct tcp_sock *tp;
	struct flow *flow;
	__u8 state;

	if (!sk || !conn || conn->closed)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	flow = find_flow(sk, conn->role);
	if (!flow)
		return 0;
	count(flow, tp, conn);
	if (flow->pass != pass) {
		__builtin_memset(flow->open, 0, sizeof(flow->open));
		flow->pass = pass;
	}
	state = sk->__sk_common.skc_state;
	if (state < STATES)
		flow->open[state]++;
	return 0;
}

/* all of the host's connections, listeners first: after being switched on */
SEC("iter/tcp")
int find_open(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tp;
	struct sock *sk;

	tp = common ? bpf_skc_to_tcp_sock(common) : NULL;
	if (!tp)
		return 0;
	sk = &tp->inet_conn.icsk_inet.sk;
	if (!in_scope(sk))
		return 0;
	if (sk->__sk_common.skc_state == TCP_LISTEN)
		note_listener(sk);
	else if (sk->__sk_common.skc_state != TCP_SYN_SENT &&
		 sk->__sk_common.skc_state != TCP_CLOSE)
		track(tp, guess_role(sk));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
