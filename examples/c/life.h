/* How an instance lives that the broker has started, or knows: it says how many connections it
 * has, and when it has had none for its idle time; docs/protocol.md, "Started instances". */
#ifndef LIFE_H
#define LIFE_H

#include "wire.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

enum { READY = 1, IDLE, DRAIN, ACTIVE }; /* notes */
enum { CONNECTIONS = 512, FOREVER = -1 };

typedef struct { /* a channel; the page with it, and the last user frees both */
	int fd;
	_Atomic uint64_t *words;
	atomic_int users;
	atomic_bool over;
} channel;

static long long idle; /* ns without a connection until it may go; 0 for ever */
static atomic_bool draining;

static pthread_mutex_t saying = PTHREAD_MUTEX_INITIALIZER; /* of what is sent on the channel */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the three below */
static pthread_cond_t changed;
static int open_connections;
static unsigned long changes;
static long long quiet; /* since when nobody has come or gone */

static long long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* counted is called when a connection comes (1) or has ended (-1), and has tell look (0);
 * false when there are too many. */
static bool counted(int by) {
	pthread_mutex_lock(&lock);
	bool room = by < 0 || open_connections < CONNECTIONS;
	if (room && by) open_connections += by, changes++, quiet = now();
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return room;
}

static void release(channel *ch) {
	if (atomic_fetch_sub(&ch->users, 1) > 1) return;
	if (ch->words) munmap((void *)ch->words, 4096);
	close(ch->fd);
	free(ch);
}

/* say sends a message: on a stream two of them would mix. */
static bool say(channel *ch, const buffer *b) {
	pthread_mutex_lock(&saying);
	bool said = send_all(ch->fd, b->at, b->len, 1000);
	pthread_mutex_unlock(&saying);
	return said;
}

static bool note(channel *ch, int kind, const char *path, int active) {
	buffer body = {.len = 0}, out = {.len = 0};
	put_number(&body, 1, (uint64_t)kind), put_text(&body, 2, path), put_number(&body, 3, (uint64_t)active);
	put_frame(&out, EVENT, CHANNEL, &body, 0);
	return say(ch, &out);
}

/* tell tells the broker how many connections there are, a while after that has changed, and
 * when there has been none for the idle time. */
static void *tell(void *arg) {
	channel *ch = arg;
	unsigned long seen = 0;
	int said = 0, n = 0;
	for (bool sent = true, late; sent && !ch->over;) {
		pthread_mutex_lock(&lock);
		for (late = false; seen == changes && !late && !ch->over;) {
			long long by = quiet + idle > now() ? quiet + idle : now() + idle; /* again after as long */
			struct timespec at = {.tv_sec = by / 1000000000, .tv_nsec = by % 1000000000};
			if (open_connections || !idle || draining) pthread_cond_wait(&changed, &lock);
			else late = pthread_cond_timedwait(&changed, &lock, &at) == ETIMEDOUT;
		}
		seen = changes;
		pthread_mutex_unlock(&lock);
		if (!late && !draining) usleep(100000);
		pthread_mutex_lock(&lock);
		n = open_connections;
		pthread_mutex_unlock(&lock);
		if (late) sent = note(ch, IDLE, "", 0);
		else if (n != said) sent = note(ch, ACTIVE, "", n), said = n;
	}
	release(ch);
	return NULL;
}

/* nanoseconds of a duration such as 1h30m or 500ms; 0 where there is none. */
static long long nanoseconds(const char *text) {
	static const struct { const char *name; double ns; } units[] = {
		{"ms", 1e6}, {"µs", 1e3}, {"ns", 1}, {"h", 3600e9}, {"m", 60e9}, {"s", 1e9}};
	double total = 0;
	for (char *end; text && *text; text = end) {
		double n = strtod(text, &end);
		size_t i = 0;
		while (i < 6 && strncmp(end, units[i].name, strlen(units[i].name)) != 0) i++;
		if (end == text || i == 6) return 0;
		total += n * units[i].ns, end += strlen(units[i].name);
	}
	return (long long)total;
}

#endif
