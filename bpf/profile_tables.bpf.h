/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Native stacks by tables that the reader made of .eh_frame, of code without frame pointers; for
 * profile.bpf.c. */
#ifndef PROFILE_TABLES_BPF_H
#define PROFILE_TABLES_BPF_H

#define MAX_MAPPINGS 128
#define MAX_ROWS     (1 << 21)

/* tables alone; or frame pointers too, where there is no table */
const volatile bool targ_mixed = false;

/* how a caller is found; those from UNCOVERED on end a stack */
enum rule {
	BY_RSP,
	BY_RBP,
	BY_PLT,	   /* rsp + 8, and 8 more from a place of the entry on */
	OUTERMOST, /* who runs there was called by nobody */
	UNCOVERED, /* between functions */
	EXPRESSION,
	OTHER_BASE, /* another register */
	ELSEWHERE,  /* the return address, or rbp */
	FAR,	    /* more than a row holds */
};

/* why a stack ends; what a rule says comes first */
enum end {
	GOES_ON,
	WHOLE,
	NO_TABLE,
	NO_EXPRESSION,
	NO_REGISTER,
	NO_PLACE,
	NO_OFFSET,
	NO_MAPPINGS,
	UNREADABLE,
	TOO_DEEP,
	ENDS
};

/* What holds from an address on until the next row; offsets in words of 8 bytes. */
struct row {
	__u32 from; /* as the file was linked */
	__s16 cfa;  /* from rsp or rbp; BY_PLT: from which of 16 bytes on */
	__s8 rbp;   /* from the CFA; 0: not saved */
	__u8 rule;
};

/* an executable mapping */
struct mapping {
	__u64 start;
	__u64 limit;
	__u64 shift; /* of its addresses, from those that it was linked with */
	__u32 first; /* of its rows */
	__u32 count; /* 0: it has no table */
};

struct mappings {
	__u64 start_stack; /* of the image that they are of */
	__u64 count;
	struct mapping each[MAX_MAPPINGS]; /* by address */
};

/* where a walk is */
struct walk {
	__u64 ip;
	__u64 sp;
	__u64 bp;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u32); /* tgid */
	__type(value, struct mappings);
} mapped SEC(".maps");

/* the rows of each file, once for all processes */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_ROWS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ENDS);
	__type(key, __u32);
	__type(value, __u64);
} ends SEC(".maps");

/* What follows is global, with numbers as arguments: verified once each. */

/* The place of the mapping that holds an address; MAX_MAPPINGS: none does. */
__noinline __u32 mapping_of(__u32 process, __u64 address)
{
	struct mappings *own = bpf_map_lookup_elem(&mapped, &process);
	__u32 low = 0, high, middle, i;

	if (!own)
		return MAX_MAPPINGS;
	high = own->count;
	for (i = 0; i < 8 && low < high; i++) {
		middle = ((low + high) / 2) & (MAX_MAPPINGS - 1);
		if (own->each[middle].limit <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low >= MAX_MAPPINGS || low >= own->count || address < own->each[low].start)
		return MAX_MAPPINGS;
	return low;
}

/* The row that holds for an address, as a number. */
__noinline __u64 row_of(__u32 first, __u32 count, __u32 address)
{
	__u64 uncovered = (__u64)UNCOVERED << 56;
	__u32 low = 0, high = count, middle, key, i;
	struct row *row;

	for (i = 0; i < 22 && low < high; i++) {
		middle = (low + high) / 2;
		key = first + middle;
		row = bpf_map_lookup_elem(&rows, &key);
		if (!row)
			return uncovered;
		if (row->from <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return uncovered;
	key = first + low - 1;
	row = bpf_map_lookup_elem(&rows, &key);
	return row ? *(__u64 *)row : uncovered;
}

/* Puts the walk into the caller of a frame whose CFA, and rbp in it, are known. */
static enum end into_caller(struct walk *walk, __u64 cfa, __s64 rbp)
{
	__u64 bp = walk->bp, ip;

	if (cfa <= walk->sp)
		return UNREADABLE;
	if (bpf_probe_read_user(&ip, sizeof(ip), (void *)(cfa - 8)))
		return UNREADABLE;
	if (rbp && bpf_probe_read_user(&bp, sizeof(bp), (void *)(cfa + rbp)))
		return UNREADABLE;
	if (!ip)
		return WHOLE;
	walk->ip = ip;
	walk->sp = cfa;
	walk->bp = bp;
	return GOES_ON;
}

/* By frame pointers, of code that has no table: what was compiled at run time, and Go. */
static enum end by_frame_pointer(struct walk *walk)
{
	if (!targ_mixed)
		return NO_TABLE;
	if (!walk->bp)
		return WHOLE;
	return walk->bp % 8 ? NO_TABLE : into_caller(walk, walk->bp + 16, -16);
}

/* One frame up; `back` is 1 where the walk is at a return address: the call lies before it. */
__noinline __u32 step(__u32 process, __u32 back)
{
	struct mappings *own = bpf_map_lookup_elem(&mapped, &process);
	__u32 zero = 0, place;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	struct mapping *mapping;
	__u64 row, base, cfa;
	__u8 rule;

	if (!walk)
		return UNREADABLE;
	if (!own)
		return targ_mixed ? by_frame_pointer(walk) : NO_MAPPINGS;
	place = mapping_of(process, walk->ip - back);
	if (place >= MAX_MAPPINGS)
		return by_frame_pointer(walk);
	mapping = &own->each[place];
	if (!mapping->count)
		return by_frame_pointer(walk);
	row = row_of(mapping->first, mapping->count, walk->ip - back - mapping->shift);
	rule = row >> 56;
	if (rule == UNCOVERED)
		return by_frame_pointer(walk);
	if (rule >= OUTERMOST)
		return rule - OUTERMOST + WHOLE;
	base = rule == BY_RBP ? walk->bp : walk->sp;
	cfa = base + 8 * (__s64)(__s16)(row >> 32);
	if (rule == BY_PLT)
		cfa = base + ((walk->ip & 15) >= (__u16)(row >> 32) ? 16 : 8);
	return into_caller(walk, cfa, 8 * (__s64)(__s8)(row >> 48));
}

/* The registers of user mode; false if the task has none. */
static bool begin_walk(struct bpf_perf_event_data *ctx, struct walk *walk)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs;

	if ((long)PT_REGS_IP(&ctx->regs) >= 0) {
		walk->ip = PT_REGS_IP(&ctx->regs);
		walk->sp = PT_REGS_SP(&ctx->regs);
		walk->bp = PT_REGS_FP(&ctx->regs);
		return true;
	}
	if (!task->mm)
		return false;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	walk->ip = PT_REGS_IP_CORE(regs);
	walk->sp = PT_REGS_SP_CORE(regs);
	walk->bp = PT_REGS_FP_CORE(regs);
	return walk->ip && (long)walk->ip > 0;
}

#endif
