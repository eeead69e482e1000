/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which cgroups below the traced one are seen, where not all are: those of selected pods. */
#pragma once

const volatile bool targ_selecting = false;

/* written by user space, which gives it room; not grown on demand, for perf events use it */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u8);
} selected SEC(".maps");

static __always_inline bool is_selected(__u64 cgroup)
{
	return bpf_map_lookup_elem(&selected, &cgroup) != NULL;
}
