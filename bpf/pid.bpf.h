/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Processes by the numbers that who reads our maps knows them by, in its own PID namespace. */
#ifndef PID_BPF_H
#define PID_BPF_H

#define PID_LEVELS 33 /* a namespace has at most 32 above it */

/* inode of the reader's PID namespace; 0: the initial one, whose numbers are the kernel's own */
const volatile __u32 targ_pid_ns = 0;

/* 0 for what cannot be seen from there */
static inline __u32 seen_number(struct pid *pid)
{
	__u32 level = BPF_CORE_READ(pid, level), i;
	struct upid id = {};

	for (i = 0; i < PID_LEVELS && i <= level; i++) {
		bpf_core_read(&id, sizeof(id), &pid->numbers[i]);
		if (BPF_CORE_READ(id.ns, ns.inum) == targ_pid_ns)
			return id.nr;
	}
	return 0;
}

static inline __u32 seen_process(struct task_struct *task)
{
	if (!targ_pid_ns)
		return BPF_CORE_READ(task, tgid);
	return seen_number(BPF_CORE_READ(task, group_leader, thread_pid));
}

static inline __u32 seen_thread(struct task_struct *task)
{
	if (!targ_pid_ns)
		return BPF_CORE_READ(task, pid);
	return seen_number(BPF_CORE_READ(task, thread_pid));
}

/* which of all that processes with this number executed: it started at another time, or earlier */
static inline __u64 program_of(struct task_struct *leader)
{
	return BPF_CORE_READ(leader, start_boottime) + BPF_CORE_READ(leader, self_exec_id);
}

#endif
