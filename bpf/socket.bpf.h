/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* whose a packet is, as programs of cgroups are run for it; for http and flows */
#pragma once

#define SOCK_RAW 3

/*
 * NULL for none, and for a raw one: that has copies of what others receive, those outside its
 * cgroup among them, and sends what may only look like TCP or UDP.
 */
static __always_inline struct bpf_sock *socket_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk && sk->type != SOCK_RAW ? sk : NULL;
}
