/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* As much of the kernel's types and of libbpf's macros as guard_host.c needs. */
#pragma once

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

/* what the kernel's types and libbpf's headers would define */
#define __VMLINUX_H__
#define __BPF_HELPERS__
#define __BPF_CORE_READ_H__
#define __BPF_ENDIAN__
#define __BPF_TRACING_H__

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define barrier_var(x)	((void)(x))
#define bpf_htonl	htonl
#define bpf_ntohs	ntohs
#define container_of(pointer, type, member)                                                        \
	((type *)((char *)(pointer)-offsetof(type, member)))
#define SEC(name)
#define __uint(name, value)  int(*name)[value]
#define __type(name, value)  typeof(value) *name
#define BPF_PROG(name, ...)  called_##name(__VA_ARGS__)
#define READ_2(a, b)	     ((a)->b)
#define READ_3(a, b, c)	     ((a)->b->c)
#define READ_4(a, b, c, d)   ((a)->b->c->d)
#define FOURTH(a, b, c, d, name, ...) name
#define BPF_CORE_READ(...)   FOURTH(__VA_ARGS__, READ_4, READ_3, READ_2, )(__VA_ARGS__)
#define BPF_CORE_READ_INTO(to, a, b, c) __builtin_memcpy(to, (a)->b->c, sizeof(*(to)))

struct qstr {
	__u32 len;
	unsigned char *name;
};
struct inode {
	__u32 i_nlink;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};
struct vfsmount {
	struct dentry *mnt_root;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
	__u32 f_mode;
};
struct fdtable {
	__u32 max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct fs_struct {
	struct path root, pwd;
};
struct mm_struct {
	unsigned long arg_start, arg_end;
};
struct pid_namespace {
	struct {
		__u32 inum;
	} ns;
};
struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	__u32 level;
	struct upid numbers[40];
};
struct signal_struct {
	struct {
		int counter;
	} live;
};
struct task_struct {
	int pid, tgid;
	char comm[16];
	struct signal_struct *signal;
	struct task_struct *real_parent, *group_leader;
	__u64 start_boottime, self_exec_id;
	struct pid *thread_pid;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
};
struct linux_binprm {
	struct file *file;
	char *filename, *interp;
	int argc;
};
