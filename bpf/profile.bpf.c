// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* profile: CPU stacks of the tasks of one cgroup: kernel, native and Python.
 *
 * Runs on a cpu-clock perf event of each CPU. Stacks are kept once, under
 * their hash; samples are counted under (task, process image, three stack
 * hashes), and the cgroup where containers are told apart. The first sample of
 * each image wakes the reader, which looks at the process while it lasts. One of
 * two programs is loaded: they walk native stacks by frame pointers, and by the
 * tables of profile_tables.bpf.h.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "pid.bpf.h"
#include "profile_python.bpf.h"
#include "profile_tables.bpf.h"
#include "selected.bpf.h"

#define MAX_DEPTH 127
#define NAME_SIZE 64

const volatile bool targ_containers = false;

enum origin { KERNEL, NATIVE, PYTHON, ORIGINS };

/* what is counted apart: user space cuts off the last member where records tell no cgroup */
struct sampled {
	__u32 tgid;
	__u32 tid;
	__u64 image;
	__u64 stacks[ORIGINS]; /* 0: no frames of this origin */
	__u64 cgroup;	       /* of the task; 0 unless targ_containers */
};

/* keeps the type in the object, where the map's keys have none */
const struct sampled *sampled_type;

struct stack {
	__u64 depth;
	__u64 frames[MAX_DEPTH]; /* leaf first; Python: code objects */
};

/* what a process runs, told once */
struct image {
	__u64 id;
	__u64 start_stack; /* as in /proc/PID/stat: what was forked has its parent's */
	__u32 tgid;
	__u32 parent;
	char executable[NAME_SIZE];
};

/* keeps the type in the object, which no map has */
const struct image *image_type;

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targ_cgroup SEC(".maps");

/* the image of each process that was told last; one that was evicted is told again */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* tgid */
	__type(value, __u64);
} told SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} images SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(key_size, sizeof(struct sampled)); /* no type: it may be cut down */
	__uint(value_size, sizeof(__u64));
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

enum total { EVENTS, NO_ROOM, UNWALKED, TOTALS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TOTALS);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

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
		count(NO_ROOM);
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

static __u32 parent_of(struct task_struct *task)
{
	return seen_process(BPF_CORE_READ(task, group_leader, real_parent));
}

static __u64 keep_python(struct stack *stack, struct task_struct *task, __u32 process)
{
	struct interpreter *python = bpf_map_lookup_elem(&interpreters, &process);
	__u64 frame, own;
	__u32 i;

	if (!python) { /* what was just forked has its parent's interpreter, in the same places */
		process = parent_of(task);
		python = bpf_map_lookup_elem(&interpreters, &process);
	}
	if (!python)
		return 0;
	own = own_thread(python, task);
	frame = frame_by_lock(process, own);
	if (!frame)
		frame = frame_by_walk(process, own);
	if (frame == TOO_MANY) {
		count(UNWALKED);
		return 0;
	}
	for (i = 0; i < MAX_DEPTH && frame; i++) {
		stack->frames[i] = read_pointer(frame + python->code) & ~REFERENCE_TAG;
		frame = read_pointer(frame + python->previous);
	}
	stack->depth = i;
	return i ? keep(stack) : 0;
}

/* Whose mappings a task runs in: its own, or those of who forked it, in the same places. */
static __u32 mapped_as(struct task_struct *task, __u32 process)
{
	__u64 start = BPF_CORE_READ(task, mm, start_stack);
	struct mappings *own = bpf_map_lookup_elem(&mapped, &process);

	if (own && own->start_stack == start)
		return process;
	process = parent_of(task);
	own = bpf_map_lookup_elem(&mapped, &process);
	return own && own->start_stack == start ? process : 0;
}

static __u64 keep_by_tables(struct bpf_perf_event_data *ctx, struct stack *stack,
			    struct task_struct *task, __u32 process)
{
	__u32 zero = 0, end = TOO_DEEP, i;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	__u64 *ended;

