// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Executions, outgoing connects and datagrams, and opened files of one cgroup, by a policy.
//
// Policies are tries: the longest pattern that a path or an address begins
// with decides. Kills do not depend on the ring buffer, which may be full.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "guard_path.bpf.h"
#include "guard_script.bpf.h"
#include "pid.bpf.h"
#include "ring.bpf.h"
#include "selected.bpf.h"

#define EPERM	1
#define SIGKILL 9
/* of struct file: the kernel has it for itself, as an overlay has the file of a layer */
#define FMODE_NOACCOUNT (1U << 29)

struct ended {
	__u64 at_ns;
	__u64 cgroup;
	__u64 program;
	__u32 parent_pid;
	char comm[COMM_LEN];
};

const volatile bool targ_probe = false;
const volatile bool targ_containers = false;

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} scope SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring SEC(".maps");

/* how many processes did, since the programs were loaded: the map forgets those longest ago */
__u64 exits = 0;

/* who was of the cgroup, for openers that ended before they were looked up */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct ended);
} ended SEC(".maps");

static bool is_seen(void)
{
	return !targ_selecting || is_selected(bpf_get_current_cgroup_id());
}

static bool in_scope(void)
{
	return bpf_current_task_under_cgroup(&scope, 0) == 1 && is_seen();
}

static __u64 own_cgroup(void)
{
	return targ_containers ? bpf_get_current_cgroup_id() : 0;
}

static __u32 own_pid(void)
{
	return seen_process((struct task_struct *)bpf_get_current_task());
}

static __u32 parent_pid(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return seen_process(BPF_CORE_READ(task, real_parent));
}

static __u64 own_program(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return program_of(BPF_CORE_READ(task, group_leader));
}

static __always_inline void count(__u64 counts[KINDS][VERDICTS], __u32 kind, __u32 action)
{
	if (action == DENY)
		__sync_fetch_and_add(&counts[kind][DENY], 1);
	else if (action == REPORT)
		__sync_fetch_and_add(&counts[kind][REPORT], 1);
	else
		__sync_fetch_and_add(&counts[kind][PASS], 1);
}

static __always_inline void read_args(struct event *event)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long len = BPF_CORE_READ(task, mm, arg_end) - start;

	if (len >= ARGS_LEN) {
		len = ARGS_LEN - 1;
		event->flags |= CUT_ARGS;
	}
	event->args_len = len;
	barrier_var(len);
	if (bpf_probe_read_user(event->args, len & (ARGS_LEN - 1), (void *)start)) {
		event->args_len = 0;
		event->flags |= CUT_ARGS;
	}
}

/* how much of what raw has is not in a key, nor then in an event */
static __always_inline __u32 cut(struct scratch *s, __u32 end, __u32 beginning)
{
	return (RAW_MASK - s->start > PATH_LEN ? end : 0) | (s->whole ? 0 : beginning);
}

/* A quarter of the ring is kept for what was denied: it is not hidden behind much else. */
static __always_inline bool has_room(__u32 action)
{
	return action == DENY || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) <
					 bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE) / 4 * 3;
}

/* s->event.flags and what is of an execution alone are there already */
static __always_inline void tell(struct scratch *s, struct rule rule, __u32 kind, __u64 size)
{
	struct event *event = &s->event;

	count(decided, kind, rule.action);
	event->at_ns = bpf_ktime_get_ns();
	event->cgroup = own_cgroup();
	event->program = own_program();
	event->kind = kind;
	event->action = rule.action;
	event->rule = rule.index;
	event->pid = own_pid();
	event->parent_pid = parent_pid();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel(event->path, PATH_LEN, s->forward.path);
	event->path[PATH_LEN] = '\0';
	if (!has_room(rule.action) || bpf_ringbuf_output(&ring, event, size, wakeup(&ring)))
		count(lost, kind, rule.action);
}

