/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whom a process of the cgroup connects or sends to, and what a policy of networks says about it.
 */
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

#endif
