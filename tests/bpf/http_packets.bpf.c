// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bpf/http.bpf.c for test_packets_http.py: BPF_PROG_TEST_RUN makes a socket for each packet, so
 * what is kept by socket is kept here in maps of one entry: all packets are of one connection.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "http.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_conn);
} kept_conn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_queue);
} kept_queue SEC(".maps");

static const __u32 only = 0;

#define bpf_sk_storage_get(map, sk, value, flags)                                                  \
	((void *)(map) == (void *)&conns ? bpf_map_lookup_elem(&kept_conn, &only)                  \
					 : bpf_map_lookup_elem(&kept_queue, &only))

#include "http.bpf.c"