static __always_inline void judge_execution(struct scratch *s, struct linux_binprm *bprm)
{
	struct event *event = &s->event;
	__u64 size = __builtin_offsetof(struct event, script);
	struct rule rule, second;

	read_path(s, &bprm->file->f_path);
	rule = decide(s, &s->forward, EXEC);
	event->flags = cut(s, CUT_PATH, UNKNOWN_PATH);
	if (!BPF_CORE_READ(bprm, file, f_inode, i_nlink))
		event->flags |= UNLINKED;
	if (read_script(s, bprm)) {
		second = decide(s, &s->script, EXEC);
		rule = stricter(rule, &second);
		event->flags |= cut(s, CUT_SCRIPT, UNKNOWN_SCRIPT);
		bpf_probe_read_kernel(event->script, PATH_LEN, s->script.path);
		event->script[PATH_LEN] = '\0';
		size = sizeof(*event);
	}
	if (rule.action == PASS)
		return;
	if (rule.action == DENY)
		bpf_send_signal(SIGKILL);
	event->args_count = bprm->argc;
	read_args(event);
	tell(s, rule, EXEC, size);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	struct scratch *s;

	if (!in_scope())
		return 0;
	s = claim();
	if (!s) {
		count(lost, EXEC, PASS);
		return 0;
	}
	judge_execution(s, bprm);
	release(s);
	return 0;
}

/*
 * Whether it was not there yet. Threads that end at once may each find no other one left: older
 * kernels do not tell which of them was the last.
 */
static __always_inline bool note(__u32 pid, struct ended *value)
{
	struct ended *before;

	if (!bpf_map_update_elem(&ended, &pid, value, BPF_NOEXIST))
		return true;
	before = bpf_map_lookup_elem(&ended, &pid);
	if (before && before->program == value->program) {
		before->at_ns = value->at_ns;
		return false;
	}
	bpf_map_update_elem(&ended, &pid, value, BPF_ANY); /* another one had the number before */
	return true;
}

/* of a process's last thread; any of them ends here, all over the host */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct ended value = {};

	if (task->signal->live.counter || !in_scope())
		return 0;
	value.at_ns = bpf_ktime_get_ns();
	value.cgroup = own_cgroup();
	value.program = own_program();
	value.parent_pid = parent_pid();
	/* the first thread knows the program's name, and stays until the others are gone */
	BPF_CORE_READ_INTO(&value.comm, task, group_leader, comm);
	if (note(own_pid(), &value))
		__sync_fetch_and_add(&exits, 1);
	return 0;
}

/* by a process of the cgroup; what the kernel opens below that is no opening of its own */
static bool is_opened(const struct file *file)
{
	return !(file->f_mode & FMODE_NOACCOUNT) && in_scope();
}

static __always_inline int judge_opening(struct file *file)
{
	struct scratch *s = claim();
	struct rule rule;

	if (!s) {
		count(lost, OPEN, PASS);
		return PASS;
	}
	read_path(s, &file->f_path);
	rule = decide(s, &s->forward, OPEN);
	s->event.flags = cut(s, CUT_PATH, UNKNOWN_PATH);
	if (rule.action == DENY)
		bpf_send_signal(SIGKILL);
	if (rule.action != PASS)
		tell(s, rule, OPEN, __builtin_offsetof(struct event, args));
	release(s);
	return rule.action;
}

SEC("lsm/file_open")
int BPF_PROG(on_open_lsm, struct file *file)
{
	if (targ_probe) {
		count(decided, OPEN, REPORT);
		return 0;
	}
	return is_opened(file) && judge_opening(file) == DENY ? -EPERM : 0;
}

SEC("fentry/security_file_open")
int BPF_PROG(on_open_fentry, struct file *file)
{
	if (targ_probe)
		count(decided, OPEN, REPORT);
	else if (is_opened(file))
		judge_opening(file);
	return 0;
}

#include "guard_peer.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
