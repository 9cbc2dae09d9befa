/* A client: sends each LINE to a service that answers lines, and prints the answers.
 *
 *     cc -o client client.c
 *     client [--late] SERVICE VERSION LINE...
 *
 * The first line goes along with the question for the service; with --late only after its
 * answer. The exit code says what is known of the last line: 0 answered, 2 nobody has
 * read it, 3 it may have run. */
#include "wire.h"

#ifndef WAIT
#define WAIT 10000 /* ms for one step */
#endif
#define HANDLE_PASSING 1ull
#define USHER (1ull << 40)

enum { ANSWERED = 0, NOT_RUN = 2, UNKNOWN = 3 };

static int retry_ms; /* after NOT_RUN: when it may be sent again; -1: not */

/* open_service sets *conn, or says why there is none. early is a first request that goes
 * along; the next bytes on the connection are then its answer. */
static int open_service(const char *service, const char *version, const void *early, size_t len, int *conn) {
	static buffer hello, out, in;
	message envelope, reply, result;
	const char *broker = getenv("RUNNING_PROCESS_BROKER_V1_SOCKET");
	int fd = broker ? dial(broker, strlen(broker)) : -1, failed = len ? UNKNOWN : NOT_RUN;
	retry_ms = 50;
	if (fd < 0) return NOT_RUN;
	hello.len = out.len = 0;
	put_number(&hello, 1, 1), put_number(&hello, 2, 1);
	put_text(&hello, 3, service), put_text(&hello, 4, version);
	put_number(&hello, 6, len ? USHER : USHER | HANDLE_PASSING);
	put_text(&hello, 8, "hello"), put_text(&hello, 11, "usher-c");
	put_number(&hello, 100, len);
	put_frame(&out, REQUEST, CONTROL, &hello, 1);
	put(&out, early, len);
	/* Who refuses may not read everything: the answer is there all the same. */
	if (!send_all(fd, out.at, out.len, WAIT) && errno != EPIPE && errno != ECONNRESET) goto fail;
	if (!read_frame(fd, &in, &envelope, WAIT) || !is(&envelope, RESPONSE, CONTROL) ||
	    !parse(&reply, envelope.f[4].at, envelope.f[4].len)) goto fail;
	if (reply.f[2].at && parse(&result, reply.f[2].at, reply.f[2].len)) { /* refused */
		uint64_t code = result.f[4].n;
		fprintf(stderr, "refused: %.*s\n", (int)result.f[1].len, result.f[1].at);
		retry_ms = (code >= 3 && code <= 5) || code == 9 ? (int)result.f[6].n : -1;
		failed = NOT_RUN;
		goto fail;
	}
	if (!reply.f[1].at || !parse(&result, reply.f[1].at, reply.f[1].len)) goto fail;
	if (result.f[7].len) { /* a token: a backend takes this very connection, and says so */
		static buffer more;
		message ready;
		if (!read_frame(fd, &more, &envelope, WAIT) || !is(&envelope, EVENT, HANDOFF) ||
		    !parse(&ready, envelope.f[4].at, envelope.f[4].len) ||
		    !equal(ready.f[1], result.f[7]) || ready.f[2].n != 1) goto fail;
		return *conn = fd, ANSWERED;
	}
	close(fd); /* without a token nobody has read early: it goes to the backend's own socket */
	if ((fd = dial((const char *)result.f[3].at, result.f[3].len)) < 0) return NOT_RUN;
	failed = UNKNOWN; /* it may go in part */
	if (!send_all(fd, early, len, WAIT)) goto fail;
	return *conn = fd, ANSWERED;
fail:
	close(fd);
	return failed;
}

/* print_answer reads a line byte by byte, so that nothing behind it is lost. */
static int print_answer(int conn) {
	for (char c = 0; c != '\n'; putchar(c))
		if (receive(conn, &c, 1, WAIT) != 1) return UNKNOWN;
	return ANSWERED;
}

int main(int argc, char **argv) {
	bool late = argc > 1 && strcmp(argv[1], "--late") == 0;
	argv += late, argc -= late;
	if (argc < 4 || strlen(argv[3]) > 4000) return 64;
	char line[4096];
	int conn = -1, is_known = NOT_RUN, len = snprintf(line, sizeof line, "%s\n", argv[3]);
	for (int i = 0; i < 3 && is_known == NOT_RUN && retry_ms >= 0; i++) {
		usleep((useconds_t)retry_ms * 1000);
		is_known = open_service(argv[1], argv[2], line, late ? 0 : (size_t)len, &conn);
	}
	for (int i = 3; i < argc && is_known == ANSWERED; i++) {
		if (i > 3 || late) {
			len = snprintf(line, sizeof line, "%.4000s\n", argv[i]);
			if (!send_all(conn, line, (size_t)len, WAIT)) return NOT_RUN; /* one write: all or nothing */
		}
		is_known = print_answer(conn);
	}
	return is_known;
}
