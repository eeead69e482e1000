// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: what the kernel half keeps and tells; harness/agent/http.py mirrors it */
#ifndef __HTTP_H
#define __HTTP_H

#define MESSAGE	  192			/* bytes of a message that are looked at at once */
#define LINE	  32			/* room for "content-length:", blanks and a number */
#define STEP	  (MESSAGE - LINE - 32) /* from there on once more, if its header goes on */
#define WINDOWS	  12			/* how often, at most */
#define ROUTE	  56			/* bytes of a route that are kept */
#define TARGET	  128			/* bytes of path and query that a span tells */
#define QUEUE	  16			/* requests of a connection that wait for their responses */
#define DURATIONS 19			/* bucket bounds, see harness/agent/http.py */
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
	M_OTHER,
};

/* how a connection ended before a response did; in the order of harness/agent/http.py */
enum http_error {
	E_SERVER_CLOSED = 1,
	E_CLIENT_CLOSED,
	E_RESET,
	E_TIMEOUT,
};

/* why a request was not counted or not told; in the order of harness/agent/http.py */
enum http_lost {
	L_SOCKET,   /* no memory for its connection's state */
	L_SERIES,   /* no memory for its series */
	L_SPAN,	    /* the ring buffer was full */
	L_PIPELINE, /* more waited than a queue takes */
	L_UNSEEN,   /* what answered it did not look like a response */
	LOST,
};

struct http_key {
	char route[ROUTE];
	__u16 status; /* 0: there was no response */
	__u16 port;
	__u8 method;
	__u8 minor;
	__u8 error;
	__u8 unused;
} __attribute__((aligned(8))); /* compared by words */

/* what is added up apart: user space cuts it down to `key` where records tell no cgroup */
struct http_series {
	struct http_key key;
	__u64 cgroup; /* of the socket; 0 unless targ_containers */
};

/* in the order in which ordinary requests touch it: two cache lines */
struct http_totals {
	__u64 duration_ns;
	__u64 response_bytes;
	__u64 duration[DURATIONS + 1];
	__u64 response[SIZES + 1];
	__u64 request_bytes;
	__u64 request_unknown; /* requests whose bodies have no known size */
	__u64 request[SIZES];  /* but the first bucket: those without a body are the rest */
};

struct http_event {
	__u64 start_ns;
	__u64 end_ns;
	__u64 request_bytes;
	__u64 response_bytes;
	struct http_series series;
	char target[TARGET];
	__u64 first_byte_ns; /* from start_ns on; 0: with the last one, or never */
};

/* a message's head, on the stack: memory that is warm anyway */
struct http_head {
	__u64 arrived_ns;
	__u64 length;  /* Content-Length */
	__u32 at;      /* where its number starts */
	__u32 line;    /* whether the first line ended */
	__u32 first;   /* where the next one starts, if that is in `text` */
	__u32 end;     /* where the header does */
	__u32 version; /* the digit behind "HTTP/1." in the first line */
	__u32 chunked; /* whether there is a Transfer-Encoding */
	__u32 target;  /* where the request's target starts */
	__u32 from;    /* where its path does */
	__u32 out;     /* bytes of the route so far */
	__u32 start;   /* where its last segment starts */
	__u32 seen;    /* what that is made of */
	__u32 n;       /* bytes in `text` */
	char text[MESSAGE];
};

/* one that waits for its response */
struct http_request {
	__u64 start_ns;
	__u64 bytes; /* of its body */
	__u64 sampled;
	struct http_series series;
	char target[TARGET]; /* if sampled; with the method if that is M_OTHER */
};

/* how long a response is whose end has not left yet */
enum http_answering {
	A_LENGTH = 1,
	A_CHUNKED,
	A_CLOSE, /* until the connection ends */
};

/* whether it is known where a request ends */
enum http_open {
	O_KNOWN,
	O_UNKNOWN,
	O_CHUNKED, /* not where it ends, but where its body begins */
};

/* one per socket; ingress writes begun, egress ended */
struct http_conn {
	__u32 generation;
	__u32 begun;   /* requests */
	__u32 ended;   /* those of them that were answered */
	__u32 current; /* which of them `request` is, counted like these */
	__u32 end_seq; /* where the next request begins */
	__u32 ack;     /* what the client had received when it sent the last one */
	__u32 out_seq; /* where the next response begins, or the rest of this one */
	__u8 open;     /* enum http_open of the last request */
	__u8 answered; /* whether out_seq means anything */
	__u8 answering;
	__u8 skipped; /* requests that had no room, and whose responses may come yet */
	struct http_request request;
	__u64 left; /* bytes of the response */
	__u64 response_bytes;
	__u64 last_ns; /* when something of it left last */
	__u64 tail; /* the last bytes of a chunked body, the last of all in the highest byte but one
		     */
	__u64 first_ns; /* when something of it left first; only while `answering` */
	__u32 claimed;	/* requests that somebody ends or has ended: the two ends may meet */
	__u32 body_seq; /* where the body of the last request begins, if that is O_CHUNKED */
	__u32 received; /* segments with data until it was released, if it still had to send */
};

/* one per socket whose client does not wait for responses */
struct http_queue {
	struct http_request waiting[QUEUE];
};

/*
 * whose first request arrives before there is a socket for it, and what it is sent to: a client may
 * ask two servers from one port
 */
struct http_client {
	__u32 address[4]; /* IPv4 addresses are mapped */
	__u32 server[4];
	__u32 port;
	__u32 server_port;
};

#endif
