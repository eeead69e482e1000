// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* profile: CPU stacks of the tasks of one cgroup: kernel, native and Python.
 *
 * Runs on a cpu-clock perf event of each CPU. Stacks are kept once, under
 * their hash; samples are counted under (task, three stack hashes).
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "pid.bpf.h"

#define MAX_DEPTH   127
#define MAX_THREADS 128

enum origin { KERNEL, NATIVE, PYTHON, ORIGINS };

struct sampled {
	__u32 tgid;
	__u32 tid;
	__u64 stacks[ORIGINS]; /* 0: no frames of this origin */
};

struct stack {
	__u64 depth;
	__u64 frames[MAX_DEPTH]; /* leaf first; Python: code objects */
};

/* where CPython keeps what is walked; offsets from the start of each struct */
struct interpreter {
	__u64 head;	    /* address of _PyRuntime.interpreters.head */
	__u32 threads;	    /* PyInterpreterState.threads.head */
	__u32 next;	    /* PyThreadState.next */
	__u32 native_id;    /* PyThreadState.native_thread_id */
	__u32 frame;	    /* PyThreadState.cframe, or current_frame */
	__s32 cframe_frame; /* _PyCFrame.current_frame; -1: no cframe */
	__u32 code;	    /* _PyInterpreterFrame.f_code */
	__u32 previous;	    /* _PyInterpreterFrame.previous */
};

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targ_cgroup SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32); /* tgid */
	__type(value, struct interpreter);
} interpreters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct sampled);
	__type(value, __u64);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

enum total { EVENTS, LOST };

static void count(__u32 total)
{
	__u64 *value = bpf_map_lookup_elem(&totals, &total);

	if (value)
		*value += 1;
}

/* Keeps the stack and returns the hash that it is found under. */
static __u64 keep(struct stack *stack)
{
	__u64 hash = stack->depth;
	__u32 i;

	for (i = 0; i < MAX_DEPTH && i < stack->depth; i++) {
		hash = (hash ^ stack->frames[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 32;
	}
	hash |= !hash;
	if (!bpf_map_lookup_elem(&stacks, &hash) &&
	    bpf_map_update_elem(&stacks, &hash, stack, BPF_ANY)) {
		count(LOST);
		return 0;
	}
	return hash;
}

static __u64 keep_native(void *ctx, struct stack *stack, __u64 flags)
{
	long bytes = bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), flags);

	if (bytes <= 0)
		return 0;
	stack->depth = bytes / sizeof(__u64);
	return keep(stack);
}

/* The thread id as the process itself sees it, in its pid namespace. */
static __u32 own_thread_id(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid id = {};

	bpf_core_read(&id, sizeof(id), &pid->numbers[level]);
	return id.nr;
}

static __u64 read_pointer(__u64 address)
{
	__u64 value = 0;

	if (address)
		bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

static __u64 thread_state(const struct interpreter *python)
{
	__u64 state = read_pointer(read_pointer(python->head) + python->threads);
	__u32 tid = own_thread_id(), i;

	for (i = 0; i < MAX_THREADS && state; i++) {
		if ((__u32)read_pointer(state + python->native_id) == tid)
			return state;
		state = read_pointer(state + python->next);
	}
	return 0;
}

static __u64 keep_python(struct stack *stack, __u32 tgid)
{
	struct interpreter *python = bpf_map_lookup_elem(&interpreters, &tgid);
	__u64 frame, state;
	__u32 i;

	if (!python)
		return 0;
	state = thread_state(python);
	if (!state)
		return 0;
	frame = read_pointer(state + python->frame);
	if (python->cframe_frame >= 0 && frame)
		frame = read_pointer(frame + python->cframe_frame);
	for (i = 0; i < MAX_DEPTH && frame; i++) {
		stack->frames[i] = read_pointer(frame + python->code);
		frame = read_pointer(frame + python->previous);
	}
	stack->depth = i;
	return i ? keep(stack) : 0;
}

SEC("perf_event")
int profile(struct bpf_perf_event_data *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct sampled sample = {};
	__u64 one = 1, *seen;
	struct stack *stack;
	__u32 zero = 0;

	if (bpf_current_task_under_cgroup(&targ_cgroup, 0) != 1)
		return 0;
	stack = bpf_map_lookup_elem(&scratch, &zero);
	if (!stack)
		return 0;
	count(EVENTS);
	sample.tgid = seen_process(task);
	sample.tid = seen_thread(task);
	if ((long)PT_REGS_IP(&ctx->regs) < 0) /* a kernel address */
		sample.stacks[KERNEL] = keep_native(ctx, stack, 0);
	sample.stacks[NATIVE] = keep_native(ctx, stack, BPF_F_USER_STACK);
	sample.stacks[PYTHON] = keep_python(stack, sample.tgid);
	seen = bpf_map_lookup_elem(&samples, &sample);
	if (seen)
		__sync_fetch_and_add(seen, 1);
	else if (bpf_map_update_elem(&samples, &sample, &one, BPF_NOEXIST))
		count(LOST);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
