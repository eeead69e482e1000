// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Executions, outgoing connects and opened files of one cgroup, by a policy.
//
// Policies are tries: the longest pattern that a path or an address begins
// with decides. Kills do not depend on the ring buffer, which may be full.
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "guard_path.bpf.h"
#include "pid.bpf.h"
#include "ring.bpf.h"

#define EPERM	 1
#define SIGKILL	 9
#define ARGS_LEN 256
#define COMM_LEN 16
/* of struct file: the kernel has it for itself, as an overlay has the file of a layer */
#define FMODE_NOACCOUNT (1U << 29)

enum kind { EXEC = 1, OPEN = 2, CONNECT = 3 };

struct address_key {
	__u32 prefix_bits;
	__u8 address[16]; /* IPv4 is v4-mapped */
};

struct event {
	__u64 at_ns;
	__u64 cgroup; /* of the process, as below; 0 unless targ_containers */
	__u32 kind;
	__u32 action;
	__u32 rule;
	__u32 pid;
	__u32 parent_pid;
	__u32 args_len;
	char comm[COMM_LEN];
	char path[PATH_LEN + 1];
	char args[ARGS_LEN];
};

struct peer {
	__u32 pid;
	__u16 port;
	__u8 protocol;
	__u8 denied;
	__u8 address[16];
	char comm[COMM_LEN];
};

struct connects {
	__u64 count;
	__u64 first_ns;
	__u64 cgroup;
	__u32 rule;
	__u32 parent_pid;
};

struct ended {
	__u64 at_ns;
	__u64 cgroup;
	__u32 parent_pid;
	char comm[COMM_LEN];
};

const volatile bool targ_probe = false;
const volatile bool targ_containers = false;

__u64 events = 0;
__u64 lost = 0;

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} scope SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_key);
	__type(value, struct rule);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring SEC(".maps");

/* pids to kill, for hooks that cannot send signals; wakes its reader */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} condemned SEC(".maps");

/* emptied by user space; entries are not reused while a program holds one */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer);
	__type(value, struct connects);
} peers SEC(".maps");

/* who was of the cgroup, for openers that ended before they were looked up */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct ended);
} ended SEC(".maps");

static bool in_scope(void)
{
	return bpf_current_task_under_cgroup(&scope, 0) == 1;
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

static void read_args(struct event *event)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long len = BPF_CORE_READ(task, mm, arg_end) - start;

	if (len >= ARGS_LEN)
		len = ARGS_LEN - 1;
	event->args_len = len;
	barrier_var(len);
	if (bpf_probe_read_user(event->args, len & (ARGS_LEN - 1), (void *)start))
		event->args_len = 0;
}

static void tell(struct scratch *s, struct rule rule, __u32 kind)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	__sync_fetch_and_add(&events, 1);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return;
	}
	event->at_ns = bpf_ktime_get_ns();
	event->cgroup = own_cgroup();
	event->kind = kind;
	event->action = rule.action;
	event->rule = rule.index;
	event->pid = own_pid();
	event->parent_pid = parent_pid();
	event->args_len = 0;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	__builtin_memcpy(event->path, s->forward.path, PATH_LEN);
	event->path[PATH_LEN] = '\0';
	if (kind == EXEC)
		read_args(event);
	bpf_ringbuf_submit(event, wakeup(&ring));
}

static int judge(const struct path *path, __u32 kind)
{
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &zero);
	struct rule rule;

	if (!s)
		return PASS;
	rule = decide(s, read_path(s, path), kind);
	if (rule.action == DENY)
		bpf_send_signal(SIGKILL);
	if (rule.action != PASS)
		tell(s, rule, kind);
	return rule.action;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	if (in_scope())
		judge(&bprm->file->f_path, EXEC);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct ended value = {};
	__u32 pid = own_pid();

	if (task->pid != task->tgid || !in_scope())
		return 0;
	value.at_ns = bpf_ktime_get_ns();
	value.cgroup = own_cgroup();
	value.parent_pid = parent_pid();
	bpf_get_current_comm(value.comm, sizeof(value.comm));
	bpf_map_update_elem(&ended, &pid, &value, BPF_ANY);
	return 0;
}

/* by a process of the cgroup; what the kernel opens below that is no opening of its own */
static bool is_opened(const struct file *file)
{
	return !(file->f_mode & FMODE_NOACCOUNT) && in_scope();
}

SEC("lsm/file_open")
int BPF_PROG(on_open_lsm, struct file *file)
{
	if (targ_probe) {
		__sync_fetch_and_add(&events, 1);
		return 0;
	}
	return is_opened(file) && judge(&file->f_path, OPEN) == DENY ? -EPERM : 0;
}

SEC("fentry/security_file_open")
int BPF_PROG(on_open_fentry, struct file *file)
{
	if (targ_probe)
		__sync_fetch_and_add(&events, 1);
	else if (is_opened(file))
		judge(&file->f_path, OPEN);
	return 0;
}

static void count_connect(struct peer *peer, struct rule rule)
{
	struct connects *found = bpf_map_lookup_elem(&peers, peer);
	struct connects first = {
		.count = 1,
		.first_ns = bpf_ktime_get_ns(),
		.cgroup = own_cgroup(),
		.rule = rule.index,
		.parent_pid = parent_pid(),
	};

	__sync_fetch_and_add(&events, 1);
	if (found)
		__sync_fetch_and_add(&found->count, 1);
	else if (bpf_map_update_elem(&peers, peer, &first, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
}

/* 1 lets it pass, 0 denies it with EPERM */
static int on_connect(struct bpf_sock_addr *ctx, struct peer *peer)
{
	struct address_key key = { .prefix_bits = 128 };
	struct rule rule = {};
	__u32 pid;

	if (!ctx->user_port) /* only asks for a route, as resolvers do */
		return 1;
	__builtin_memcpy(key.address, peer->address, sizeof(key.address));
	rule = stricter(rule, bpf_map_lookup_elem(&addresses, &key));
	if (rule.action == PASS)
		return 1;
	pid = peer->pid = own_pid();
	peer->port = bpf_ntohs(ctx->user_port);
	peer->protocol = ctx->protocol;
	peer->denied = rule.action == DENY;
	bpf_get_current_comm(peer->comm, sizeof(peer->comm));
	count_connect(peer, rule);
	if (rule.action != DENY)
		return 1;
	bpf_ringbuf_output(&condemned, &pid, sizeof(pid), BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};
	__u32 address = ctx->user_ip4;

	peer.address[10] = peer.address[11] = 0xff;
	__builtin_memcpy(&peer.address[12], &address, sizeof(address));
	return on_connect(ctx, &peer);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	struct peer peer = {};
	__u32 address[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
			     ctx->user_ip6[3] };

	__builtin_memcpy(peer.address, address, sizeof(address));
	return on_connect(ctx, &peer);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
