// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* http: which request a response is of, and where it ends */
#ifndef __HTTP_RESPONSE_BPF_H
#define __HTTP_RESPONSE_BPF_H

/* the last chunk of a body, behind what ends the one before it or the head */
#define LAST		"\r\n0\r\n\r\n"
#define LAST_SIZE	(sizeof(LAST) - 1)
#define BLANK		"\r\n\r\n" /* what ends a body that has trailers, too */
#define BLANK_SIZE	(sizeof(BLANK) - 1)
#define REQUEST_TIMEOUT 408

/* make the request current whose response comes now */
static __noinline int turn(struct __sk_buff *skb, struct http_conn *conn)
{
	struct http_queue *queue = queue_of(skb, 0);

	if (queue)
		conn->request = queue->waiting[conn->ended & (QUEUE - 1)];
	conn->current = conn->ended;
	return 0;
}

static __always_inline __u32 outcome_of(struct http_conn *conn)
{
	return conn->request.series.key.status | conn->request.series.key.minor << 16;
}

/* how much has left of a body whose size no head told: its chunks' frames are of it, too */
static __always_inline __u64 left_so_far(const struct http_conn *conn)
{
	return UNKNOWN - conn->left;
}

/* how much of a chunked request was received by now: what is acknowledged, but for a FIN */
static __always_inline __u64 uploaded(struct __sk_buff *skb, struct http_segment *seg,
				      struct http_conn *conn)
{
	__u32 bytes = seg->ack - conn->body_seq;
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk && (sk->state == BPF_TCP_CLOSE_WAIT || sk->state == BPF_TCP_LAST_ACK))
		bytes--;
	return (__s32)bytes < 0 ? UNKNOWN : bytes;
}

/* the last bytes of a body, of which so many are new: they may come apart */
static __always_inline void keep_tail(struct __sk_buff *skb, struct http_segment *seg,
				      struct http_conn *conn, __u64 fresh)
{
	__u64 n = fresh < LAST_SIZE ? fresh : LAST_SIZE, bytes = 0;

	barrier_var(n);	      /* as in read() */
	if ((long long)n < 1) /* signed: before 6.4 the verifier learns nothing of what is not 0 */
		return;
	barrier_var(n);
	if (n > LAST_SIZE || bpf_skb_load_bytes(skb, seg->offset + seg->len - n, &bytes, n))
		return;
	conn->tail = conn->tail >> 8 * n | bytes << 8 * (LAST_SIZE - n);
}

/* whether a chunked body may have ended there: one with trailers is not seen to */
static __always_inline bool may_be_whole(const struct http_conn *conn)
{
	__u64 blank = WORD(BLANK "    ") & FIRST(BLANK_SIZE);

	return conn->tail >> 8 * (LAST_SIZE - BLANK_SIZE) == blank;
}

/*
 * A response that starts with this segment; how many of its bytes are its, 0 if none. This and
 * go_on are functions that the verifier checks once, and not for each turn of the loop around them.
 */
__noinline __u32 answer(struct __sk_buff *skb, struct http_segment *seg, struct http_conn *conn)
{
	struct http_head head;
	const char *text = head.text;
	struct http_key *key;
	__u32 end, status, minor;
	__u64 now;

	if (!seg || !conn)
		return 0;
	key = &conn->request.series.key;
	if (conn->answered && (__s32)(seg->seq - conn->out_seq) < 0)
		return 0; /* sent again */
	if (!read(skb, seg->offset, seg->len, &head) || !is_response(&head))
		return 0;
	now = bpf_ktime_get_ns();
	minor = (__u8)(text[7] - '0');
	status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + text[11] - '0';
	status &= 0xffff;
	__builtin_memset(&head, 0, offsetof(struct http_head, n));
	end = header_of(skb, &head, seg->offset, seg->len, WINDOWS);
	if (status / 100 == 1 && status != 101) { /* interim */
		conn->ack = seg->seq + (end ? end : seg->len);
		return end;
	}
	if (conn->current != conn->ended)
		turn(skb, conn);
	if (key->method == M_HEAD || status == 204 || status == 304 || status == 101 ||
	    (key->method == M_CONNECT && status / 100 == 2)) {
		head.length = 0;
		head.chunked = 0;
	}
	conn->answered = 1;
	if (conn->open && conn->begun - conn->ended == 1) /* nobody knew yet where it ends */
		conn->end_seq = seg->ack;
	if (conn->open == O_CHUNKED && conn->begun - conn->ended == 1)
		conn->request.bytes = uploaded(skb, seg, conn);
	if (!end || (!head.chunked && head.length <= seg->len - end)) { /* all of it is here */
		end = end ? end + head.length : seg->len;
		conn->out_seq = seg->seq + end;
		finish(conn, status | minor << 16, now, head.length);
		return end;
	}
	key->status = status;
	key->minor = minor;
	conn->out_seq = seg->seq + end;
	conn->response_bytes = conn->left = head.chunked ? UNKNOWN : head.length;
	conn->tail = (WORD("\r\n      ") & FIRST(2)) << 8 * (LAST_SIZE - 2);
	conn->first_ns = conn->last_ns = now;
	conn->answering = head.chunked ? A_CHUNKED : head.length == UNKNOWN ? A_CLOSE : A_LENGTH;
	return end;
}

