// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * http: reading the head of a message. The loops are functions of their own,
 * which the verifier checks once and not once for each way that leads there.
 */
#ifndef __HTTP_MESSAGE_BPF_H
#define __HTTP_MESSAGE_BPF_H

/* what a segment of a path is made of */
#define DIGITS	  1
#define LETTERS	  2 /* that are hexadecimal digits */
#define OTHERS	  4
#define CAPITALS  8
#define FOREIGN	  16 /* to the names that machines make: no letter, digit, '-' or '_' */
#define ENDED	  32 /* what follows are its parameters: /cart;jsessionid=1 */
#define LONG_HEX  16 /* characters */
#define LONG_NAME 12
#define LONGEST	  24  /* a method and the blank behind it */
#define AUTHORITY 128 /* bytes of a target before its path: http://host:port */

/* up to 8 characters as one little-endian word */
#define WORD(t)	   (*(const __u64 *)(t))
#define FIRST(n)   (~0ULL >> (64 - 8 * (n)))
#define LOWER	   0x2020202020202020ULL
#define EACH(byte) (0x0101010101010101ULL * (byte))
#define PLACE(bit)                                                                                 \
	((((bit) >> 7) * 0x0001020304050607ULL) >> 56) /* of the byte with that high bit */

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

/*
 * The method at the start of a message, 0 for none, and 256 times where its target starts. M_OTHER
 * is a guess, for other_method: three characters from '@' to '_'. A function of its own, since the
 * verifier would follow each method through all that comes.
 */
__noinline __u32 method_in(__u64 word)
{
	__u32 target = 0;
	__u8 method = method_of(word, &target);

	if (method)
		return method | target << 8;
	return (word & 0xe0e0e0) == 0x404040 ? M_OTHER : 0;
}

/* where the target starts behind a method that has no name here, 0 if that is none */
__noinline __u32 other_method(struct http_head *head)
{
	__u32 i;

	if (!head)
		return 0;
	for (i = 0; i < LONGEST; i++) {
		char c = head->text[i];

		if (c == ' ')
			return i > 2 ? i + 1 : 0;
		if ((c < 'A' || c > 'Z') && c != '-')
			return 0;
	}
	return 0;
}

/* where the path starts: behind http://host if a client tells that to a proxy; for route_of */
static __always_inline __u32 path_of(const struct http_head *head, __u32 target)
{
	const char *in = head->text + target;
	__u32 i;

	if (((WORD(in) | LOWER) & FIRST(7)) != (WORD("http://@") & FIRST(7)))
		return target;
	for (i = 7; i < AUTHORITY; i++)
		if (in[i] == '/' || (unsigned char)in[i] <= ' ')
			return target + i;
	return target;
}

static __always_inline __u32 kind_of(unsigned char c)
{
	unsigned char small = c | 0x20;

	if (c >= '0' && c <= '9')
		return DIGITS;
	if (small >= 'a' && small <= 'z')
		return (small <= 'f' ? LETTERS : OTHERS) | (c < 'a' ? CAPITALS : 0);
	if (c == '-')
		return 0;
	return c == '_' ? OTHERS : OTHERS | FOREIGN;
}

static __always_inline bool is_id(__u32 seen, __u32 length)
{
	if (!(seen & DIGITS))
		return false;
	if (!(seen & OTHERS) && (!(seen & LETTERS) || length >= LONG_HEX))
		return true;
	return (seen & CAPITALS) && !(seen & FOREIGN) && length >= LONG_NAME;
}

/* /users/42/cards?page=2 becomes /users/{id}/cards; numbers, dates, UUIDs, long
 * hexadecimal names, and long ones with digits and capitals are ids. The cursor
 * lives in `head`, the caller's memory, where the verifier does not follow its
 * values: it would try them all.
 */
