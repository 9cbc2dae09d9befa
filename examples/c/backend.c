/* A backend: answers each line with "LINE done", and says on standard error what it was
 * asked.
 *
 *     cc -pthread -o backend backend.c
 *     backend SERVICE VERSION PIPE
 *     backend                        (started by the broker)
 *
 * PIPE is its own socket, which clients reach where a handoff is not possible. One thread
 * has the channel, one the socket, and each connection has its own. */
#include "life.h"

#include <fcntl.h>
#include <sys/stat.h>

#ifndef AT
#define AT(step) /* between two steps; tests stop the process here */
#endif

enum { REJECTED = 1, DESCRIPTORS, CLAIM_LOST, BUSY, UNSUPPORTED = 6 };
enum { UNTAKEN, TAKEN, ACKED };

typedef struct { /* a connection; of one that was handed over, what is owed on it too */
	int fd, claimed;
	channel *ch;
	uint32_t early, word;
	uint64_t generation, id;
	uint8_t token[16];
	buffer preamble;
} connection;

static const char *service, *version, *pipe_path;
static int listener;

static void answer(channel *ch, field token, uint64_t id, bool accepted, int reason) {
	buffer ack = {.len = 0}, out = {.len = 0};
	put_bytes(&ack, 1, token.at, token.len), put_number(&ack, 2, id);
	put_number(&ack, 3, accepted), put_number(&ack, 4, (uint64_t)reason);
	put_frame(&out, RESPONSE, CHANNEL, &ack, id);
	say(ch, &out); /* a broker that has gone needs none */
}

/* swap changes a word of the page in one step that no other process can split. */
static bool swap(channel *ch, uint32_t word, uint64_t generation, int from, int to) {
	uint64_t expected = generation * 4 + (uint64_t)from;
	return atomic_compare_exchange_strong(&ch->words[word], &expected, generation * 4 + (uint64_t)to);
}

/* serve answers lines, of which the first n bytes in line have been read. */
static void serve(int fd, char *line, size_t n) {
	for (;;) {
		char *end;
		while ((end = memchr(line, '\n', n)) == NULL) {
			ssize_t more = n < MOST ? receive(fd, line + n, MOST - n, FOREVER) : -1;
			if (more <= 0) return;
			n += (size_t)more;
		}
		size_t len = (size_t)(end - line);
		if (write(2, line, len + 1) < 0) return;
		AT("asked");
		if (!send_all(fd, line, len, 1000) || !send_all(fd, " done\n", 6, 1000)) return;
		n -= len + 1;
		memmove(line, end + 1, n);
	}
}

/* greet reads what came along with Hello, acknowledges, and only then writes. */
static ssize_t greet(connection *c, char *first) {
	ssize_t n = 0;
	if (c->early) {
		if ((n = receive(c->fd, first, c->early < MOST ? c->early : MOST, 1000)) <= 0) return -1;
		AT("read");
	}
	if (!c->generation || !swap(c->ch, c->word, c->generation, TAKEN, ACKED))
		answer(c->ch, (field){c->token, sizeof c->token, 0}, c->id, true, 0);
	AT("acked");
	if (!send_all(c->fd, c->preamble.at, c->preamble.len, 1000)) return -1;
	AT("replied");
	return n;
}

static void *run(void *arg) {
	connection *c = arg;
	static _Thread_local char line[MOST];
	ssize_t n = 0;
	if (c->claimed) n = greet(c, line), release(c->ch);
	if (n >= 0) serve(c->fd, line, (size_t)n);
	close(c->fd);
	free(c);
	counted(-1);
	return NULL;
}

/* start has a thread serve c, which has been counted. Without one the
 * connection ends, and its client learns that the outcome is unknown. */
static void start(connection *c) {
	pthread_t t;
	if (pthread_create(&t, NULL, run, c) == 0) {
		pthread_detach(t);
		return;
	}
	close(c->fd);
	if (c->ch) release(c->ch);
	free(c);
	counted(-1);
}

