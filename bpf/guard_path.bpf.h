/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The path of an open file, and what a policy of paths says about it. */
#ifndef GUARD_PATH_BPF_H
#define GUARD_PATH_BPF_H

#define PATH_LEN  255 /* with the event type, a trie's longest key */
#define NAME_LEN  255
#define MAX_NAMES 2048
#define RAW_MASK  4095 /* PATH_MAX - 1 */

enum verdict { PASS, REPORT, DENY };

struct rule {
	__u32 action;
	__u32 index; /* into user space's list of rules */
};

struct path_key {
	__u32 prefix_bits;
	__u8 kind;
	char path[PATH_LEN];
};

/* right-aligned, because names are found from the file up to the root */
struct scratch {
	struct dentry *dentry;
	struct mount *mount;
	__u64 start; /* here, for the verifier would follow it on the stack */
	char raw[RAW_MASK + 1 + NAME_LEN + 1];
	struct path_key forward;
	struct path_key backward;
};

const volatile bool filter_suffixes = false;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_key);
	__type(value, struct rule);
} prefixes SEC(".maps"), suffixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static long prepend_name(__u32 step, struct scratch **scratch)
{
	struct scratch *s = *scratch;
	struct mount *mount = s->mount;
	struct dentry *dentry = s->dentry;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
	__u32 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name;
	__u32 start = s->start;

	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root) || dentry == parent) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount)
			return 1;
		s->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		s->mount = above;
		return 0;
	}
	if (len > NAME_LEN || len + 1 > start)
		return 1;
	start -= len + 1;
	s->raw[start & RAW_MASK] = '/';
	name = BPF_CORE_READ(dentry, d_name.name);
	barrier_var(len); /* or clang drops the mask that Linux 6.1 asks for */
	bpf_probe_read_kernel(&s->raw[(start + 1) & RAW_MASK], len & NAME_LEN, name);
	s->start = start;
	s->dentry = parent;
	return 0;
}

/* where the path begins in raw; it ends before raw[RAW_MASK] */
static __u32 read_path(struct scratch *s, const struct path *path)
{
	struct vfsmount *mnt = BPF_CORE_READ(path, mnt);

	s->dentry = BPF_CORE_READ(path, dentry);
	s->mount = container_of(mnt, struct mount, mnt);
	s->start = RAW_MASK;
	bpf_loop(MAX_NAMES, prepend_name, &s, 0);
	return s->start;
}

static struct rule stricter(struct rule one, const struct rule *other)
{
	return other && other->action > one.action ? *other : one;
}

/* The path is at raw[start]; as much of it as fits is left in forward.path. */
static struct rule decide(struct scratch *s, __u32 start, __u8 kind)
{
	__u32 len = (RAW_MASK - start) & RAW_MASK;
	struct rule rule = {};

	if (len > PATH_LEN)
		len = PATH_LEN;
	__builtin_memset(&s->forward, 0, sizeof(s->forward));
	s->forward.kind = kind;
	s->forward.prefix_bits = 8 * (1 + PATH_LEN);
	barrier_var(len);
	bpf_probe_read_kernel(s->forward.path, len & PATH_LEN, &s->raw[start & RAW_MASK]);
	rule = stricter(rule, bpf_map_lookup_elem(&prefixes, &s->forward));
	if (!filter_suffixes)
		return rule;
	__builtin_memset(&s->backward, 0, sizeof(s->backward));
	s->backward.kind = kind;
	s->backward.prefix_bits = 8 * (1 + PATH_LEN);
	for (__u32 i = 0; i < PATH_LEN && i < len; i++)
		s->backward.path[i] = s->raw[RAW_MASK - 1 - i];
	return stricter(rule, bpf_map_lookup_elem(&suffixes, &s->backward));
}

#endif
