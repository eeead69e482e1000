/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* where in a packet its TCP or UDP header is, and whose it is; for http, flows and inject */
#pragma once

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86DD
#define HOP_BY_HOP 0 /* headers of IPv6, before that of the transport */
#define ROUTING	   43
#define OPTIONS	   60
#define EXTENSIONS 4 /* of them, at most */
#define FARTHEST   2048

/* where it is behind the extension headers of IPv6; 0 if there is none */
__noinline __u32 behind_extensions(struct __sk_buff *skb, __u32 next, __u32 protocol)
{
	__u32 i, offset = sizeof(struct ipv6hdr);
	struct {
		__u8 next;
		__u8 words; /* of 8 bytes, without the first */
	} header;

	for (i = 0; i < EXTENSIONS; i++) {
		if (next != HOP_BY_HOP && next != ROUTING && next != OPTIONS)
			return 0;
		if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)))
			return 0;
		next = header.next;
		offset += (header.words + 1) * 8;
		if (next == protocol)
			return offset;
	}
	return 0;
}

/* where the header of this protocol is, at most FARTHEST; 0 in a packet of another one */
static __always_inline __u32 transport_at(struct __sk_buff *skb, __u32 protocol)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data;
	struct iphdr *ip = data;
	__u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end || ip->protocol != protocol)
			return 0;
		return ip->ihl * 4;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || (void *)(ip6 + 1) > end)
		return 0;
	if (ip6->nexthdr == protocol)
		return sizeof(*ip6);
	offset = behind_extensions(skb, ip6->nexthdr, protocol);
	return offset <= FARTHEST ? offset : 0;
}

/* the ends' addresses, each into 16 bytes that were zero, or into none; IPv4 ones are mapped */
static __always_inline void addresses_of(struct __sk_buff *skb, __u8 *source, __u8 *destination)
{
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (source)
			bpf_skb_load_bytes(skb, 8, source, 16);
		if (destination)
			bpf_skb_load_bytes(skb, 24, destination, 16);
		return;
	}
	if (source) {
		source[10] = source[11] = 0xff;
		bpf_skb_load_bytes(skb, 12, source + 12, 4);
	}
	if (destination) {
		destination[10] = destination[11] = 0xff;
		bpf_skb_load_bytes(skb, 16, destination + 12, 4);
	}
}