static bool check_connection(int fd) { /* judged without reading it */
	int domain = 0, type = 0, listens = 1;
	socklen_t n = sizeof(int), m = n, o = n, p = sizeof(struct sockaddr_un);
	struct sockaddr_un peer;
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &o) == 0 && !listens &&
	       getpeername(fd, (struct sockaddr *)&peer, &p) == 0 && same_user(fd);
}

static bool take(int claim) { /* the unit out of an eventfd, or the byte out of a pipe */
	char link[64], kind[32] = "";
	uint64_t unit = 0;
	struct stat st;
	if (fstat(claim, &st) == 0 && S_ISFIFO(st.st_mode)) return read(claim, &unit, 1) == 1;
	snprintf(link, sizeof link, "/proc/self/fd/%d", claim);
	return readlink(link, kind, sizeof kind - 1) > 0 && strcmp(kind, "anon_inode:[eventfd]") == 0 &&
	       read(claim, &unit, sizeof unit) == sizeof unit && unit == 1;
}

/* adopt checks an offer and takes its claim; 0, or why not. The descriptor in c is then ours. */
static int adopt(connection *c, const message *envelope, const message *offer, const int *fds, int count) {
	const field *f = offer->f;
	c->id = f[2].n, c->early = (uint32_t)f[5].n, c->word = (uint32_t)f[8].n, c->generation = f[9].n;
	if (count != (c->generation ? 1 : 2)) return DESCRIPTORS;
	if (f[1].len != sizeof c->token || f[4].len == 0 || c->id != envelope->f[5].n) return REJECTED;
	if (!check_connection(fds[0]) || (c->generation && (!c->ch->words || f[8].n > 511))) return DESCRIPTORS;
	memcpy(c->token, f[1].at, f[1].len);
	put(&c->preamble, f[4].at, f[4].len);
	if (!counted(1)) return BUSY;
	if (!(c->generation ? swap(c->ch, c->word, c->generation, UNTAKEN, TAKEN) : take(fds[1])))
		return counted(-1), CLAIM_LOST;
	c->fd = fds[0], c->claimed = 1;
	AT("claimed");
	return 0;
}

/* receive_part returns how many bytes have come, or at the end no positive number, and at most
 * 8 descriptors: *count is 9 when some got lost. */
static ssize_t receive_part(int from, uint8_t *at, size_t len, int *fds, int *count, int ms) {
	union { struct cmsghdr align; char at[CMSG_SPACE(8 * sizeof(int))]; } control;
	struct iovec to = {at, len};
	struct msghdr m = {.msg_iov = &to, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n;
	*count = 0;
	if (!wait_for(from, POLLIN, ms) || (n = recvmsg(from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) <= 0) return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			*count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(c), (size_t)*count * sizeof(int));
		}
	if (m.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
		while (*count > 0) close(fds[--*count]);
		*count = 9;
	}
	return n;
}

/* frame_length is that of the frame which b begins with, its header included; the header's
 * while that is not there, or where the frame is too long. */
static size_t frame_length(const buffer *b) {
	size_t len = b->len < 5 ? 0 : b->at[1] | b->at[2] << 8 | b->at[3] << 16 | (size_t)b->at[4] << 24;
	return len <= MOST - 5 ? len + 5 : 5;
}

/* receive_message returns one message's length, and otherwise what receive_part does. On a
 * stream it is read to its end and not beyond: what follows has descriptors of its own. */
