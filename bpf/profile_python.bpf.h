/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Python frame that a task runs, out of CPython's own structures; for profile.bpf.c. */
#ifndef PROFILE_PYTHON_BPF_H
#define PROFILE_PYTHON_BPF_H

#define MAX_INTERPRETERS 16
#define MAX_STATES	 256
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

static __u64 read_pointer(__u64 address)
{
	__u64 value = 0;

	if (address)
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

/* The frame that the thread is in if this is its state; 0 if not, or if it is in none. */
static __u64 frame_of(const struct interpreter *python, __u64 state, __u64 own)
{
	__u64 frame;

	if (!state || read_pointer(state + python->thread) != own)
		return 0;
	frame = read_pointer(state + python->frame);
	if (python->cframe_frame >= 0 && frame)
		frame = read_pointer(frame + python->cframe_frame);
	return frame;
}

/* Who runs Python code has a lock, and a lock knows who has it: few looks, whatever the threads. */
static __u64 frame_by_lock(const struct interpreter *python, __u64 own)
{
	__u64 interpreter, gil, frame;
	__u32 i;

	if (python->current)
		return frame_of(python, read_pointer(python->current), own);
	interpreter = read_pointer(python->head);
	for (i = 0; i < MAX_INTERPRETERS && interpreter; i++) {
		gil = read_pointer(interpreter + python->gil);
		if (gil && (__u32)read_pointer(gil + python->locked)) {
			frame = frame_of(python, read_pointer(gil + python->holder), own);
			if (frame)
				return frame;
		}
		interpreter = read_pointer(interpreter + python->following);
	}
	return 0;
}

/* Sets the frame, if there is one; returns whether there were too many threads to look at all.
 * Who has no lock runs native code, and is looked for among the threads of all interpreters. */
static bool find_frame(const struct interpreter *python, struct task_struct *task, __u64 *frame)
{
	__u64 own = own_thread(python, task), interpreter, state = 0;
	__u32 i;

	*frame = frame_by_lock(python, own);
	if (*frame)
		return false;
	interpreter = read_pointer(python->head);
	for (i = 0; i < MAX_STATES; i++) {
		if (state) {
			*frame = frame_of(python, state, own);
			if (*frame)
				return false;
			state = read_pointer(state + python->next);
		} else {
			if (!interpreter)
				return false;
			state = read_pointer(interpreter + python->threads);
			interpreter = read_pointer(interpreter + python->following);
		}
	}
	return true;
}

#endif
