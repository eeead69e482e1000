/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The path of a script, or of what a dynamic loader was told to start: as it was spelled. */
#ifndef GUARD_SCRIPT_BPF_H
#define GUARD_SCRIPT_BPF_H

#include "guard_path.bpf.h"

#define DEV_FD	   0x2f64662f7665642fULL /* "/dev/fd/", as little-endian machines have it */
#define DEV_FD_LEN 8
#define FD_DIGITS  7

/* what the next argument of a loader is */
enum awaited {
	ANY,
	VALUE,	 /* of the option before it */
	STARTED, /* whatever it looks like: a "--" has ended the options */
};

/* The name from spelled[first] to spelled[end] goes before what raw has; false without room. */
static __always_inline bool take_name(struct scratch *s, __u32 first, __u32 end)
{
	const char *name = &s->spelled[first & RAW_MASK];
	__u32 len = end - first;

	if (!len || (len == 1 && name[0] == '.'))
		return true;
	if (len == 2 && name[0] == '.' && name[1] == '.')
		s->ups++;
	else if (s->ups)
		s->ups--;
	else
		return prepend(s, len, name);
	return true;
}

/* one byte of spelled, from its end: names are taken where their slash is */
static long prepend_spelled(__u32 step, struct scratch **scratch)
{
	struct scratch *s = *scratch;
	__u32 at = s->at, from = s->from, end = s->end;

	if (at > from && s->spelled[(at - 1) & RAW_MASK] != '/') {
		s->at = at - 1;
		return 0;
	}
	if (!take_name(s, at, end))
		return 1;
	if (at <= from) {
		s->whole = true;
		return 1;
	}
	s->at = s->end = at - 1;
	return 0;
}

/* the file of /dev/fd/N, as the kernel spells what is executed by descriptor; NULL if it is none */
static __always_inline struct file *spelled_file(struct scratch *s, struct task_struct *task)
{
	struct file **files, *file = NULL;
	__u64 beginning;
	__u32 i, fd = 0;
	char next;

	__builtin_memcpy(&beginning, s->spelled, sizeof(beginning));
	if (beginning != DEV_FD)
		return NULL;
	for (i = 0; i < FD_DIGITS; i++) {
		char digit = s->spelled[DEV_FD_LEN + i];

		if (digit < '0' || digit > '9')
			break;
		fd = 10 * fd + digit - '0';
	}
	next = s->spelled[DEV_FD_LEN + i];
	if (!i || (next && next != '/') || fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return NULL;
	files = BPF_CORE_READ(task, files, fdt, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), files + fd) || !file)
		return NULL;
	s->from = DEV_FD_LEN + i;
	return file;
}

/* Reads spelled, of `len` bytes, into raw: from the root, from the folder where `task` is, or from
 * an open file. A ".." takes back the name before it, but leads out of no root; links are not
 * followed. */
static __always_inline void read_spelled(struct scratch *s, __u32 len)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct file *file;

	s->start = RAW_MASK;
	s->ups = s->from = 0;
	s->whole = false;
	s->root = BPF_CORE_READ(task, fs, root.dentry);
	s->root_mount = container_of(BPF_CORE_READ(task, fs, root.mnt), struct mount, mnt);
	file = spelled_file(s, task);
	if (file) {
		dentry = BPF_CORE_READ(file, f_path.dentry);
		mnt = BPF_CORE_READ(file, f_path.mnt);
	} else if (s->spelled[0] == '/') {
		dentry = BPF_CORE_READ(task, fs, root.dentry);
		mnt = BPF_CORE_READ(task, fs, root.mnt);
	} else {
		dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		mnt = BPF_CORE_READ(task, fs, pwd.mnt);
	}
	s->at = s->end = len;
	bpf_loop(RAW_MASK + 1, prepend_spelled, &s, 0);
	if (s->whole)
		prepend_path(s, dentry, mnt);
}

/* whether an option of glibc's or musl's loader has its value in the next word */
static __always_inline bool takes_value(const char *option)
{
	switch (option[2]) {
	case 'a': /* --argv0, --audit */
		return !option[7];
	case 'p': /* --preload */
		return !option[9];
	case 'g': /* --glibc-hwcaps-prepend and -mask */
		return true;
	case 'i': /* --inhibit-rpath, not --inhibit-cache */
		return option[10] == 'r';
	case 'l': /* --library-path, not --list */
		return option[4] == 'b' && !option[14];
	default:
		return false;
	}
}

/* one byte of the arguments: what is started is the first that is no option and of none */
static long find_started(__u32 step, struct scratch **scratch)
{
	struct scratch *s = *scratch;
	const char *word = &s->spelled[(step + 1) & RAW_MASK];

	if (step + 2 >= s->end) /* what follows is not there, or more of it than was read */
		return 1;
	if (s->spelled[step & RAW_MASK])
		return 0;
	if (s->awaited == VALUE) {
		s->awaited = ANY;
		return 0;
	}
	if (s->awaited == STARTED || word[0] != '-' || word[1] != '-') {
		s->from = step + 1;
		return 1;
	}
	if (!word[2])
		s->awaited = STARTED;
	else if (takes_value(word))
		s->awaited = VALUE;
	return 0;
}

/* glibc's loader is ld-linux*.so.* or ld-2.31.so, musl's ld-musl-*.so.1 */
static __always_inline bool is_loader(const struct file *file)
{
	const struct path *path = &file->f_path;
	const unsigned char *name = BPF_CORE_READ(path, dentry, d_name.name);
	char beginning[3] = {};

	bpf_probe_read_kernel(beginning, sizeof(beginning), name);
	return beginning[0] == 'l' && beginning[1] == 'd' &&
	       (beginning[2] == '-' || beginning[2] == '.');
}

/* what the loader of `task` starts: how long it is, 0 for nothing, -1 for nobody knows */
static __always_inline int read_started(struct scratch *s, struct task_struct *task)
{
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long len = BPF_CORE_READ(task, mm, arg_end) - start;
	__u32 size = len > RAW_MASK ? RAW_MASK : len;
	long read;

	s->end = size;
	s->from = 0;
	s->awaited = ANY;
	barrier_var(size);
	if (bpf_probe_read_user(s->spelled, size & RAW_MASK, (void *)start))
		return -1;
	bpf_loop(RAW_MASK, find_started, &s, 0);
	if (!s->from)
		return len > RAW_MASK ? -1 : 0;
	read = bpf_probe_read_user_str(s->spelled, RAW_MASK + 1, (void *)(start + s->from));
	return read > 0 ? read - 1 : -1;
}

/* Whether an execution has a second path, which is left in raw: the script's, which is not the
 * file that is executed in the end, or that of what the loader starts. */
static __always_inline bool read_script(struct scratch *s, struct linux_binprm *bprm)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	int len;

	if (bprm->interp != bprm->filename) {
		len = bpf_probe_read_kernel_str(s->spelled, RAW_MASK + 1, bprm->filename) - 1;
	} else {
		if (!is_loader(bprm->file))
			return false;
		len = read_started(s, task);
		if (!len)
			return false;
	}
	if (len > 0 && len <= RAW_MASK) {
		read_spelled(s, len);
		return true;
	}
	s->start = RAW_MASK;
	s->whole = false;
	return true;
}

#endif
