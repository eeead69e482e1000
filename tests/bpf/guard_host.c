// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/guard.bpf.c compiled for this machine: test_guard_execution.py lets it judge executions of
 * processes that there never were.
 *
 *   guard_host POLICY CASES ANSWERS    files; guard_worlds.py writes the first two
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guard_kernel.h"

static struct mm_struct mm;
static struct fs_struct fs;
static struct fdtable fdtable;
static struct files_struct files = { .fdt = &fdtable };
static struct task_struct current_task = { .pid = 7, .tgid = 7, .mm = &mm, .fs = &fs, .files = &files };
static bool faults;
static __u32 sent;

static void *found_in(void *map, void *key);
static long put(void *map, void *record, __u64 size);
static long kept(void *key, void *value);

#define bpf_get_current_task()		    (&current_task)
#define bpf_get_current_cgroup_id()	    0
#define bpf_get_smp_processor_id()	    0
#define bpf_ktime_get_ns()		    1
#define bpf_get_current_comm(to, size)	    memset(to, 0, size)
#define bpf_current_task_under_cgroup(m, i) ((void)(m), 1)
#define bpf_send_signal(number)		    (sent = (number))
#define bpf_map_lookup_elem(map, key)	    found_in((void *)(map), (void *)(key))
#define bpf_map_update_elem(map, key, v, f) kept((void *)(key), (void *)(v))
#define bpf_ringbuf_output(map, from, n, f) ((void)(f), put((void *)(map), from, n))
#define bpf_ringbuf_query(map, what)	    ((void)(map), (what) == BPF_RB_RING_SIZE ? 4096 : 0)
#define bpf_core_read(to, n, from)	    memcpy(to, from, n)
#define bpf_loop(n, turn, context, flags)                                                          \
	do {                                                                                       \
		for (__u32 turns = 0; turns < (n); turns++)                                        \
			if (turn(turns, context))                                                  \
				break;                                                             \
	} while (0)

static long bpf_probe_read_kernel(void *to, __u32 n, void *from)
{
	memcpy(to, from, n);
	return 0;
}

static long bpf_probe_read_user(void *to, __u32 n, void *from)
{
	memset(to, 0, n); /* the kernel does so where it cannot read */
	if (faults)
		return -14;
	memcpy(to, from, n);
	return 0;
}

static long bpf_probe_read_kernel_str(void *to, __u32 n, void *from)
{
	size_t len = strnlen(from, n - 1);

	memcpy(to, from, len);
	((char *)to)[len] = '\0';
	return len + 1;
}

static long bpf_probe_read_user_str(void *to, __u32 n, void *from)
{
	return faults ? -14 : bpf_probe_read_kernel_str(to, n, from);
}

/* what user space sets before programs are loaded is set here by main() */
#define const
#include "guard.bpf.c"
#undef const

struct entry {
	struct path_key key;
	struct rule rule;
};

static struct entry *tries[2]; /* of prefixes, of suffixes */
static __u32 lengths[2];
static struct scratch scratch; /* of all cases: what one leaves there must not matter to the next */
static FILE *from, *answers;

struct answer {
	__u32 size; /* of the event, 0 if there was none */
	__u32 signal;
	struct event event;
} answer;

/* as an LPM trie: of the entries that the key begins with, the longest */
static void *longest(__u32 trie, struct path_key *key)
{
	struct entry *found = NULL;

	for (__u32 i = 0; i < lengths[trie]; i++) {
		struct entry *each = &tries[trie][i];

		if (memcmp(&each->key.kind, &key->kind, each->key.prefix_bits / 8))
			continue;
		if (!found || each->key.prefix_bits > found->key.prefix_bits)
			found = each;
	}
	return found ? &found->rule : NULL;
}

static void *found_in(void *map, void *key)
{
	if (map == &scratches)
		return &scratch;
	if (map == &prefixes)
		return longest(0, key);
	return map == &suffixes ? longest(1, key) : NULL;
}

static long put(void *map, void *record, __u64 size)
{
	if (map == &ring) {
		memcpy(&answer.event, record, size);
		answer.size = size;
	}
	return 0;
}

