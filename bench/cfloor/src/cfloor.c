// The cost floor of a handoff: broker and backend of the same exchange, on the
// same wire, with nothing but the system calls that it needs.
//
//   cfloor SOCKET PIPE REPLY NOTOKEN
//
// serves clients on SOCKET, and reconnecting ones on PIPE. REPLY is what a client
// reads first on a handed-over connection (HelloReply and ready event), NOTOKEN
// the HelloReply that sends it to PIPE; both in hex. It prints the pids of broker
// and backend when both serve, and ends with its standard input.
//
// In it: the peer check, Hello read to its last byte and parsed, a token, a claim,
// one sendmsg; the checks of what arrived, the claim taken, early bytes read,
// reply and answer in one write, an ACK. Left out: definitions, versions,
// deadlines, retries, logs.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TOKEN = 16, EARLY = 16 << 10, FDS = 1 << 16, HELLO = 4096 };

static uint8_t reply[1024], notoken[1024];
static size_t reply_len, notoken_len;
static uint8_t placeholder[TOKEN]; // the token that REPLY was made with

static void die(const char *what) { perror(what); exit(1); }

static size_t unhex(const char *text, uint8_t *out, size_t room)
{
	size_t n = 0;
	for (unsigned byte; n < room && sscanf(text + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

static int listen_on(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	strncpy(addr.sun_path, path, sizeof addr.sun_path - 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (void *)&addr, sizeof addr) || listen(fd, 1024))
		die(path);
	return fd;
}

static void watch(int epoll, int fd)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e))
		die("epoll_ctl");
}

// Another process may hold a copy, so closing does not take it out.
static void unwatch(int epoll, int fd) { epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL); }

static int same_user(int fd)
{
	struct ucred cred;
	socklen_t n = sizeof cred;
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) && cred.uid == geteuid();
}

// field finds one field of a protobuf message: a number, or the bytes of a
// length-delimited one. It returns 0 when there is none.
static uint64_t varint(const uint8_t **p, const uint8_t *end)
{
	uint64_t v = 0;
	for (int shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t b = *(*p)++;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (b < 0x80)
			break;
	}
	return v;
}

static int field(const uint8_t *p, size_t n, unsigned number, uint64_t *value, const uint8_t **bytes)
{
	for (const uint8_t *end = p + n; p < end;) {
		uint64_t key = varint(&p, end);
		uint64_t v = 0;
		const uint8_t *at = p;
		switch (key & 7) {
		case 0: v = varint(&p, end); break;
		case 1: p += 8; break;
		case 2:
			v = varint(&p, end);
			at = p;
			if (v > (uint64_t)(end - p))
				return 0;
			p += v;
			break;
		case 5: p += 4; break;
		default: return 0;
		}
		if (key >> 3 == number) {
			*value = v;
			if (bytes)
				*bytes = at;
			return 1;
		}
	}
	return 0;
}

struct offer {
	uint64_t id;
	uint32_t early;
	uint32_t reply_len;
	uint8_t token[TOKEN];
	uint8_t reply[sizeof reply];
};

struct ack {
	uint64_t id;
	uint8_t token[TOKEN];
	uint8_t accepted;
};

static size_t offer_size(const struct offer *o) { return offsetof(struct offer, reply) + o->reply_len; }

// ---- broker ----

static struct { int conn, claim; } flying[FDS]; // by handoff id
static struct { uint8_t buf[HELLO]; size_t have; } *reading[FDS]; // parked for the rest of Hello

static void random_token(uint8_t *token)
{
	static uint8_t block[32 * TOKEN];
	static size_t next = sizeof block;
	if (next == sizeof block) {
		if (getrandom(block, sizeof block, 0) != sizeof block)
			die("getrandom");
		next = 0;
	}
	memcpy(token, block + next, TOKEN);
	next += TOKEN;
}

static void offer(int channel, int conn, uint32_t early)
{
	static uint64_t last;
	struct offer o = {.id = ++last, .early = early, .reply_len = (uint32_t)reply_len};
	random_token(o.token);
	memcpy(o.reply, reply, reply_len);
	for (uint8_t *at = o.reply; (at = memmem(at, o.reply + reply_len - at, placeholder, TOKEN)); at += TOKEN)
		memcpy(at, o.token, TOKEN);
	int claim = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	if (claim < 0)
		die("eventfd");
	struct iovec iov = {&o, offer_size(&o)};
	union { struct cmsghdr head; char room[CMSG_SPACE(2 * sizeof(int))]; } control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(&control.head), (int[]){conn, claim}, 2 * sizeof(int));
	if (sendmsg(channel, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		close(conn);
		close(claim);
		return;
	}
	flying[o.id % FDS].conn = conn;
	flying[o.id % FDS].claim = claim;
}

