// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Records of http in the ring buffer of an agent that runs, with the wake-ups that requests cause;
 * measure_spans.py puts that ring in the place of this one, and runs the program.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "http.h"
#include "ring.bpf.h"

#define MOST   1000
#define LASTED 1000000

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct http_event record;
__u64 number; /* to be made by a run */
__u64 made;
__u64 full; /* there was no room for */

SEC("raw_tp")
int fill(void *ctx)
{
	struct http_event *event;
	__u64 i;

	for (i = 0; i < MOST; i++) {
		if (i >= number)
			break;
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
		if (!event) {
			full++;
			continue;
		}
		__builtin_memcpy(event, &record, sizeof(*event));
		event->end_ns = bpf_ktime_get_ns();
		event->start_ns = event->end_ns - LASTED;
		bpf_ringbuf_submit(event, wakeup(&events));
		made++;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