__noinline int route_of(struct http_key *key, struct http_head *head)
{
	volatile struct http_head *at = head;
	char *route;
	__u32 i, from, target, out = 0;

	if (!key || !head)
		return 0;
	target = head->target;
	if (target > LONGEST)
		return 0;
	at->from = path_of(head, target);
	from = at->from;
	if (from > LONGEST + AUTHORITY)
		return 0;
	route = key->route;
	at->out = at->start = at->seen = 0;
	for (i = 0; i < MESSAGE; i++) {
		__u32 place = from + i, seen = at->seen;
		unsigned char c = place < MESSAGE ? head->text[place] : 0;

		out = at->out;
		if (c <= ' ' || c == '?' || c == '/' ||
		    c == ';') { /* zeros: behind what was read */
			if (is_id(seen, out - at->start)) {
				out = at->start;
				if (out >= ROUTE - 4) /* nor has what comes behind it any room */
					break;
				__builtin_memcpy(route + out, "{id}", 4);
				out += 4;
			}
			if (c != '/' && c != ';')
				break;
			at->start = out + 1;
			at->seen = c == ';' ? ENDED : 0;
			if (c == ';') {
				at->out = out;
				continue;
			}
		} else if (seen & ENDED) {
			continue;
		} else {
			at->seen = seen | kind_of(c);
		}
		if (out < ROUTE)
			route[out] = c;
		at->out = out + 1;
	}
	if (!out) { /* http://host */
		route[0] = '/';
		out = 1;
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
	return (WORD(line) | LOWER) == WORD("content-") &&
	       ((WORD(line + 8) | LOWER) & FIRST(7)) == (WORD("length: ") & FIRST(7));
}

static __always_inline bool is_transfer_encoding(const char *line)
{
	return (WORD(line) | LOWER) == WORD("transfer") &&
	       (WORD(line + 8) | LOWER) == WORD("-encodin");
}

/* the digit behind "HTTP/1." at the end of a line, 0 if there is none; the next one is at `next` */
static __always_inline __u32 version_of(const struct http_head *head, __u32 next)
{
	const char *word;

	if (next < 10 || next > MESSAGE)
		return 0;
	word = head->text + next - (head->text[next - 2] == '\r' ? 10 : 9);
	if ((WORD(word) & FIRST(7)) != (WORD("HTTP/1. ") & FIRST(7)))
		return 0;
	return word[7] >= '0' && word[7] <= '9' ? word[7] : 0;
}

/* the number from `at` on; UNKNOWN if it does not end before n */
static __always_inline __u64 number(const struct http_head *head, __u32 at, __u32 n)
{
	bool any = false;
	__u64 value = 0;
	__u32 i;

	if (at > MESSAGE - LINE + 16)
		return UNKNOWN;
	for (i = 0; i < LINE - 16; i++) {
		unsigned char c = head->text[at + i];

		if (c >= '0' && c <= '9') {
			any = true;
			value = value * 10 + c - '0';
			if (value > 1ULL << 56) /* before it overflows */
				return UNKNOWN;
		} else if (any || (c != ' ' && c != '\t')) {
			return any && c <= ' ' && at + i < n ? value : UNKNOWN;
		}
	}
	return UNKNOWN;
}

/* what a line says; true if it is the empty one that ends the header */
static __always_inline bool take(struct http_head *head, __u64 place)
{
	volatile struct http_head *at = head;
	const char *line;

	barrier_var(place); /* the compiler would check another sum than the one it uses */
	if (place > MESSAGE - LINE)
		return true;
	line = head->text + place;
	if (line[-1] != '\n') /* behind a line's end the next byte may seem to be one */
		return false;
	if (!at->line)
		at->line = at->first = place;
	if (line[0] == '\r') {
		at->end = place + 2;
		return true;
	}
	if (is_content_length(line))
		at->at = place + 15;
	if (is_transfer_encoding(line))
		at->chunked = 1;
	return false;
}

/*
 * The length of a message's header, 0 if it ends beyond `text`; what its lines say is added. What
 * is found stands in `head` until the end, for the same reason as in route_of.
 */
__noinline __u32 header(struct http_head *head)
{
	volatile struct http_head *at = head;
	__u32 i, n;

	if (!head)
		return 0;
	n = head->n;
	at->at = at->first = at->end = 0;
	for (i = 8; i < MESSAGE - LINE - 8 && i < n; i += 8) {
		/* a word without a line's end is passed over at once */
		__u64 word = *(__u64 *)(head->text + i) ^ EACH('\n');
		__u64 ends = (word - EACH(1)) & ~word & EACH(0x80ULL);

		if (!ends)
			continue;
		if (take(head, i + PLACE(ends & -ends) + 1))
			break;
		ends &= ends - 1;
		if (!ends)
			continue;
		if (take(head, i + PLACE(ends & -ends) + 1))
			break;
		ends &= ends - 1; /* no more than three: the shortest line is "a:" */
		if (ends && take(head, i + PLACE(ends & -ends) + 1))
			break;
	}
	if (at->first)
		at->version = version_of(head, at->first);
	if (at->at)
		head->length = number(head, at->at, n);
	return at->end <= n ? at->end : 0;
}

#endif
