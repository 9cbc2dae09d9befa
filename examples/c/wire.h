/* Frames, and the protobuf fields in them: docs/protocol.md, "Framing" and "Envelope".
 * Everything lies in buffers of the caller's; nothing is allocated. */
#ifndef WIRE_H
#define WIRE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { REQUEST, RESPONSE, EVENT };
enum { CONTROL = 0x0000, HANDOFF = 0xD0FF, CHANNEL = 0xF001, REGISTRATION = 0xF002 };
enum { FIELDS = 101, MOST = 16384 }; /* numbers of fields; bytes of a frame */

typedef struct { const uint8_t *at; size_t len; uint64_t n; } field; /* bytes or number */
typedef struct { field f[FIELDS]; } message;                         /* the last value wins */
typedef struct { uint8_t at[MOST]; size_t len; } buffer;

static inline void put(buffer *b, const void *data, size_t n) {
	if (n > MOST - b->len) abort(); /* callers bound what they put */
	if (n > 0) memcpy(b->at + b->len, data, n);
	b->len += n;
}

static inline void put_varint(buffer *b, uint64_t n) {
	for (; n > 0x7F; n >>= 7) put(b, &(uint8_t){(uint8_t)n | 0x80}, 1);
	put(b, &(uint8_t){(uint8_t)n}, 1);
}

static inline void put_number(buffer *b, int number, uint64_t n) { /* defaults are left out */
	if (n != 0) put_varint(b, (uint64_t)number << 3), put_varint(b, n);
}

static inline void put_bytes(buffer *b, int number, const void *data, size_t n) {
	if (n != 0) put_varint(b, (uint64_t)number << 3 | 2), put_varint(b, n), put(b, data, n);
}

static inline void put_text(buffer *b, int number, const char *text) { put_bytes(b, number, text, strlen(text)); }

static inline bool get_varint(const uint8_t **at, const uint8_t *end, uint64_t *n) {
	*n = 0;
	for (int shift = 0; shift < 70 && *at < end; shift += 7) {
		uint8_t b = *(*at)++;
		if (shift < 64) *n |= (uint64_t)(b & 0x7F) << shift;
		if (b < 0x80) return true;
	}
	return false;
}

/* parse points m into data; false when it is no message. Unknown fields are skipped. */
static inline bool parse(message *m, const uint8_t *at, size_t len) {
	const uint8_t *end = at + len;
	memset(m, 0, sizeof *m);
	while (at < end) {
		uint64_t key, n;
		field f = {0};
		if (!get_varint(&at, end, &key)) return false;
		switch (key & 7) {
		case 0: if (!get_varint(&at, end, &f.n)) return false; break;
		case 2: if (!get_varint(&at, end, &n)) return false; f.len = n; break;
		case 1: f.len = 8; break;
		case 5: f.len = 4; break;
		default: return false;
		}
		if (f.len > (size_t)(end - at)) return false;
		f.at = at, at += f.len;
		if (key >> 3 < FIELDS) m->f[key >> 3] = f;
	}
	return true;
}

/* put_frame puts a frame around payload. */
static inline void put_frame(buffer *b, int kind, int protocol, const buffer *payload, uint64_t id) {
	size_t header = b->len;
	put(b, "\x01\0\0\0\0", 5);
	put_number(b, 1, 1), put_number(b, 2, kind), put_number(b, 3, protocol);
	put_bytes(b, 4, payload->at, payload->len), put_number(b, 5, id);
	for (int i = 0; i < 4; i++) b->at[header + 1 + i] = (uint8_t)((b->len - header - 5) >> 8 * i);
}

static inline bool is(const message *envelope, uint64_t kind, uint64_t protocol) {
	const field *f = envelope->f;
	return f[1].n == 1 && f[2].n == kind && f[3].n == protocol && f[6].n == 0;
}

static inline bool equal(field a, field b) { return a.len == b.len && memcmp(a.at, b.at, a.len) == 0; }

/* A descriptor that is handed over may be non-blocking, and its flags are shared: so all
 * waiting is done by poll. ms bounds one wait. */
static inline bool wait_for(int fd, short what, int ms) {
	struct pollfd p = {.fd = fd, .events = what};
	int n;
	while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR) {}
	if (n == 0) errno = ETIMEDOUT;
	return n > 0;
}

static inline bool send_all(int fd, const void *data, size_t len, int ms) {
	for (const char *at = data; len > 0;) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN && wait_for(fd, POLLOUT, ms)) continue;
		if (n < 0) return false;
		at += n, len -= (size_t)n;
	}
	return true;
}

/* receive returns what has come, 0 at the end of the stream and -1 after an error. */
static inline ssize_t receive(int fd, void *data, size_t len, int ms) {
	if (!wait_for(fd, POLLIN, ms)) return -1;
	return recv(fd, data, len, MSG_DONTWAIT);
}

static inline bool read_exactly(int fd, uint8_t *at, size_t len, int ms) {
	for (ssize_t n; len > 0; at += n, len -= (size_t)n)
		if ((n = receive(fd, at, len, ms)) <= 0) return false;
	return true;
}

/* read_frame reads one frame, and not a byte behind it. */
static inline bool read_frame(int fd, buffer *b, message *envelope, int ms) {
	if (!read_exactly(fd, b->at, 5, ms) || b->at[0] != 1) return false;
	b->len = b->at[1] | b->at[2] << 8 | b->at[3] << 16 | (size_t)b->at[4] << 24;
	return b->len <= MOST && read_exactly(fd, b->at, b->len, ms) && parse(envelope, b->at, b->len);
}

static inline bool same_user(int fd) {
	struct ucred peer;
	socklen_t n = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

/* dial connects to a socket that this user serves; -1 after an error. */
static inline int dial(const char *path, size_t len) {
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if (len >= sizeof to.sun_path) return errno = ENAMETOOLONG, -1;
	memcpy(to.sun_path, path, len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return -1;
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && same_user(fd)) return fd;
	close(fd);
	return -1;
}

#endif