static long kept(void *key, void *value)
{
	return 0; /* what ended, and peers: nobody asks here */
}

static void *taken(size_t n)
{
	void *room = malloc(n ? n : 1);

	if (!room || fread(room, 1, n, from) != n)
		exit(3);
	return room;
}

static __u32 number(void)
{
	__u32 *read = taken(sizeof(*read)), value = *read;

	free(read);
	return value;
}

/* so many bytes as are told before them, and nothing behind them */
static void *text(__u32 *len)
{
	*len = number();
	return taken(*len);
}

/* of a file: the kernel has a NUL behind it, and 32 bytes for the shorter ones */
static unsigned char *name(__u32 *len)
{
	char *read = text(len);
	unsigned char *found = malloc(*len < 31 ? 32 : *len + 1);

	memcpy(found, read, *len);
	found[*len] = '\0';
	free(read);
	return found;
}

static struct path path_in(struct mount *mounts, struct dentry *dentries)
{
	struct mount *mount = &mounts[number()];

	return (struct path){ &mount->mnt, &dentries[number()] };
}

static void judge(void)
{
	__u32 named = number(), mounted, opened, len, i;
	struct dentry *dentries = calloc(named, sizeof(*dentries));
	struct linux_binprm bprm = {};
	struct mount *mounts;
	struct inode inode;
	struct file *open, file = { .f_inode = &inode };

	for (i = 0; i < named; i++) {
		dentries[i].d_parent = &dentries[number()];
		dentries[i].d_name.name = name(&dentries[i].d_name.len);
	}
	mounted = number();
	mounts = calloc(mounted, sizeof(*mounts));
	for (i = 0; i < mounted; i++) {
		mounts[i].mnt_parent = &mounts[number()];
		mounts[i].mnt_mountpoint = &dentries[number()];
		mounts[i].mnt.mnt_root = &dentries[number()];
	}
	fs.root = path_in(mounts, dentries);
	fs.pwd = path_in(mounts, dentries);
	file.f_path = path_in(mounts, dentries);
	inode.i_nlink = number();
	opened = number();
	open = calloc(opened + 1, sizeof(*open));
	fdtable.max_fds = opened;
	fdtable.fd = calloc(opened + 1, sizeof(*fdtable.fd));
	for (i = 0; i < opened; i++) {
		__u32 mount = number(), dentry = number();

		if (mount >= mounted) /* it is closed */
			continue;
		open[i].f_path = (struct path){ &mounts[mount].mnt, &dentries[dentry] };
		fdtable.fd[i] = &open[i];
	}
	bprm.file = &file;
	bprm.filename = text(&len);
	bprm.interp = number() ? bprm.filename + len - 1 : bprm.filename; /* another one: a script */
	mm.arg_start = (unsigned long)text(&len);
	mm.arg_end = mm.arg_start + len;
	bprm.argc = number();
	faults = number();

	memset(&answer, 0, sizeof(answer));
	sent = 0;
	called_on_exec(&current_task, 7, &bprm);
	answer.signal = sent;
	if (scratch.busy || fwrite(&answer, sizeof(answer), 1, answers) != 1)
		exit(4);

	free((void *)mm.arg_start);
	free(bprm.filename);
	free(fdtable.fd);
	free(open);
	free(mounts);
	for (i = 0; i < named; i++)
		free(dentries[i].d_name.name);
	free(dentries);
}

static FILE *opened(char *name, char *mode)
{
	FILE *file = fopen(name, mode);

	if (!file)
		exit(2);
	return file;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	from = opened(argv[1], "rb");
	for (__u32 i = 0; i < 2; i++) {
		lengths[i] = number();
		tries[i] = taken(lengths[i] * sizeof(struct entry));
	}
	filter_suffixes = lengths[1] > 0;
	filter_unknown[EXEC].action = number();
	filter_unknown[EXEC].index = number();
	current_task.real_parent = current_task.group_leader = &current_task;
	fclose(from);

	from = opened(argv[2], "rb");
	answers = opened(argv[3], "wb");
	for (__u32 left = number(); left; left--)
		judge();
	fclose(from);
	free(tries[0]);
	free(tries[1]);
	return fclose(answers) ? 4 : 0;
}
