/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What flows.bpf.c counts, as user space reads it: harness/agent/flow_series.py holds its own
 * layouts beside these when it loads.
 */
#pragma once

#define STATES 13

/* who began it; a role that is not known has no port, for that could be any */
enum role { CLIENT = 1, SERVER = 2, UNKNOWN_ROLE = 3 };

/* why a connection ended, or was not made */
enum flow_reason {
	REASON_NO_ERROR,    /* it was closed by a FIN */
	REASON_REFUSED,	    /* by the peer's RST to a SYN, or by ICMP */
	REASON_RESET,	    /* by an RST of either side */
	REASON_TIMED_OUT,   /* the kernel's own time-outs: of SYNs, of data, of keepalives */
	REASON_UNREACHABLE, /* by ICMP, or there is no neighbour */
	REASON_ABORTED,	    /* given up by this side: by a time-out of its own, by `ss --kill` */
	REASON_NO_ADDRESS,  /* no local port is free for this peer */
	REASON_OTHER,
	REASONS,
};

/* IPv4 addresses are v4-mapped */
struct flow_key {
	__u8 protocol;
	__u8 role;
	__u16 port;    /* the server's: local of a server, the peer's of a client */
	__u8 overflow; /* stands for all that no longer fit; it has no port and no addresses */
	__u8 unused[3];
	__u8 peer[16];
	__u8 local[16];
};

/* what is counted apart: user space cuts it down to `key` where records tell no cgroup */
struct flow_series {
	struct flow_key key;
	__u64 cgroup; /* of the socket; 0 unless targ_containers, and of overflow */
};

struct flow {
	__u64 opened;
	__u64 sent; /* bytes of payload */
	__u64 received;
	__u64 retransmits;
	__u64 rtt_us; /* sum of smoothed round-trip times, one a reading */
	__u64 rtt_readings;
	__u64 datagrams_sent;
	__u64 datagrams_received;
	__u64 closed[REASONS];
	__u64 failed[REASONS]; /* never opened */
	__u64 pass;	       /* the iteration that counted open[] */
	__u32 open[STATES];
	__u32 unused;
};
