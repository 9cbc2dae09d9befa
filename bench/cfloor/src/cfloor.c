// The cost floor of a handoff: broker and backend of the same exchange, on the
// same wire, with nothing but the system calls that it needs.
//
//   cfloor SOCKET PIPE REPLY NOTOKEN CLAIMS
//
// serves clients on SOCKET, and reconnecting ones on PIPE. REPLY is what a client
// reads first on a handed-over connection (HelloReply and ready event), NOTOKEN
// the HelloReply that sends it to PIPE; both in hex. CLAIMS is "page" (a word of
// shared memory, and the ACK in it) or "descriptors" (an eventfd, and the ACK as a
// message). It prints the pids of broker and backend when both serve, and ends with
// its standard input.
//
// In it: the peer check, Hello read to its last byte and parsed, a token, a claim,
// one sendmsg; the checks of what arrived, the claim taken, early bytes read,
// reply and answer in one write, an ACK. Left out: definitions, versions,
// deadlines, retries, logs.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TOKEN = 16, EARLY = 16 << 10, FDS = 1 << 16, HELLO = 4096, WORDS = 512 };

// A claim in the page, which both processes share, is generation and state.
enum { UNTAKEN, TAKEN, ACKED, OVER, STATES };
static _Atomic uint64_t *page; // NULL when claims are descriptors

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
	uint64_t generation; // 0: the claim is a descriptor
	uint32_t word;
	uint32_t early;
	uint32_t reply_len;
	uint8_t token[TOKEN];
	uint8_t reply[sizeof reply];
};

struct ack {
	uint32_t word;
	uint8_t token[TOKEN];
	uint8_t accepted;
};

static size_t offer_size(const struct offer *o) { return offsetof(struct offer, reply) + o->reply_len; }

// ---- broker ----

static struct { uint64_t generation; int conn, claim; } claims[WORDS];
static uint32_t flying[WORDS], flights; // words that wait for their ACK
static uint32_t spare[WORDS], spares;   // words without a claim
static struct { uint8_t buf[HELLO]; size_t have; } *reading[FDS]; // parked for the rest of Hello

static void release(uint32_t word)
{
	close(claims[word].conn);
	if (claims[word].claim >= 0)
		close(claims[word].claim);
	spare[spares++] = word;
}

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
	if (!spares) {
		close(conn);
		return;
	}
	uint32_t word = spare[--spares];
	struct offer o = {.word = word, .early = early, .reply_len = (uint32_t)reply_len};
	int fds[2] = {conn, -1};
	if (page) {
		o.generation = ++claims[word].generation;
		atomic_store(&page[word], o.generation * STATES + UNTAKEN);
	} else if ((fds[1] = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
		die("eventfd");
	}
	size_t fds_size = (page ? 1 : 2) * sizeof(int);
	random_token(o.token);
	memcpy(o.reply, reply, reply_len);
	for (uint8_t *at = o.reply; (at = memmem(at, o.reply + reply_len - at, placeholder, TOKEN)); at += TOKEN)
		memcpy(at, o.token, TOKEN);
	struct iovec iov = {&o, offer_size(&o)};
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof fds)]; } control = {0};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(fds_size)};
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(fds_size);
	memcpy(CMSG_DATA(&control.head), fds, fds_size);
	claims[word].conn = conn;
	claims[word].claim = fds[1];
	if (sendmsg(channel, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		release(word);
		return;
	}
	if (page)
		flying[flights++] = word;
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

// acknowledged closes what an ACK on the channel is about.
static void acknowledged(int channel)
{
	struct ack a;
	ssize_t n = recv(channel, &a, sizeof a, MSG_DONTWAIT);
	if (n == 0)
		exit(0); // the backend has gone
	if (n == sizeof a && a.word < WORDS)
		release(a.word);
}

// reap closes what has been acknowledged in the page.
static void reap(void)
{
	for (uint32_t i = flights; i-- > 0;) {
		uint32_t word = flying[i];
		if (atomic_load(&page[word]) != claims[word].generation * STATES + ACKED)
			continue;
		atomic_store(&page[word], claims[word].generation * STATES + OVER);
		release(word);
		flying[i] = flying[--flights];
	}
}

static void broker(int listener, int channel)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(epoll, listener);
	watch(epoll, channel);
	watch(epoll, STDIN_FILENO);
	while (spares < WORDS) {
		spare[spares] = WORDS - 1 - spares;
		spares++;
	}
	for (struct epoll_event e[64];;) {
		int n = epoll_wait(epoll, e, 64, flights ? 10 : -1);
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
		reap();
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

// take takes a claim, and closes it if it is a descriptor.
static int take(const struct offer *o, int claim)
{
	if (page) {
		uint64_t untaken = o->generation * STATES + UNTAKEN;
		return o->word < WORDS && atomic_compare_exchange_strong(&page[o->word], &untaken, o->generation * STATES + TAKEN);
	}
	uint64_t unit = 0;
	int won = read(claim, &unit, sizeof unit) == sizeof unit && unit == 1;
	close(claim);
	return won;
}

static void acknowledge(int channel, const struct offer *o, int accepted)
{
	if (page && accepted) {
		atomic_store(&page[o->word], o->generation * STATES + ACKED);
		return;
	}
	struct ack a = {.word = o->word, .accepted = (uint8_t)accepted};
	memcpy(a.token, o->token, TOKEN);
	send(channel, &a, sizeof a, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void adopt(int epoll, int channel)
{
	static uint8_t early[EARLY];
	struct offer o;
	struct iovec iov = {&o, sizeof o};
	int fds[2] = {-1, -1};
	size_t fds_size = (page ? 1 : 2) * sizeof(int);
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof fds)]; } control;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(channel, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n == 0)
		exit(0); // the broker has gone
	if (n < 0 || m.msg_flags & MSG_CTRUNC || m.msg_controllen < CMSG_LEN(fds_size))
		return;
	memcpy(fds, CMSG_DATA(&control.head), fds_size);
	int conn = fds[0];
	if (!is_connection(conn) || !take(&o, fds[1])) {
		acknowledge(channel, &o, 0);
		close(conn);
		return;
	}
	ssize_t got = 0;
	if (o.early > 0)
		got = recv(conn, early, o.early < EARLY ? o.early : EARLY, MSG_DONTWAIT);
	struct iovec parts[2] = {{o.reply, o.reply_len}, {early, got > 0 ? (size_t)got : 0}};
	struct msghdr answer = {.msg_iov = parts, .msg_iovlen = got > 0 ? 2 : 1};
	sendmsg(conn, &answer, MSG_DONTWAIT | MSG_NOSIGNAL);
	acknowledge(channel, &o, 1);
	watch(epoll, conn);
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
	if (argc != 6) {
		fprintf(stderr, "usage: cfloor SOCKET PIPE REPLY NOTOKEN page|descriptors\n");
		return 2;
	}
	memset(placeholder, 'T', TOKEN);
	reply_len = unhex(argv[3], reply, sizeof reply);
	notoken_len = unhex(argv[4], notoken, sizeof notoken);
	signal(SIGPIPE, SIG_IGN);
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		die("socketpair");
	if (!strcmp(argv[5], "page")) {
		page = mmap(NULL, WORDS * sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			die("mmap");
	}
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
	printf("[%d, %d]\n", parent, child);
	fflush(stdout);
	broker(front, pair[0]);
}
