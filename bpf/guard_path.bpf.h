/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The path of an open file, or one that was spelled, and what a policy of paths says about it. */
#ifndef GUARD_PATH_BPF_H
#define GUARD_PATH_BPF_H

#define PATH_LEN    255 /* with the event type, a trie's longest key */
#define NAME_LEN    255
#define MAX_NAMES   2048
#define RAW_MASK    4095 /* PATH_MAX - 1 */
#define SLOTS_TRIED 8
#define ARGS_LEN    256
#define COMM_LEN    16

enum kind { EXEC = 1, OPEN = 2, CONNECT = 3, KINDS };
enum verdict { PASS, REPORT, DENY, VERDICTS };

struct rule {
	__u32 action;
	__u32 index; /* into user space's list of rules */
};

struct path_key {
	__u32 prefix_bits;
	__u8 kind;
	char path[PATH_LEN];
};

/* of an event: which of it is cut at its end, or without its beginning; no name leads there */
enum flag {
	CUT_PATH = 1,
	CUT_SCRIPT = 2,
	CUT_ARGS = 4,
	UNKNOWN_PATH = 8,
	UNKNOWN_SCRIPT = 16,
	UNLINKED = 32,
};

struct event {
	__u64 at_ns;
	__u64 cgroup; /* of the process; 0 unless targ_containers */
	__u64 program;
	__u32 kind;
	__u32 action;
	__u32 rule;
	__u32 pid;
	__u32 parent_pid;
	__u32 args_len;
	__u32 args_count;
	__u32 flags;
	char comm[COMM_LEN];
	char path[PATH_LEN + 1];
	char args[ARGS_LEN];	   /* of an execution only */
	char script[PATH_LEN + 1]; /* only where there is one */
};

/*
 * What a program works with, in a slot that is its own until it is done: it may be interrupted by
 * another one on its CPU. Paths are right-aligned, for names are found from the file to the root.
 */
struct scratch {
	__u64 busy;
	struct dentry *dentry;
	struct mount *mount;
	struct dentry *root; /* of the process, if names are taken back */
	struct mount *root_mount;
	__u64 start; /* here, for the verifier would follow it on the stack */
	__u64 whole; /* whether raw begins where the path does */
	__u64 ups;   /* how many names are taken back by a ".." behind them */
	__u64 from;  /* spelled[from] to spelled[at] are names that were not looked at */
	__u64 at;
	__u64 end;     /* of the name that spelled[at] is in */
	__u64 awaited; /* enum awaited */
	char raw[RAW_MASK + 1 + NAME_LEN + 1];
	char spelled[RAW_MASK + 1 + NAME_LEN + 1];
	struct path_key forward;
	struct path_key backward;
	struct path_key script;
	struct event event;
};

const volatile bool filter_suffixes = false;
/* by kind: what is done where a path is so long that its beginning is not known */
const volatile struct rule filter_unknown[KINDS] = {};
const volatile __u32 targ_slots = 1;

/* by kind and what was done; of what is lost, PASS is what could not even be judged */
__u64 decided[KINDS][VERDICTS] = {};
__u64 lost[KINDS][VERDICTS] = {};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct path_key);
	__type(value, struct rule);
} prefixes SEC(".maps"), suffixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* targ_slots */
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* NULL if all that were tried are taken */
static __always_inline struct scratch *claim(void)
{
	__u32 cpu = bpf_get_smp_processor_id(), slot, i;
	struct scratch *s;

	for (i = 0; i < SLOTS_TRIED; i++) {
		slot = (cpu + i) % targ_slots;
		s = bpf_map_lookup_elem(&scratches, &slot);
		if (s && !__sync_val_compare_and_swap(&s->busy, 0, 1))
			return s;
	}
	return NULL;
}

static __always_inline void release(struct scratch *s)
{
	__sync_val_compare_and_swap(&s->busy, 1, 0); /* orders what was written before */
}

static __always_inline bool prepend(struct scratch *s, __u32 len, const void *name)
{
	__u32 start = s->start;

	if (len > NAME_LEN || len + 1 > start)
		return false;
	start -= len + 1;
	s->raw[start & RAW_MASK] = '/';
	barrier_var(len); /* or clang drops the mask that Linux 6.1 asks for */
	bpf_probe_read_kernel(&s->raw[(start + 1) & RAW_MASK], len & NAME_LEN, name);
	s->start = start;
	return true;
}

static long prepend_name(__u32 step, struct scratch **scratch)
{
	struct scratch *s = *scratch;
	struct mount *mount = s->mount;
	struct dentry *dentry = s->dentry;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
	bool top = dentry == BPF_CORE_READ(mount, mnt.mnt_root);

	if (s->ups && dentry == s->root && mount == s->root_mount)
		s->ups = 0; /* no ".." leads out of there */
	if (top || dentry == parent) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount) {
			/* a file in no folder, as memfd_create makes it, has a name all the same */
			s->whole = top || prepend(s, BPF_CORE_READ(dentry, d_name.len),
						  BPF_CORE_READ(dentry, d_name.name));
			return 1;
		}
		if (!top) /* it was moved out of what is mounted: nobody can say to where */
			return 1;
		s->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		s->mount = above;
		return 0;
	}
	if (s->ups)
		s->ups--;
	else if (!prepend(s, BPF_CORE_READ(dentry, d_name.len), BPF_CORE_READ(dentry, d_name.name)))
		return 1;
	s->dentry = parent;
	return 0;
}

/* Puts the names from the root down to here before what raw has. */
static __always_inline void prepend_path(struct scratch *s, struct dentry *dentry,
					 struct vfsmount *mnt)
{
	s->dentry = dentry;
	s->mount = container_of(mnt, struct mount, mnt);
	s->whole = false;
	bpf_loop(MAX_NAMES, prepend_name, &s, 0);
}

/* where the path begins is left in start; it ends before raw[RAW_MASK] */
static __always_inline void read_path(struct scratch *s, const struct path *path)
{
	s->start = RAW_MASK;
	s->ups = 0;
	prepend_path(s, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt));
}

static __always_inline struct rule stricter(struct rule one, const struct rule *other)
{
	return other && other->action > one.action ? *other : one;
}

/* Judges what raw has; as much of it as fits is left in `key`. */
static __always_inline struct rule decide(struct scratch *s, struct path_key *key, __u8 kind)
{
	__u32 start = s->start;
	__u32 len = (RAW_MASK - start) & RAW_MASK;
	struct rule rule = {};

	if (!s->whole) {
		rule.action = filter_unknown[kind].action;
		rule.index = filter_unknown[kind].index;
	}
	if (len > PATH_LEN)
		len = PATH_LEN;
	__builtin_memset(key, 0, sizeof(*key));
	key->kind = kind;
	key->prefix_bits = 8 * (1 + PATH_LEN);
	barrier_var(len);
	bpf_probe_read_kernel(key->path, len & PATH_LEN, &s->raw[start & RAW_MASK]);
	if (s->whole)
		rule = stricter(rule, bpf_map_lookup_elem(&prefixes, key));
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
