/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * UDP datagrams of one cgroup by role, port, peer and local address, QUIC's among them; for
 * flows.bpf.c, whose maps they are counted in.
 *
 * Loaded only if that is asked for: a cgroup's packet programs run for each of its packets,
 * those of TCP among them.
 */
#pragma once

#include "packet.bpf.h"
#include "socket.bpf.h"

/* nothing is known of a socket's past: it is told by the ports, else by whether it is connected */
static __always_inline __u32 udp_role(__u16 local, __u16 peer, bool connected)
{
	if (local < targ_ephemeral && peer >= targ_ephemeral)
		return SERVER;
	if (local >= targ_ephemeral && peer < targ_ephemeral)
		return CLIENT;
	return connected ? CLIENT : UNKNOWN_ROLE;
}

static __always_inline int count_datagrams(struct __sk_buff *skb, bool sends)
{
	struct flow_series one = {};
	struct udphdr udp;
	__u16 local, peer;
	__u64 datagrams, bytes;
	struct bpf_sock *sk;
	struct flow *flow;
	__u32 offset = transport_at(skb, IPPROTO_UDP);

	if (!offset)
		return 1;
	sk = socket_of(skb);
	if (!sk)
		return 1;
	if (targ_selecting && !is_selected(bpf_skb_cgroup_id(skb)))
		return 1;
	if (bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
		return 1;
	addresses_of(skb, sends ? one.key.local : one.key.peer,
		     sends ? one.key.peer : one.key.local);
	local = bpf_ntohs(sends ? udp.source : udp.dest);
	peer = bpf_ntohs(sends ? udp.dest : udp.source);
	one.key.protocol = IPPROTO_UDP;
	one.key.role = udp_role(local, peer, sk->state == TCP_ESTABLISHED);
	if (one.key.role != UNKNOWN_ROLE)
		one.key.port = one.key.role == SERVER ? local : peer;
	if (targ_containers)
		one.cgroup = bpf_skb_cgroup_id(skb);
	flow = find_or_make(&one);
	if (!flow)
		return 1;
	datagrams = skb->gso_segs > 1 ? skb->gso_segs : 1; /* sent or received as one */
	bytes = skb->len - offset - sizeof(udp);
	__sync_fetch_and_add(sends ? &flow->sent : &flow->received, bytes);
	__sync_fetch_and_add(sends ? &flow->datagrams_sent : &flow->datagrams_received, datagrams);
	return 1;
}

SEC("cgroup_skb/ingress")
int udp_ingress(struct __sk_buff *skb)
{
	return count_datagrams(skb, false);
}

SEC("cgroup_skb/egress")
int udp_egress(struct __sk_buff *skb)
{
	return count_datagrams(skb, true);
}
