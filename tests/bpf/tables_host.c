// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* bpf/profile_tables.bpf.h compiled for this machine: test_table_walk.py walks stacks by it. */
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#undef __noinline
#define __noinline	       __attribute__((noinline))
#define SEC(name)
#define __uint(name, value)    int(*name)[value]
#define __type(name, value)    typeof(value) *name
#define PT_REGS_IP(regs)       ((regs)->ip)
#define PT_REGS_SP(regs)       ((regs)->sp)
#define PT_REGS_FP(regs)       ((regs)->bp)
#define PT_REGS_IP_CORE(regs)  ((regs)->ip)
#define PT_REGS_SP_CORE(regs)  ((regs)->sp)
#define PT_REGS_FP_CORE(regs)  ((regs)->bp)

enum { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_F_MMAPABLE };

struct pt_regs {
	unsigned long ip, sp, bp;
};
struct bpf_perf_event_data {
	struct pt_regs regs;
};
struct task_struct {
	void *mm;
	struct pt_regs regs;
};

static struct task_struct current_task;

static void *found_in(void *map, void *key);
static long bpf_probe_read_user(void *to, __u32 n, void *from);

#define bpf_get_current_task_btf()     (&current_task)
#define bpf_task_pt_regs(of)	       (&(of)->regs)
#define bpf_map_lookup_elem(map, key)  found_in((void *)(map), (void *)(key))

/* what user space sets before programs are loaded is set here by a test */
#define const
#include "profile_tables.bpf.h"
#undef const

#define PROCESS 7

/* what the maps have, and the stack of PROCESS */
struct row all_rows[MAX_ROWS];
struct mappings own;
struct walk walked;
__u64 stack_start, stack_size;
char stack[4096];

static void *found_in(void *map, void *key)
{
	__u32 number = *(__u32 *)key;

	if (map == &rows)
		return number < MAX_ROWS ? &all_rows[number] : NULL;
	if (map == &mapped)
		return number == PROCESS ? &own : NULL;
	return &walked;
}

static long bpf_probe_read_user(void *to, __u32 n, void *from)
{
	__u64 at = (__u64)from - stack_start;

	if (at >= stack_size || n > stack_size - at)
		return -14;
	memcpy(to, stack + at, n);
	return 0;
}

/* where a walk begins; false if there is none */
bool begins(unsigned long ip, unsigned long sp, unsigned long bp)
{
	struct bpf_perf_event_data ctx = { { ip, sp, bp } };

	return begin_walk(&ctx, &walked);
}
