// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sham: programs that do nothing, on the hooks that the other collectors take.
 * Attached and detached as theirs are, they show what switching itself costs:
 * text that is patched, caches that are lost, work that the kernel puts off.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/ingress")
int sham_ingress(void *ctx)
{
	return 1;
}

SEC("cgroup_skb/egress")
int sham_egress(void *ctx)
{
	return 1;
}

SEC("tp_btf/inet_sock_set_state")
int sham_state(void *ctx)
{
	return 0;
}

SEC("perf_event")
int sham_sample(void *ctx)
{
	return 0;
}

SEC("tp_btf/sched_process_exec")
int sham_exec(void *ctx)
{
	return 0;
}

SEC("cgroup/connect4")
int sham_connect4(void *ctx)
{
	return 1;
}

SEC("cgroup/connect6")
int sham_connect6(void *ctx)
{
	return 1;
}

SEC("cgroup/sendmsg4")
int sham_sendmsg4(void *ctx)
{
	return 1;
}

SEC("cgroup/sendmsg6")
int sham_sendmsg6(void *ctx)
{
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
