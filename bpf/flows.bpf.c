// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// TCP connections of one cgroup, counted by role, port, peer and local address.
//
// Nothing runs per packet or per request: the kernel keeps bytes, round-trip
// time and retransmits in every socket already. They are read when a socket
// closes and, while it is open, by an iterator once per export. UDP sockets
// keep no such totals: flows_udp.bpf.h counts its datagrams, if that is asked for.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "flows.h"
#include "selected.bpf.h"
#include "flows_socket.bpf.h"
#include "flows_advance.bpf.h"

#define E2BIG	      7
#define MAX_FLOWS     2000
#define SOCK_DONE_BIT bpf_core_enum_value(enum sock_flags, SOCK_DONE)

/* what has been counted of a connection; lives and dies with its socket */
struct connection {
	__u64 sent;
	__u64 received;
	__u64 retransmits;
	__u32 role;
	__u16 overflow; /* it was opened in the overflow, and stays there */
	__u16 closed;
};

const volatile bool targ_containers = false;

__u64 pass = 0;
__u64 opened = 0;
__u64 closed = 0;
__u64 failed = 0;
__u64 late = 0; /* closes that were told by the end of their socket */
__u64 left = 0; /* connections that went after their pod was selected no more */
__u64 lost = 0;
__u64 known = 0; /* connections that are open and were found so in one pass */

/* keeps the type in the object, where the map's keys have none */
const struct flow_series *flow_series_type;

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

static const struct flow no_flow;

/* those that have no room of their own; entered by user space beforehand */
static void overflow(struct flow_series *one)
{
	__u8 protocol = one->key.protocol, role = one->key.role;

	__builtin_memset(one, 0, sizeof(*one));
	one->key.protocol = protocol;
	one->key.role = role;
	one->key.overflow = 1;
}

static struct flow *find_or_make(struct flow_series *one)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, one);
	int error;

	if (flow)
		return flow;
	/* an int until Linux 6.4, whose upper half is not that of a negative long */
	error = bpf_map_update_elem(&flows, one, &no_flow, BPF_NOEXIST);
	if (error == -E2BIG)
		overflow(one);
	flow = bpf_map_lookup_elem(&flows, one);
	if (!flow)
		__sync_fetch_and_add(&lost, 1);
	return flow;
}

static struct flow *find_flow(const struct tcp_sock *tp, struct connection *conn)
{
	struct flow_series one = {};
	struct flow *flow;

	read_key(tp, conn->role, &one.key);
	if (targ_containers)
		one.cgroup = cgroup_of(tp);
	if (conn->overflow)
		overflow(&one);
	flow = find_or_make(&one);
	conn->overflow = one.key.overflow;
	return flow;
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

/* the socket was connected before, and let go by connect(AF_UNSPEC): TCP counts from zero again */
static void begin_again(struct connection *conn)
{
	conn->sent = conn->received = conn->retransmits = 0;
	conn->overflow = 0;
	conn->role = 0;
	conn->closed = 0;
}

static struct connection *track(struct tcp_sock *tp, __u32 role, bool begins)
{
	struct connection *conn;
	struct flow *flow;

