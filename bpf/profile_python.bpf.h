/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Python frame that a task runs, out of CPython's own structures; for profile.bpf.c. */
#ifndef PROFILE_PYTHON_BPF_H
#define PROFILE_PYTHON_BPF_H

#define MAX_INTERPRETERS 16
#define MAX_STATES	 256
#define TOO_MANY	 1ULL /* instead of a frame */
#define REFERENCE_TAG	 7ULL /* 3.14 marks borrowed references in the lowest bits */

/* where CPython keeps what is walked; offsets from the start of each struct */
struct interpreter {
	__u64 head;	    /* address of _PyRuntime.interpreters.head */
	__u64 current;	    /* address of the state that has the only lock; 0: one each, in gil */
	__u32 following;    /* PyInterpreterState.next */
	__u32 threads;	    /* PyInterpreterState.threads.head */
	__u32 gil;	    /* PyInterpreterState.ceval.gil */
	__u32 holder;	    /* _gil_runtime_state.last_holder */
	__u32 locked;	    /* _gil_runtime_state.locked */
	__u32 next;	    /* PyThreadState.next */
	__u32 thread;	    /* PyThreadState.native_thread_id, or thread_id */
	__u32 by_pthread;   /* thread is a pthread_t */
	__u32 frame;	    /* PyThreadState.cframe, or current_frame, or frame */
	__s32 cframe_frame; /* _PyCFrame.current_frame; -1: no cframe */
	__u32 code;	    /* _PyInterpreterFrame.f_code */
	__u32 previous;	    /* _PyInterpreterFrame.previous */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* tgid */
	__type(value, struct interpreter);
} interpreters SEC(".maps");

/* thread states that may still be looked at for this sample */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} states_left SEC(".maps");

static __u64 read_pointer(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

/* The thread as the process itself knows it: in its own PID namespace, or by pthread_self(). */
static __u64 own_thread(const struct interpreter *python, struct task_struct *task)
{
	struct pid *pid;
	struct upid id = {};
	__u32 level;

#ifdef __TARGET_ARCH_x86
	if (python->by_pthread)
		return BPF_CORE_READ(task, thread.fsbase);
#endif
	pid = BPF_CORE_READ(task, thread_pid);
	level = BPF_CORE_READ(pid, level);
	bpf_core_read(&id, sizeof(id), &pid->numbers[level]);
	return id.nr;
}

/* What follows is global, with numbers as arguments: verified once each, and not for every way
 * through the loops around it, which is too much for Linux 5.10 and 6.1. */

/* The frame that the thread is in if this is its state; 0 if not, or if it is in none. */
__noinline __u64 frame_of(__u64 state, __u64 own, __u32 thread, __u32 at, __s32 cframe_frame)
{
	__u64 frame;

	if (!state || read_pointer(state + thread) != own)
		return 0;
	frame = read_pointer(state + at);
	if (cframe_frame >= 0 && frame)
		frame = read_pointer(frame + cframe_frame);
	return frame;
}

/* Who runs Python code has a lock, and a lock knows who has it: few looks, whatever the threads. */
__noinline __u64 frame_by_lock(__u32 process, __u64 own)
{
	struct interpreter *python = bpf_map_lookup_elem(&interpreters, &process);
	__u64 interpreter, gil, state, frame;
	__u32 i;

	if (!python)
		return 0;
	if (python->current)
		return frame_of(read_pointer(python->current), own, python->thread, python->frame,
				python->cframe_frame);
	interpreter = read_pointer(python->head);
	for (i = 0; i < MAX_INTERPRETERS && interpreter; i++) {
		gil = read_pointer(interpreter + python->gil);
		state = read_pointer(gil + python->holder);
		frame = frame_of(state, own, python->thread, python->frame, python->cframe_frame);
		if (frame && (__u32)read_pointer(gil + python->locked))
			return frame;
		interpreter = read_pointer(interpreter + python->following);
	}
	return 0;
}

/* Among the threads of one interpreter. */
__noinline __u64 frame_in_list(__u32 process, __u64 state, __u64 own)
{
	struct interpreter *python = bpf_map_lookup_elem(&interpreters, &process);
	__u32 zero = 0, i, *left = bpf_map_lookup_elem(&states_left, &zero);
	__u64 frame;

	if (!python || !left)
		return 0;
	for (i = 0; i <= MAX_STATES && state; i++) {
		if (!*left)
			return TOO_MANY;
		*left -= 1;
		frame = frame_of(state, own, python->thread, python->frame, python->cframe_frame);
		if (frame)
			return frame;
		state = read_pointer(state + python->next);
	}
	return 0;
}

/* Who has no lock runs native code, and is looked for among the threads of all interpreters. */
__noinline __u64 frame_by_walk(__u32 process, __u64 own)
{
	struct interpreter *python = bpf_map_lookup_elem(&interpreters, &process);
	__u32 zero = 0, i, *left = bpf_map_lookup_elem(&states_left, &zero);
	__u64 interpreter, frame;

	if (!python || !left)
		return 0;
	*left = MAX_STATES;
	interpreter = read_pointer(python->head);
	for (i = 0; i < MAX_INTERPRETERS && interpreter; i++) {
		frame = frame_in_list(process, read_pointer(interpreter + python->threads), own);
		if (frame)
			return frame;
		interpreter = read_pointer(interpreter + python->following);
	}
	return 0;
}

#endif