/* more of a response's body; how many bytes of the segment are its, 0 if all of them */
__noinline __u32 go_on(struct __sk_buff *skb, struct http_segment *seg, struct http_conn *conn)
{
	__u32 old;

	if (!seg || !conn)
		return 0;
	old = conn->out_seq - seg->seq; /* bytes that were sent before */
	if ((__s32)old < 0)
		old = 0;
	if (old >= seg->len)
		return 0;
	conn->last_ns = bpf_ktime_get_ns();
	if (conn->answering == A_LENGTH && conn->left <= seg->len - old) {
		old += conn->left;
		conn->out_seq = seg->seq + old;
		finish(conn, outcome_of(conn), conn->last_ns, conn->response_bytes);
		return old;
	}
	conn->left -= seg->len - old;
	conn->out_seq = seg->seq + seg->len;
	if (conn->answering != A_CHUNKED)
		return 0;
	keep_tail(skb, seg, conn, seg->len - old);
	if (conn->tail == (WORD(LAST) & FIRST(LAST_SIZE)))
		finish(conn, outcome_of(conn), conn->last_ns, left_so_far(conn));
	return 0;
}

/* the size of a body that has_ended: what left may be of a response behind a chunked one, too */
static __always_inline __u64 ended_size(const struct http_conn *conn)
{
	if (conn->answering == A_CHUNKED && !may_be_whole(conn))
		return UNKNOWN;
	return left_so_far(conn);
}

/* a body whose end was not seen ends where the response behind it begins */
static __always_inline bool has_ended(struct __sk_buff *skb, struct http_segment *seg,
				      struct http_conn *conn)
{
	__u64 word = 0;

	return conn->answering != A_LENGTH && conn->begun - conn->ended > 1 &&
	       (__s32)(seg->seq - conn->out_seq) >= 0 &&
	       !bpf_skb_load_bytes(skb, seg->offset, &word, 7) &&
	       word == (WORD("HTTP/1. ") & FIRST(7));
}

/* no response comes any more, or no more of one */
static __always_inline void give_up(struct http_conn *conn, __u32 error, __u64 now)
{
	if (!conn->answering)
		finish(conn, error << 24, now, UNKNOWN);
	else if (conn->answering == A_CLOSE || (conn->answering == A_CHUNKED && may_be_whole(conn)))
		finish(conn, outcome_of(conn), conn->last_ns, left_so_far(conn));
	else
		finish(conn, outcome_of(conn) | error << 24, now, UNKNOWN);
}

/*
 * A response to what was not known as a request: it was torn, or not looked for where it began.
 * Not one that a server sends by itself, to end a connection that is idle.
 */
static __noinline int unasked(struct __sk_buff *skb, struct http_segment *seg,
			      struct http_conn *conn)
{
	__u64 words[SHORTEST / 8] = {};
	const char *text = (const char *)words;
	__u32 status;

	if (!conn->answered || (__s32)(seg->seq - conn->out_seq) < 0) /* or sent again */
		return 0;
	if (bpf_skb_load_bytes(skb, seg->offset, words, sizeof(words)) ||
	    (WORD(text) & FIRST(7)) != (WORD("HTTP/1. ") & FIRST(7)))
		return 0;
	status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + text[11] - '0';
	if (status < 200 || status == REQUEST_TIMEOUT)
		return 0;
	conn->out_seq = seg->seq + seg->len;
	if (conn->skipped)
		conn->skipped--;
	else if (!targ_selecting || is_selected(bpf_skb_cgroup_id(skb)))
		lose(L_UNSEEN);
	return 0;
}

#endif