	if (!walk || !begin_walk(ctx, walk))
		return 0;
	process = mapped_as(task, process);
	stack->depth = MAX_DEPTH;
	for (i = 0; i < MAX_DEPTH; i++) {
		stack->frames[i] = walk->ip;
		end = step(process, i > 0);
		if (end) {
			stack->depth = i + 1;
			break;
		}
	}
	if (!end)
		end = TOO_DEEP;
	ended = bpf_map_lookup_elem(&ends, &end);
	if (ended)
		*ended += 1;
	return keep(stack);
}

/* Wakes the reader for an image that it was not told. */
static void tell(struct task_struct *task, struct mm_struct *mm, __u32 tgid, __u64 id)
{
	struct image image = { .id = id, .tgid = tgid };
	const unsigned char *name;

	image.start_stack = BPF_CORE_READ(mm, start_stack);
	image.parent = parent_of(task);
	name = BPF_CORE_READ(mm, exe_file, f_path.dentry, d_name.name);
	bpf_probe_read_kernel_str(image.executable, sizeof(image.executable), name);
	/* what does not fit is told with the next sample */
	if (!bpf_ringbuf_output(&images, &image, sizeof(image), BPF_RB_FORCE_WAKEUP))
		bpf_map_update_elem(&told, &tgid, &id, BPF_ANY);
}

/* What the process runs: another number after exec, and where a tgid is used again. In the middle
 * of exec the stack has no place yet, and what is told then is told again. */
static __u64 image_of(struct task_struct *task, __u32 tgid)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	__u64 *known = bpf_map_lookup_elem(&told, &tgid);
	__u64 id;

	if (!mm) /* it is ending */
		return known ? *known : 0;
	id = program_of(leader);
	id += BPF_CORE_READ(mm, start_stack);
	if (tgid && (!known || *known != id))
		tell(task, mm, tgid, id);
	return id;
}

/* Whether the registers of user mode are those of a program that is being replaced. */
static bool in_exec(struct task_struct *task)
{
	return bpf_core_field_exists(task->in_execve) &&
	       BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
}

static __always_inline int take(struct bpf_perf_event_data *ctx, bool by_tables)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct sampled sample = {};
	__u64 one = 1, *seen;
	struct stack *stack;
	__u32 zero = 0;

	if (bpf_current_task_under_cgroup(&targ_cgroup, 0) != 1)
		return 0;
	if (targ_selecting && !is_selected(bpf_get_current_cgroup_id()))
		return 0;
	stack = bpf_map_lookup_elem(&scratch, &zero);
	if (!stack)
		return 0;
	count(EVENTS);
	sample.tgid = seen_process(task);
	sample.tid = seen_thread(task);
	sample.image = image_of(task, sample.tgid);
	if (targ_containers)
		sample.cgroup = bpf_get_current_cgroup_id();
	if ((long)PT_REGS_IP(&ctx->regs) < 0) /* a kernel address */
		sample.stacks[KERNEL] = keep_native(ctx, stack, 0);
	if (!in_exec(task)) {
		sample.stacks[NATIVE] = by_tables ? keep_by_tables(ctx, stack, task, sample.tgid)
						  : keep_native(ctx, stack, BPF_F_USER_STACK);
		sample.stacks[PYTHON] = keep_python(stack, task, sample.tgid);
	}
	seen = bpf_map_lookup_elem(&samples, &sample);
	if (seen)
		__sync_fetch_and_add(seen, 1);
	else if (bpf_map_update_elem(&samples, &sample, &one, BPF_NOEXIST))
		count(NO_ROOM);
	return 0;
}

SEC("perf_event")
int profile(struct bpf_perf_event_data *ctx)
{
	return take(ctx, false);
}

/* Instead of it, where stacks are walked by tables; asks for Linux 5.15. */
SEC("perf_event")
int profile_tables(struct bpf_perf_event_data *ctx)
{
	return take(ctx, true);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
