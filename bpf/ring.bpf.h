/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who reads a ring buffer reads it by a clock, and is woken when a quarter of
 * it waits: a burst does not fill it between two readings, and a few records
 * wake nobody.
 */
#ifndef RING_BPF_H
#define RING_BPF_H

/* the flags to submit a record with; it counts itself */
static __always_inline __u64 wakeup(void *ring)
{
	__u64 waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);

	if (waiting < bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 4)
		return BPF_RB_NO_WAKEUP;
	return BPF_RB_FORCE_WAKEUP;
}

#endif /* RING_BPF_H */