static void hello(int channel, int conn, const uint8_t *body, size_t n)
{
	const uint8_t *payload;
	uint64_t size = 0, capabilities = 0, early = 0;
	if (!field(body, n, 4, &size, &payload)) {
		close(conn);
		return;
	}
	field(payload, size, 6, &capabilities, NULL);
	field(payload, size, 100, &early, NULL);
	if (capabilities >> 40 & 1) {
		offer(channel, conn, (uint32_t)early);
		return;
	}
	send(conn, notoken, notoken_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(conn);
}

// read_hello takes header, then body, and not a byte more.
static void read_hello(int epoll, int channel, int conn)
{
	static uint8_t scratch[HELLO];
	uint8_t *buf = reading[conn] ? reading[conn]->buf : scratch;
	size_t have = reading[conn] ? reading[conn]->have : 0, want = 5;
	for (;;) {
		if (have >= 5) {
			uint32_t len;
			memcpy(&len, buf + 1, 4);
			if (buf[0] != 1 || len > HELLO - 5)
				goto drop;
			want = 5 + len;
		}
		if (have == want && want > 5)
			break;
		ssize_t n = recv(conn, buf + have, want - have, MSG_DONTWAIT);
		if (n > 0) {
			have += (size_t)n;
			continue;
		}
		if (n == 0 || errno != EAGAIN)
			goto drop;
		if (!reading[conn]) {
			if (!(reading[conn] = malloc(sizeof *reading[conn])))
				goto drop;
			memcpy(reading[conn]->buf, buf, have);
			watch(epoll, conn);
		}
		reading[conn]->have = have;
		return;
	}
	if (reading[conn])
		unwatch(epoll, conn);
	hello(channel, conn, buf + 5, have - 5);
	goto done;
drop:
	if (reading[conn])
		unwatch(epoll, conn);
	close(conn);
done:
	free(reading[conn]);
	reading[conn] = NULL;
}

static void acknowledged(int channel)
{
	struct ack a;
	ssize_t n = recv(channel, &a, sizeof a, MSG_DONTWAIT);
	if (n == 0)
		exit(0); // the backend has gone
	if (n != sizeof a)
		return;
	close(flying[a.id % FDS].conn);
	close(flying[a.id % FDS].claim);
}

static void broker(int listener, int channel)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(epoll, listener);
	watch(epoll, channel);
	watch(epoll, STDIN_FILENO);
	for (struct epoll_event e[64];;) {
		int n = epoll_wait(epoll, e, 64, -1);
		for (int i = 0; i < n; i++) {
			int fd = e[i].data.fd;
			if (fd == STDIN_FILENO) {
				exit(0);
			} else if (fd == channel) {
				acknowledged(channel);
			} else if (fd != listener) {
				read_hello(epoll, channel, fd);
			} else {
				int conn = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				if (conn < 0)
					continue;
				if (conn >= FDS || !same_user(conn))
					close(conn);
				else
					read_hello(epoll, channel, conn);
			}
		}
	}
}

// ---- backend ----

static int is_connection(int fd)
{
	int type;
	socklen_t n = sizeof type;
	struct sockaddr_un peer;
	socklen_t size = sizeof peer;
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) && type == SOCK_STREAM &&
	       !getpeername(fd, (void *)&peer, &size) && peer.sun_family == AF_UNIX && same_user(fd);
}

static void adopt(int epoll, int channel)
{
	static uint8_t early[EARLY];
	struct offer o;
	struct iovec iov = {&o, sizeof o};
	union { struct cmsghdr head; char room[CMSG_SPACE(2 * sizeof(int))]; } control;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(channel, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n == 0)
		exit(0); // the broker has gone
	if (n < 0 || m.msg_flags & MSG_CTRUNC || m.msg_controllen < CMSG_LEN(2 * sizeof(int)))
		return;
	int fds[2];
	memcpy(fds, CMSG_DATA(&control.head), sizeof fds);
	int conn = fds[0], claim = fds[1];
	uint64_t unit = 0;
	struct ack a = {.id = o.id};
	memcpy(a.token, o.token, TOKEN);
	a.accepted = is_connection(conn) && read(claim, &unit, sizeof unit) == sizeof unit && unit == 1;
	close(claim);
	if (a.accepted) {
		ssize_t got = 0;
		if (o.early > 0)
			got = recv(conn, early, o.early < EARLY ? o.early : EARLY, MSG_DONTWAIT);
		struct iovec parts[2] = {{o.reply, o.reply_len}, {early, got > 0 ? (size_t)got : 0}};
		struct msghdr answer = {.msg_iov = parts, .msg_iovlen = got > 0 ? 2 : 1};
		sendmsg(conn, &answer, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	send(channel, &a, sizeof a, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (a.accepted)
		watch(epoll, conn);
	else
		close(conn);
}

static void echo(int epoll, int conn)
{
	static uint8_t buf[EARLY];
	ssize_t n = recv(conn, buf, sizeof buf, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0 && send(conn, buf, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n)
		return;
	unwatch(epoll, conn);
	shutdown(conn, SHUT_RDWR); // the broker may hold a copy until the ACK
	close(conn);
}

static void backend(int listener, int channel)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(epoll, listener);
	watch(epoll, channel);
	for (struct epoll_event e[64];;) {
		int n = epoll_wait(epoll, e, 64, -1);
		for (int i = 0; i < n; i++) {
			int fd = e[i].data.fd;
			if (fd == channel) {
				adopt(epoll, channel);
			} else if (fd != listener) {
				echo(epoll, fd);
			} else {
				int conn = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				if (conn < 0)
					continue;
				if (!same_user(conn))
					close(conn);
				else
					watch(epoll, conn);
			}
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: cfloor SOCKET PIPE REPLY NOTOKEN\n");
		return 2;
	}
	memset(placeholder, 'T', TOKEN);
	reply_len = unhex(argv[3], reply, sizeof reply);
	notoken_len = unhex(argv[4], notoken, sizeof notoken);
	signal(SIGPIPE, SIG_IGN);
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		die("socketpair");
	int front = listen_on(argv[1]), back = listen_on(argv[2]);
	pid_t parent = getpid(), child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			return 0;
		close(front);
		close(pair[0]);
		backend(back, pair[1]);
	}
	close(back);
	close(pair[1]);
	printf("%d %d\n", parent, child);
	fflush(stdout);
	broker(front, pair[0]);
}
