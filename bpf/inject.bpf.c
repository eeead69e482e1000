// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * inject: a known cost. Burns `targ_ns` for each TCP segment with payload that
 * leaves the processes of one cgroup, and adds up how long that really took.
 *
 * Sockets hand over up to 64 KiB at once, before segmentation: a response
 * that is written by one call is one event. Segments without payload (ACK,
 * SYN, FIN) pass untouched; what the cgroup's processes send as clients
 * counts as well, and so does what is sent again.
 *
 * The clock is the machine's: an interrupt within a burn counts as burnt, and
 * so does time in which a hypervisor ran another guest.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86DD
#define MAX_STEPS  (1 << 20) /* far more readings of the clock than 1 ms holds */

struct burnt {
	__u64 ns;
	__u64 events;
};

const volatile __u64 targ_ns;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct burnt);
} totals SEC(".maps");

static long wait(__u32 step, __u64 *until)
{
	return bpf_ktime_get_ns() >= *until;
}

/* IPv6 extension headers are not looked behind */
static __always_inline bool has_payload(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data;
	struct iphdr *ip = data;
	struct tcphdr *tcp;
	__u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return false;
		offset = ip->ihl * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end || ip6->nexthdr != IPPROTO_TCP)
			return false;
		offset = sizeof(*ip6);
	} else {
		return false;
	}
	tcp = data + offset;
	if ((void *)(tcp + 1) > end)
		return false;
	return skb->len > offset + tcp->doff * 4;
}

SEC("cgroup_skb/egress")
int burn(struct __sk_buff *skb)
{
	__u64 began, until, spent;
	struct burnt *total;
	__u32 key = 0;

	if (!has_payload(skb))
		return 1;
	/* without a burn the same steps: two versions differ in the burn alone */
	began = bpf_ktime_get_ns();
	until = began + targ_ns;
	bpf_loop(MAX_STEPS, wait, &until, 0);
	spent = bpf_ktime_get_ns() - began;
	total = bpf_map_lookup_elem(&totals, &key);
	if (total) {
		/* softirq may interrupt the same program on the same CPU */
		__sync_fetch_and_add(&total->ns, spent);
		__sync_fetch_and_add(&total->events, 1);
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
