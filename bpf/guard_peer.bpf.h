/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whom a process of the cgroup connects or sends to, and what a policy of networks says about it;
 * for guard.bpf.c, which has whose it is and what is told. */
#ifndef GUARD_PEER_BPF_H
#define GUARD_PEER_BPF_H

#include "guard_path.bpf.h"

struct address_key {
	__u32 prefix_bits;
	__u8 address[16]; /* IPv4 is v4-mapped */
};

struct peer {
	__u32 pid;
	__u16 port;
	__u8 protocol;
	__u8 denied;
	union {
		__u8 address[16];
		__u32 words[4];
	};
	char comm[COMM_LEN];
};

struct connects {
	__u64 count;
	__u64 first_ns;
	__u64 cgroup;
	__u64 program; /* that connected first */
	__u32 rule;
	__u32 parent_pid;
};

/* processes to kill that found `condemned` full; what they did was denied */
__u64 spared = 0;

/* pids to kill, for hooks that cannot send signals; wakes its reader */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} condemned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_key);
	__type(value, struct rule);
} addresses SEC(".maps");

/*
 * Emptied by user space. Who counts in an entry while it is taken away may count in what the kernel
 * makes of it next.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer);
	__type(value, struct connects);
} peers SEC(".maps");

/* Who asks for no address gets the machine's own; for :: it depends on the socket which one. */
static struct rule judge_peer(struct peer *peer)
{
	struct address_key key = { .prefix_bits = 128 };
	bool nowhere = !(peer->words[0] | peer->words[1] | peer->words[3]);
	struct rule rule = {};

	if (nowhere && !peer->words[2]) {
		key.address[10] = key.address[11] = 0xff;
		key.address[12] = 127;
		key.address[15] = 1;
		rule = stricter(rule, bpf_map_lookup_elem(&addresses, &key));
		peer->words[3] = bpf_htonl(1);
	} else if (nowhere && peer->words[2] == bpf_htonl(0xffff)) {
		peer->words[3] = bpf_htonl(0x7f000001);
	}
	__builtin_memcpy(key.address, peer->address, sizeof(key.address));
	return stricter(rule, bpf_map_lookup_elem(&addresses, &key));
}

static void count_connect(struct peer *peer, struct rule rule)
{
	struct connects *found = bpf_map_lookup_elem(&peers, peer);
	struct connects first = {
		.count = 1,
		.first_ns = bpf_ktime_get_ns(),
		.cgroup = own_cgroup(),
		.program = own_program(),
		.rule = rule.index,
		.parent_pid = parent_pid(),
	};

	count(decided, CONNECT, rule.action);
	if (found)
		__sync_fetch_and_add(&found->count, 1);
	else if (bpf_map_update_elem(&peers, peer, &first, BPF_ANY))
		count(lost, CONNECT, rule.action);
}

/* 1 lets it pass, 0 denies it with EPERM */
static int on_peer(struct bpf_sock_addr *ctx, struct peer *peer)
{
	/*
	 * Resolvers do so, who send nothing; others may. TCP sends to port 0 as to any other, and
	 * ping sockets have no ports.
	 */
	bool asks_for_a_route = !ctx->user_port && ctx->protocol == IPPROTO_UDP;
	struct rule rule;
	__u32 pid;

	if (!is_seen())
		return 1;
	rule = judge_peer(peer);
	if (rule.action == PASS || (asks_for_a_route && rule.action != DENY))
		return 1;
	pid = peer->pid = own_pid();
	peer->port = bpf_ntohs(ctx->user_port);
	peer->protocol = ctx->protocol;
	peer->denied = rule.action == DENY;
	bpf_get_current_comm(peer->comm, sizeof(peer->comm));
	count_connect(peer, rule);
	if (rule.action != DENY)
		return 1;
	if (!asks_for_a_route &&
	    bpf_ringbuf_output(&condemned, &pid, sizeof(pid), BPF_RB_FORCE_WAKEUP))
		__sync_fetch_and_add(&spared, 1);
	return 0;
}

static int on_peer4(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};

	peer.words[2] = bpf_htonl(0xffff);
	peer.words[3] = ctx->user_ip4;
	return on_peer(ctx, &peer);
}

static int on_peer6(struct bpf_sock_addr *ctx)
{
	struct peer peer = {
		.words = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] },
	};

	return on_peer(ctx, &peer);
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	return on_peer4(ctx);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	return on_peer6(ctx);
}

/*
 * Datagrams of sockets that are not connected to where these go. Without a port none is named: it
 * goes where its socket is connected to, and has options of its own.
 */
SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	return ctx->user_port ? on_peer4(ctx) : 1;
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	return ctx->user_port ? on_peer6(ctx) : 1;
}

#endif
