/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a TCP socket tells by itself: whose it is, who began its connection, with whom, why it
 * ended; for flows.bpf.c. Loads where the verifier knows the type, which cost less than helpers.
 */
#pragma once

#define AF_INET6	 10
#define EPIPE		 32
#define ENETUNREACH	 101
#define ECONNABORTED	 103
#define ECONNRESET	 104
#define ETIMEDOUT	 110
#define ECONNREFUSED	 111
#define EHOSTUNREACH	 113
#define MAX_CGROUP_DEPTH 32

/* numbers of ports are a network namespace's own */
struct listening_on {
	__u32 netns;
	__u16 port;
	__u16 unused;
};

const volatile __u16 targ_ephemeral = 32768; /* ports from here on are mostly clients' */

__u64 targ_cgroup = 0; /* another one when the cgroup is made anew */

/* ports that the cgroup listens on: tells accepted from made connections */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct listening_on);
	__type(value, __u8);
} listening SEC(".maps");

static bool in_scope(const struct sock *sk)
{
	const struct cgroup *cgroup = sk->sk_cgrp_data.cgroup;

	if (targ_selecting && cgroup && !is_selected(cgroup->kn->id))
		return false;
	for (int depth = 0; depth < MAX_CGROUP_DEPTH && cgroup; depth++) {
		const struct cgroup_subsys_state *parent;

		if (cgroup->kn->id == targ_cgroup)
			return true;
		parent = cgroup->self.parent;
		cgroup = parent ? parent->cgroup : NULL;
	}
	return false;
}

/* skc_num is gone already when a socket closes */
static __u16 local_port(const struct tcp_sock *tp)
{
	return bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
}

static struct listening_on listener_at(const struct tcp_sock *tp, __u16 port)
{
	struct listening_on at = { .port = port };

	at.netns = tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net->ns.inum;
	return at;
}

static void note_listener(const struct tcp_sock *tp)
{
	/* inet_sport is not set yet */
	struct listening_on at = listener_at(tp, tp->inet_conn.icsk_inet.sk.__sk_common.skc_num);
	__u8 yes = 1;

	bpf_map_update_elem(&listening, &at, &yes, BPF_ANY);
}

/* who began a connection whose opening was not seen */
static __u32 guess_role(const struct tcp_sock *tp)
{
	__u16 peer = bpf_ntohs(tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport);
	__u16 local = local_port(tp);
	struct listening_on at = listener_at(tp, local);

	if (bpf_map_lookup_elem(&listening, &at))
		return SERVER;
	if (local < targ_ephemeral && peer >= targ_ephemeral)
		return SERVER;
	return local >= targ_ephemeral && peer < targ_ephemeral ? CLIENT : UNKNOWN_ROLE;
}

/* a port that the kernel chose for a connect is nobody's who listens; gone when a socket closes */
static bool chosen_to_connect(const struct tcp_sock *tp)
{
	const struct inet_bind_bucket *bound = tp->inet_conn.icsk_bind_hash;

	return bound && bound->fastreuse < 0;
}

static void read_ipv4(__u8 *address, __be32 from)
{
	address[10] = address[11] = 0xff;
	__builtin_memcpy(&address[12], &from, sizeof(from));
}

static void read_ipv6(__u8 *address, const struct in6_addr *from)
{
	for (int i = 0; i < 4; i++) {
		__be32 part = from->in6_u.u6_addr32[i];

		__builtin_memcpy(&address[4 * i], &part, sizeof(part));
	}
}

static void read_key(const struct tcp_sock *tp, __u32 role, struct flow_key *key)
{
	const struct sock_common *common = &tp->inet_conn.icsk_inet.sk.__sk_common;

	key->protocol = IPPROTO_TCP;
	key->role = role;
	if (role == SERVER)
		key->port = local_port(tp);
	else if (role == CLIENT)
		key->port = bpf_ntohs(common->skc_dport);
	if (common->skc_family == AF_INET6) {
		read_ipv6(key->peer, &common->skc_v6_daddr);
		read_ipv6(key->local, &common->skc_v6_rcv_saddr);
	} else {
		read_ipv4(key->peer, common->skc_daddr);
		read_ipv4(key->local, common->skc_rcv_saddr);
	}
}

static __u64 cgroup_of(const struct tcp_sock *tp)
{
	return tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id;
}

/* what sk_err says, which the kernel sets before the state; else what the state says */
static __u32 reason_of(const struct tcp_sock *tp, __u32 otherwise)
{
	int error = tp->inet_conn.icsk_inet.sk.sk_err;

	if (!error)
		return otherwise;
	if (error == ECONNREFUSED)
		return REASON_REFUSED;
	if (error == ECONNRESET || error == EPIPE) /* EPIPE: after the peer's FIN */
		return REASON_RESET;
	if (error == ETIMEDOUT)
		return REASON_TIMED_OUT;
	if (error == EHOSTUNREACH || error == ENETUNREACH)
		return REASON_UNREACHABLE;
	return error == ECONNABORTED ? REASON_ABORTED : REASON_OTHER;
}