	conn = bpf_sk_storage_get(&connections, tp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		__sync_fetch_and_add(&lost, 1);
		return NULL;
	}
	if (begins && conn->role)
		begin_again(conn);
	if (!__sync_bool_compare_and_swap(&conn->role, 0, role))
		return conn;
	__sync_fetch_and_add(&opened, 1);
	flow = find_flow(tp, conn);
	if (flow)
		__sync_fetch_and_add(&flow->opened, 1);
	return conn;
}

static void add_reason(__u64 *counts, __u32 reason)
{
	if (reason < REASONS)
		__sync_fetch_and_add(&counts[reason], 1);
}

static void close(struct tcp_sock *tp, int oldstate)
{
	/* without an error, and before a FIN was answered: this side has sent an RST */
	bool cut = oldstate == TCP_ESTABLISHED || oldstate == TCP_CLOSE_WAIT ||
		   oldstate == TCP_FIN_WAIT1;
	struct connection *conn;
	struct flow *flow;

	conn = bpf_sk_storage_get(&connections, tp, NULL, 0);
	if (!conn) /* it was opened while we were off */
		conn = track(tp, guess_role(tp), false);
	if (!conn || conn->closed)
		return;
	conn->closed = 1;
	__sync_fetch_and_add(&closed, 1);
	flow = find_flow(tp, conn);
	if (!flow)
		return;
	add_reason(flow->closed, reason_of(tp, cut ? REASON_RESET : REASON_NO_ERROR));
	count(flow, tp, conn);
}

/* a connection that was not made: nothing of its socket was counted, and nothing is kept of it */
static void count_failure(const struct tcp_sock *tp, __u32 role)
{
	struct flow_series one = {};
	struct flow *flow;

	__sync_fetch_and_add(&failed, 1);
	read_key(tp, role, &one.key);
	if (targ_containers)
		one.cgroup = cgroup_of(tp);
	flow = find_or_make(&one);
	if (flow)
		add_reason(flow->failed,
			   reason_of(tp, local_port(tp) ? REASON_ABORTED : REASON_NO_ADDRESS));
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int oldstate, int newstate)
{
	struct tcp_sock *tp;

	if (newstate != TCP_ESTABLISHED && newstate != TCP_CLOSE && newstate != TCP_LISTEN)
		return 0;
	if (oldstate == TCP_LISTEN || oldstate == newstate)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP || !in_scope(sk))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (newstate == TCP_LISTEN)
		note_listener(tp);
	else if (newstate == TCP_ESTABLISHED)
		track(tp, oldstate == TCP_SYN_SENT ? CLIENT : SERVER, true);
	else if (oldstate == TCP_SYN_SENT)
		count_failure(tp, CLIENT);
	else if (oldstate == TCP_SYN_RECV)
		count_failure(tp, SERVER);
	else
		close(tp, oldstate);
	return 0;
}

/*
 * A second look at connections that we know: their socket goes, and no close was told. A program
 * does not run where its CPU is in it already, and what is kept of a socket goes with it unsaid.
 * What even this one does not see is missing in the sum (harness/agent/unseen.py).
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(on_destroy, struct sock *sk)
{
	struct connection *conn = bpf_sk_storage_get(&connections, sk, NULL, 0);
	struct tcp_sock *tp;

	if (!conn || !conn->role || conn->closed)
		return 0;
	if (!in_scope(sk)) { /* its pod is selected no more: its close is not told */
		__sync_fetch_and_add(&left, 1);
		return 0;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	__sync_fetch_and_add(&late, 1);
	close(tp, TCP_CLOSE); /* in which state it was is not known any more */
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

	if (!sk || !conn || !conn->role || conn->closed)
		return 0;
	__sync_fetch_and_add(&known, 1);
	if (targ_selecting && !in_scope(sk)) /* its pod is selected no more */
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	flow = find_flow(tp, conn);
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

/* those of the network namespace in which this is read, listeners first: after being switched on */
SEC("iter/tcp")
int find_open(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tp;
	struct sock *sk;
	__u8 state;

	tp = common ? bpf_skc_to_tcp_sock(common) : NULL;
	if (!tp)
		return 0;
	sk = &tp->inet_conn.icsk_inet.sk;
	if (!in_scope(sk))
		return 0;
	state = sk->__sk_common.skc_state;
	if (state == TCP_LISTEN)
		note_listener(tp);
	else if (state != TCP_SYN_SENT && state != TCP_SYN_RECV && state != TCP_CLOSE)
		track(tp, chosen_to_connect(tp) ? CLIENT : guess_role(tp), false);
	return 0;
}

#include "flows_udp.bpf.h"
#include "flows_drops.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
