/* Included before examples/c/backend.c: the process signals itself the first time it is at
 * the step that FAULT names, as STEP:NUMBER. */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_flag reached = ATOMIC_FLAG_INIT;

static inline void at(const char *step) {
	const char *fault = getenv("FAULT");
	size_t n = strlen(step);
	if (fault && strncmp(fault, step, n) == 0 && fault[n] == ':' && !atomic_flag_test_and_set(&reached))
		raise(atoi(fault + n + 1));
}
#define AT(step) at(step)
