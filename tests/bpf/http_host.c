// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What reads packets and messages in bpf/http_*.bpf.h, compiled for this machine:
 * test_http_message.py calls it with many more of them than a kernel could be given.
 */
#include <arpa/inet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#undef __always_inline
#undef __noinline
#define __always_inline inline __attribute__((always_inline))
#define __noinline	__attribute__((noinline))
#define barrier_var(x)	((void)(x))
#define bpf_htons	htons
#define bpf_htonl	htonl
#define bpf_ntohs	ntohs
#define bpf_ntohl	ntohl

struct __sk_buff {
	unsigned long data, data_end; /* as wide as pointers are here */
	__u32 len, protocol;
};

static long bpf_skb_load_bytes(const struct __sk_buff *skb, __u32 offset, void *to, __u32 n)
{
	if (offset > skb->len || n > skb->len - offset)
		return -14;
	memcpy(to, (const char *)skb->data + offset, n);
	return 0;
}

#include "http.h"
#include "http_message.bpf.h"
#include "http_packet.bpf.h"

struct told {
	__u64 length;
	__u32 method;
	__u32 target;
	__u32 end;
	__u32 line;
	__u32 version;
	__u32 chunked;
	char route[ROUTE];
};

/* what the programs find in a message at the start of a segment; false for no request */
bool request(const char *message, __u32 n, __u32 parts, struct told *told)
{
	struct __sk_buff skb = { (unsigned long)message, (unsigned long)message + n, n, 0 };
	struct http_head head = {};
	struct http_key key = {};
	__u32 found;
	__u64 word;

	if (bpf_skb_load_bytes(&skb, 0, &word, sizeof(word)))
		return false;
	found = method_in(word);
	if (!found || !read(&skb, 0, n, &head))
		return false;
	told->method = (__u8)found;
	head.target = told->method == M_OTHER ? other_method(&head) : found >> 8;
	if (!head.target)
		return false;
	told->target = head.target;
	route_of(&key, &head);
	memcpy(told->route, key.route, ROUTE);
	told->end = header_of(&skb, &head, 0, n, parts);
	told->length = head.length;
	told->line = head.line > 0;
	told->version = head.version;
	told->chunked = head.chunked;
	return true;
}

/* where a packet's payload starts, 0 if it has none */
__u32 payload(const char *packet, __u32 n, __u32 protocol)
{
	struct __sk_buff skb = { (unsigned long)packet, (unsigned long)packet + n, n,
				 htons(protocol) };
	struct http_segment segment;

	return parse(&skb, &segment) ? segment.offset : 0;
}

/* where the header of a transport is, 0 if there is none; the ends' addresses of what has one */
__u32 transport(const char *packet, __u32 n, __u32 protocol, __u32 wanted, __u8 *ends)
{
	struct __sk_buff skb = { (unsigned long)packet, (unsigned long)packet + n, n,
				 htons(protocol) };
	__u32 found = transport_at(&skb, wanted);

	if (found)
		addresses_of(&skb, ends, ends + 16);
	return found;
}
