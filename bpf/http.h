// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: what the kernel half keeps and tells; harness/agent/http.py mirrors it */
#ifndef __HTTP_H
#define __HTTP_H

#define MESSAGE	  320 /* bytes of a message that are looked at */
#define ROUTE	  56  /* bytes of a route that are kept */
#define TARGET	  128 /* bytes of path and query that a span tells */
#define LINE	  24  /* room for "content-length: " and a number */
#define DURATIONS 14  /* bucket bounds, see harness/agent/http.py */
#define SIZES	  9
#define UNKNOWN	  (~0ULL)

/* in the order of harness/agent/http.py */
enum http_method {
	M_GET = 1,
	M_POST,
	M_PUT,
	M_DELETE,
	M_HEAD,
	M_PATCH,
	M_OPTIONS,
	M_CONNECT,
	M_TRACE,
};

struct http_key {
	char route[ROUTE];
	__u16 status;
	__u16 port;
	__u8 method;
	__u8 minor;
	__u16 unused;
} __attribute__((aligned(8))); /* compared by words */

/* what is added up apart: user space cuts it down to `key` where records tell no cgroup */
struct http_series {
	struct http_key key;
	__u64 cgroup; /* of the socket; 0 unless targ_containers */
};

struct http_totals {
	__u64 duration[DURATIONS + 1];
	__u64 duration_ns;
	__u64 request[SIZES + 1];
	__u64 request_bytes;
	__u64 response[SIZES + 1];
	__u64 response_bytes;
};

struct http_event {
	__u64 start_ns;
	__u64 end_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	struct http_series series;
	char target[TARGET];
};

/* the head of a message, on the stack: memory that is warm anyway */
struct http_head {
	__u64 length; /* Content-Length */
	__u32 at;     /* where its number starts */
	__u32 target; /* where the request's target starts */
	__u32 out;    /* bytes of the route so far */
	__u32 start;  /* where its last segment starts */
	__u32 seen;   /* what that is made of */
	__u32 n;      /* bytes in `text` */
	char text[MESSAGE];
};

/* one per socket */
struct http_conn {
	__u64 start_ns;
	__u64 request_bytes;
	__u32 generation;
	__u32 end_seq;
	__u32 pending;
	__u32 sampled;
	struct http_key key;
	char target[TARGET]; /* if sampled */
};

#endif
