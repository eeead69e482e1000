/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What of a socket's own totals is new; for flows.bpf.c. */
#pragma once

/*
 * How much `now` is beyond what was counted. The iterator does not hold the
 * socket's lock, so the socket may close meanwhile: only one of both wins.
 * Differences of totals may be below zero: bytes_retrans grows before a
 * segment is sent again, bytes_sent only if there is memory for that.
 */
static __u64 advance(__u64 *counted, __u64 now)
{
	for (int attempt = 0; attempt < 4; attempt++) {
		__u64 before = *(volatile __u64 *)counted;

		if ((__s64)(now - before) <= 0)
			return 0;
		if (__sync_val_compare_and_swap(counted, before, now) == before)
			return now - before;
	}
	return 0;
}
