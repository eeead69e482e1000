// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * http: reading the head of a message. The loops are functions of their own,
 * which the verifier checks once and not once for each way that leads there.
 */
#ifndef __HTTP_MESSAGE_BPF_H
#define __HTTP_MESSAGE_BPF_H

#define DIGITS	1
#define LETTERS 2 /* that are hexadecimal digits */
#define OTHERS	4

/* up to 8 characters as one little-endian word */
#define WORD(t)	   (*(const __u64 *)(t))
#define FIRST(n)   (~0ULL >> (64 - 8 * (n)))
#define LOWER	   0x2020202020202020ULL
#define EACH(byte) (0x0101010101010101ULL * (byte))

/* the enum method at the start of a message, 0 for none, and where its target starts */
static __always_inline __u8 method_of(__u64 word, __u32 *target)
{
#define METHOD(name)                                                                               \
	if ((word & FIRST(sizeof(#name))) == (WORD(#name "      ") & FIRST(sizeof(#name)))) {      \
		*target = sizeof(#name);                                                           \
		return M_##name;                                                                   \
	}
	METHOD(GET)
	METHOD(POST)
	METHOD(PUT)
	METHOD(DELETE)
	METHOD(HEAD)
	METHOD(PATCH)
	METHOD(OPTIONS)
	METHOD(CONNECT)
	METHOD(TRACE)
	return 0;
}

/* /users/42/cards?page=2 becomes /users/{id}/cards; numbers, dates, UUIDs and
 * long hexadecimal names are ids. The cursor lives in `head`, the caller's
 * memory, where the verifier does not follow its values: it would try them all.
 */
__noinline int route_of(struct http_key *key, struct http_head *head)
{
	volatile struct http_head *at = head;
	const char *in;
	char *route;
	__u32 i, n, out = 0;

	if (!key || !head || head->target > 8)
		return 0;
	in = head->text + head->target;
	n = head->n - head->target;
	route = key->route;
	at->out = at->start = at->seen = 0;
	for (i = 0; i < MESSAGE - 8; i++) {
		char c = in[i];
		__u32 seen = at->seen;

		out = at->out;
		if (i >= n || c <= ' ' || c == '?' || c == '/') {
			if ((seen & (DIGITS | OTHERS)) == DIGITS &&
			    (!(seen & LETTERS) || out - at->start >= 16)) {
				out = at->start;
				if (out < ROUTE - 4)
					__builtin_memcpy(route + out, "{id}", 4);
				out += 4;
			}
			if (i >= n || c != '/')
				break;
			at->start = out + 1;
			at->seen = 0;
		} else if (c >= '0' && c <= '9') {
			at->seen = seen | DIGITS;
		} else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
			at->seen = seen | LETTERS;
		} else if (c != '-') {
			at->seen = seen | OTHERS;
		}
		if (out < ROUTE)
			route[out] = c;
		at->out = out + 1;
	}
	for (i = 0; i < ROUTE / 8; i++) { /* the rest of the key must be zeros */
		__u64 *word = (__u64 *)route + i;

		if (out <= i * 8)
			*word = 0;
		else if (out < i * 8 + 8)
			*word &= FIRST(out - i * 8);
	}
	return 0;
}

static __always_inline bool is_content_length(const char *line)
{
	return (*(__u64 *)line | LOWER) == WORD("content-") &&
	       ((*(__u64 *)(line + 8) | LOWER) & FIRST(7)) == (WORD("length: ") & FIRST(7));
}

/* the number from `at` on; UNKNOWN if it does not end before n */
static __always_inline __u64 number(const struct http_head *head, __u32 at, __u32 n)
{
	__u64 value = 0;
	__u32 i;

	if (at > MESSAGE - LINE)
		return UNKNOWN;
	at += head->text[at] == ' ';
	for (i = 0; i < LINE - 16; i++) {
		char c = head->text[at + i];

		if (c < '0' || c > '9')
			return at + i < n ? value : UNKNOWN;
		value = value * 10 + c - '0';
	}
	return UNKNOWN;
}

/* the length of a message's header, 0 if it ends beyond `text`; finds Content-Length */
__noinline __u32 header(struct http_head *head)
{
	volatile struct http_head *at = head;
	__u32 i, k, n, end = 0;

	if (!head)
		return 0;
	n = head->n;
	at->at = 0;
	for (i = 8; i < MESSAGE - LINE - 8 && i < n; i += 8) {
		/* a word without a line's end is passed over at once */
		__u64 word = *(__u64 *)(head->text + i) ^ EACH('\n');

		if (!((word - EACH(1)) & ~word & EACH(0x80ULL)))
			continue;
#pragma unroll /* clang would fall back into this loop; Linux 6.1 takes only a jump there */
		for (k = i; k < i + 8; k++) {
			const char *line = head->text + k + 1;

			if (line[-1] != '\n')
				continue;
			if (line[0] == '\r') {
				end = k + 3;
				goto out;
			}
			if (is_content_length(line))
				at->at = k + 16;
		}
	}
out:
	head->length = at->at ? number(head, at->at, n) : UNKNOWN;
	return end <= n ? end : 0;
}

#endif
