// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * inject: a known cost. Burns `targ_ns` at one of two places of the processes of
 * one cgroup, and adds up how long that really took:
 *
 * - burn: for each TCP segment with payload that leaves them. Sockets hand over
 *   up to 64 KiB at once, before segmentation: a response that is written by one
 *   call is one event. Segments without payload (ACK, SYN, FIN) pass untouched;
 *   what the processes send as clients counts as well, and so does what is sent
 *   again. The response leaves later by as much.
 * - burn_aside: for each getsockopt() of a socket that they made. A service that
 *   calls it when it has answered pays there while nobody waits for it.
 *
 * `targ_ns` are beyond the time of one reading of the clock, which the program
 * without a burn takes, too. The clock is the machine's. Between two readings of it that lie far
 * apart something else ran: that is told, too.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet.bpf.h"

#define MAX_STEPS (1 << 20) /* far more readings of the clock than 1 ms holds */
#define CALM_NS	  3000	    /* a step takes less, unless something interrupts it */
#define PAUSED_NS 200000    /* in sum what a hypervisor takes, see docs/adr/0009 */

struct burnt {
	__u64 ns;
	__u64 events;
	__u64 paused_ns; /* of `ns`: in steps of PAUSED_NS or more */
	__u64 calm_ns;	 /* of events all of whose steps took less than CALM_NS */
	__u64 calm_events;
};

const volatile __u64 targ_ns;

/*
 * At the beginning of a page, so that each copy of the program touches one cache
 * line: where a value of 40 bytes lies as it falls out, some copies touch two,
 * and a cold one costs as much as the smallest effects (docs/adr/0009).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct burnt);
} totals SEC(".maps");

struct spell {
	__u64 until;
	__u64 last;
	__u64 longest;
	__u64 paused;
};

static long wait(__u32 step, struct spell *spell)
{
	__u64 now = bpf_ktime_get_ns(), took = now - spell->last;

	spell->last = now;
	if (!step && targ_ns)
		/* beyond what one reading takes; half of it is overshot on average */
		spell->until = now + targ_ns - (took < targ_ns ? took : targ_ns) / 2;
	if (took > spell->longest)
		spell->longest = took;
	if (took >= PAUSED_NS)
		spell->paused += took;
	return now >= spell->until;
}

static __always_inline void spend(void)
{
	__u64 began, spent;
	struct spell spell = {};
	struct burnt *total;
	__u32 key = 0;

	/* without a burn the same steps: two versions differ in the burn alone */
	began = bpf_ktime_get_ns();
	spell.until = began;
	spell.last = began;
	bpf_loop(MAX_STEPS, wait, &spell, 0);
	spent = spell.last - began;
	total = bpf_map_lookup_elem(&totals, &key);
	if (!total)
		return;
	/* other CPUs, and softirq that interrupts the same program on this one */
	__sync_fetch_and_add(&total->ns, spent);
	__sync_fetch_and_add(&total->events, 1);
	__sync_fetch_and_add(&total->paused_ns, spell.paused);
	if (spell.longest < CALM_NS) {
		__sync_fetch_and_add(&total->calm_ns, spent);
		__sync_fetch_and_add(&total->calm_events, 1);
	}
}

static __always_inline bool has_payload(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 offset = transport_at(skb, IPPROTO_TCP);
	struct tcphdr *tcp;

	if (!offset)
		return false;
	tcp = data + offset;
	if ((void *)(tcp + 1) > end)
		return false;
	return skb->len > offset + tcp->doff * 4;
}

SEC("cgroup_skb/egress")
int burn(struct __sk_buff *skb)
{
	if (has_payload(skb))
		spend();
	return 1;
}

SEC("cgroup/getsockopt")
int burn_aside(struct bpf_sockopt *ctx)
{
	spend();
	ctx->optlen = 0; /* the kernel's answer stands, whatever its size */
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