static ssize_t receive_message(int from, buffer *b, int *fds, int *count, int ms) {
	int type = 0, late[8], more = 0;
	socklen_t size = sizeof type;
	if (getsockopt(from, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return -1;
	ssize_t n = receive_part(from, b->at, type == SOCK_STREAM ? 5 : MOST, fds, count, ms);
	b->len = n > 0 ? (size_t)n : 0;
	while (n > 0 && type == SOCK_STREAM && b->len < frame_length(b)) {
		n = receive_part(from, b->at + b->len, frame_length(b) - b->len, late, &more, ms);
		if (n > 0 && more == 0) {
			b->len += (size_t)n;
			continue;
		}
		for (int i = 0; i < more && more <= 8; i++) close(late[i]);
		for (int i = 0; i < *count && *count <= 8; i++) close(fds[i]);
		return *count = 0, -1;
	}
	return n > 0 ? (ssize_t)b->len : n;
}

static bool whole(const buffer *b) { return b->len >= 5 && b->at[0] == 1 && b->len == frame_length(b); }

/* take_message takes one message through the steps; false when the channel has ended. */
static bool take_message(channel *ch) {
	static buffer in;
	message envelope, offer = {0};
	int fds[8], count, reason;
	if (receive_message(ch->fd, &in, fds, &count, FOREVER) <= 0) return false;
	AT("received");
	connection *c = calloc(1, sizeof *c);
	if (!c) abort();
	c->ch = ch;
	bool sound = whole(&in) && parse(&envelope, in.at + 5, in.len - 5);
	if (!sound) reason = REJECTED;
	else if (envelope.f[1].n == 1 && (envelope.f[2].n != REQUEST || envelope.f[3].n != CHANNEL)) {
		draining = is(&envelope, EVENT, CHANNEL) && parse(&offer, envelope.f[4].at, envelope.f[4].len) && offer.f[1].n == DRAIN;
		reason = UNSUPPORTED, offer = (message){0};
	}
	else if (!is(&envelope, REQUEST, CHANNEL) || !parse(&offer, envelope.f[4].at, envelope.f[4].len)) reason = REJECTED;
	else reason = adopt(c, &envelope, &offer, fds, count);
	for (int i = reason ? 0 : 1; i < count && count <= 8; i++) close(fds[i]);
	if (!reason) return atomic_fetch_add(&ch->users, 1), start(c), true;
	free(c);
	if (draining) return false; /* all offers came before */
	if (offer.f[1].len > 32) offer.f[1].len = 32;
	answer(ch, offer.f[1], offer.f[2].n, false, reason);
	return sound && (count <= 2 || count == 9);
}

static channel *refused(channel *ch, int *fds, int count) {
	for (int i = 0; i < count && count <= 8; i++) close(fds[i]);
	free(ch);
	return NULL;
}

static bool map(channel *ch, int page) {
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct stat st;
	int has = fcntl(page, F_GET_SEALS);
	if (has < 0 || (has & seals) != seals || fstat(page, &st) != 0 || st.st_size != 4096) return false;
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
	if (at != MAP_FAILED) ch->words = at;
	return at != MAP_FAILED;
}

/* join registers with the broker; NULL when that was not possible. */
static channel *join(void) {
	static buffer request, out, in;
	const char *broker = getenv("RUNNING_PROCESS_BROKER_V1_SOCKET");
	int fds[8], count = 0, fd = broker ? dial(broker, strlen(broker)) : -1;
	if (fd < 0) return NULL;
	channel *ch = calloc(1, sizeof *ch);
	if (!ch) abort();
	ch->users = 1;
	request.len = out.len = 0;
	put_text(&request, 1, service), put_text(&request, 2, version), put_text(&request, 3, pipe_path);
	put_number(&request, 5, 1), put_number(&request, 6, 1); /* claims in a page; other messages are survived */
	put_frame(&out, REQUEST, REGISTRATION, &request, 1);
	bool came = send_all(fd, out.at, out.len, 2000) && receive_message(fd, &in, fds, &count, 2000) > 0;
	close(fd);
	message envelope, reply;
	if (!came || !whole(&in) || !parse(&envelope, in.at + 5, in.len - 5) || !is(&envelope, RESPONSE, REGISTRATION) ||
	    !parse(&reply, envelope.f[4].at, envelope.f[4].len) || !reply.f[1].n ||
	    count != (reply.f[6].n ? 2 : 1)) return refused(ch, fds, count);
	if (reply.f[6].n) {
		if (!map(ch, fds[1])) return refused(ch, fds, count);
		close(fds[1]);
	}
	ch->fd = fds[0];
	return ch;
}

static void *accept_all(void *unused) {
	(void)unused;
	for (int fd;;) {
		if ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
			if (draining) return NULL; /* nobody is left in the queue */
			usleep(10000);
			continue;
		}
		connection *c = calloc(1, sizeof *c);
		if (c && same_user(fd) && counted(1)) {
			c->fd = fd;
			start(c);
			continue;
		}
		free(c);
		close(fd);
	}
}

/* inherit takes the channel that the broker has started this process with, and the page. */
static channel *inherit(const char *numbers) {
	channel *ch = calloc(1, sizeof *ch);
	if (!ch) abort();
	int page = -1;
	ch->users = 1;
	if (sscanf(numbers, "%d,%d", &ch->fd, &page) < 1 || fcntl(ch->fd, F_SETFD, FD_CLOEXEC) != 0) abort();
	if (page >= 0 && !map(ch, page)) abort();
	if (page >= 0) close(page);
	return ch;
}

/* begin finds out what this process is to serve; its channel, where the broker has started it. */
static channel *begin(int argc, char **argv) {
	static char path[sizeof ((struct sockaddr_un *)0)->sun_path];
	const char *numbers = getenv("USHER_CHANNEL"), *broker = getenv("RUNNING_PROCESS_BROKER_V1_SOCKET");
	if (argc == 4) service = argv[1], version = argv[2], pipe_path = argv[3];
	if (argc == 4 || !numbers || !broker || !strchr(broker, '/')) return NULL;
	service = getenv("RUNNING_PROCESS_BROKER_V1_SERVICE_NAME"), version = getenv("RUNNING_PROCESS_BROKER_V1_SERVICE_VERSION");
	int dir = (int)(strrchr(broker, '/') - broker);
	if (snprintf(path, sizeof path, "%.*s/%s-%d.sock", dir, broker, service, (int)getpid()) >= (int)sizeof path) return NULL;
	pipe_path = path, idle = nanoseconds(getenv("USHER_IDLE"));
	channel *ch = inherit(numbers);
	unsetenv("USHER_CHANNEL"), unsetenv("USHER_IDLE");
	return ch;
}

/* end serves who has come before, and returns when the last of them has gone. */
static void end(pthread_t accepting, const struct stat *bound) {
	struct stat st;
	if (stat(pipe_path, &st) == 0 && st.st_ino == bound->st_ino) unlink(pipe_path); /* else it is a successor's */
	shutdown(listener, SHUT_RDWR);
	pthread_join(accepting, NULL);
	pthread_mutex_lock(&lock);
	while (open_connections) pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv) {
	channel *ch = begin(argc, argv);
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct stat bound;
	if (!pipe_path || strlen(pipe_path) >= sizeof at.sun_path) return 64;
	memcpy(at.sun_path, pipe_path, strlen(pipe_path));
	umask(077);
	unlink(pipe_path); /* in a directory that is ours alone */
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 128) != 0 ||
	    stat(pipe_path, &bound) != 0) return perror(pipe_path), 1;
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic), pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &monotonic);
	quiet = now();
	pthread_t accepting, telling;
	if (pthread_create(&accepting, NULL, accept_all, NULL) != 0) return 1;
	if (ch) note(ch, READY, pipe_path, 0);
	for (;; usleep(200000)) { /* a broker may come, go, and be replaced */
		if (!ch && (ch = join()) == NULL) {
			pthread_mutex_lock(&lock);
			bool over = idle && !open_connections && now() - quiet > idle;
			pthread_mutex_unlock(&lock);
			if (over) return 0;
			continue;
		}
		ch->users++;
		if (pthread_create(&telling, NULL, tell, ch) == 0) pthread_detach(telling);
		else ch->users--;
		while (take_message(ch)) {}
		if (draining) return end(accepting, &bound), 0;
		ch->over = true;
		counted(0);
		release(ch), ch = NULL;
	}
}
