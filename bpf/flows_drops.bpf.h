/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets for the cgroup's sockets that the kernel dropped, by its reason; for flows.bpf.c.
 *
 * Loaded only if that is asked for: the tracepoint is the whole host's. Since Linux 6.11 it tells
 * whose socket a received packet was for. What was dropped before that was known is nobody's.
 */
#pragma once

#define MAX_DROPS 1024

struct dropped {
	__u32 reason; /* enum skb_drop_reason, whose numbers are each kernel's own */
	__u8 protocol;
	__u8 unused[3];
	__u64 cgroup; /* of the socket; 0 unless targ_containers */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DROPS);
	__type(key, struct dropped);
	__type(value, __u64);
} drops SEC(".maps");

SEC("tp_btf/kfree_skb")
int BPF_PROG(on_drop, void *skb, void *location, int reason, struct sock *sk)
{
	struct dropped key = { .reason = reason };
	__u64 nothing = 0, *count;
	__u8 state;

	if (!sk)
		return 0;
	state = sk->__sk_common.skc_state;
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV) /* no whole sockets */
		return 0;
	key.protocol = sk->sk_protocol;
	if ((key.protocol != IPPROTO_TCP && key.protocol != IPPROTO_UDP) || !in_scope(sk))
		return 0;
	if (targ_containers)
		key.cgroup = sk->sk_cgrp_data.cgroup->kn->id;
	count = bpf_map_lookup_elem(&drops, &key);
	if (!count) {
		bpf_map_update_elem(&drops, &key, &nothing, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&drops, &key);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		__sync_fetch_and_add(&lost, 1);
	return 0;
}
