// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * empty: programs that do nothing, one for each type of hook, to see what it
 * costs to get into one. Loaded one by one, for no kernel offers all. Only that
 * of perf_event counts its runs: a virtual CPU misses samples, nobody else
 * knows how many, and a few ns are little beside a timer's interrupt.
 *
 * sched_process_wait and kernel_wait4 are passed once by each wait(), which
 * returns at once in a process without children: the cheapest way to one event.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* what the iterator walks over: its cost is the difference per element */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} many SEC(".maps"), few SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} samples SEC(".maps");

SEC("cgroup_skb/egress")
int on_cgroup_skb(void *ctx)
{
	return 1;
}

SEC("cgroup/connect4")
int on_cgroup_sock(void *ctx)
{
	return 1;
}

SEC("tp_btf/sched_process_wait")
int on_tp_btf(void *ctx)
{
	return 0;
}

SEC("raw_tp/sched_process_wait")
int on_raw_tracepoint(void *ctx)
{
	return 0;
}

SEC("tp/sched/sched_process_wait")
int on_tracepoint(void *ctx)
{
	return 0;
}

SEC("fentry/kernel_wait4")
int on_fentry(void *ctx)
{
	return 0;
}

SEC("kprobe/kernel_wait4")
int on_kprobe(void *ctx)
{
	return 0;
}

SEC("uprobe")
int on_uprobe(void *ctx)
{
	return 0;
}

SEC("perf_event")
int on_perf_event(void *ctx)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&samples, &zero);

	if (count)
		*count += 1;
	return 0;
}

SEC("iter/bpf_map_elem")
int on_iter(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
