// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: what one packet carries: its TCP payload, the head of a message in that, whose it is */
#ifndef __HTTP_PACKET_BPF_H
#define __HTTP_PACKET_BPF_H

#include "packet.bpf.h"

#define SHORTEST 16 /* bytes of a message, of which its method takes 8 at most */

struct http_segment {
	__u32 offset;
	__u32 len;
	__u32 seq;
	__u32 ack;
	__u16 source;
	__u16 dest;
	__u32 fin; /* whether nothing follows; no padding: before 6.3 all of it has to be written */
};
_Static_assert(sizeof(struct http_segment) == 24, "a global function's argument has no holes");

/* false for what carries no TCP payload */
static __always_inline bool parse(struct __sk_buff *skb, struct http_segment *seg)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 offset = transport_at(skb, IPPROTO_TCP);
	struct tcphdr *tcp;

	if (!offset)
		return false;
	tcp = data + offset;
	if ((void *)(tcp + 1) > end)
		return false;
	offset += tcp->doff * 4;
	if (skb->len <= offset)
		return false;
	seg->offset = offset;
	seg->len = skb->len - offset;
	seg->seq = bpf_ntohl(tcp->seq) + tcp->syn; /* data in a SYN come behind it */
	seg->ack = bpf_ntohl(tcp->ack_seq);
	seg->source = bpf_ntohs(tcp->source);
	seg->dest = bpf_ntohs(tcp->dest);
	seg->fin = tcp->fin;
	return true;
}

/* read a message, or the next part of one; false if it is too short for a head */
static __always_inline bool read(struct __sk_buff *skb, __u32 offset, __u32 len,
				 struct http_head *head)
{
	__u64 n = len < MESSAGE ? len : MESSAGE;

	barrier_var(n);				  /* the compiler would check `len`, and load `n` */
	__builtin_memset(head->text, 0, MESSAGE); /* older verifiers ask for it */
	if (n < SHORTEST)
		return false;
	barrier_var(n); /* the compiler would make both checks one, which Linux 6.1 cannot follow */
	if (n > MESSAGE || bpf_skb_load_bytes(skb, offset, head->text, n))
		return false;
	head->n = n;
	return true;
}

/*
 * header() of what was read of a message, and of up to `parts` parts of the `len` bytes that are
 * here; a function of its own, as those in http_message.bpf.h.
 */
__noinline __u32 header_of(struct __sk_buff *skb, struct http_head *head, __u32 offset, __u32 len,
			   __u32 parts)
{
	__u32 i, end;

	if (!head)
		return 0;
	head->length = UNKNOWN;
	end = header(head);
	for (i = 1; i < WINDOWS; i++) {
		if (end || i >= parts || len <= i * STEP + MESSAGE - LINE - 8 - STEP)
			break;
		if (!read(skb, offset + i * STEP, len - i * STEP, head))
			break;
		end = header(head);
		if (end)
			end += i * STEP;
	}
	return end;
}

static __always_inline bool is_response(struct http_head *head)
{
	return (WORD(head->text) & FIRST(7)) == (WORD("HTTP/1. ") & FIRST(7));
}

static __always_inline void keep_target(struct __sk_buff *skb, __u32 offset, __u32 len,
					char *target)
{
	__u64 n = len < TARGET ? len : TARGET;

	barrier_var(n); /* as in read(), which has found SHORTEST bytes in this segment */
	__builtin_memset(target, 0, TARGET); /* nothing of the request before may stay */
	if (n < SHORTEST - 8)
		return;
	barrier_var(n);
	if (n <= TARGET)
		bpf_skb_load_bytes(skb, offset, target, n);
}

#endif
