package testutil

import "testing"

// Needs skips a test of what the build tag usher_portable does without.
func Needs(tb testing.TB, what string) {
	tb.Helper()
	if Portable {
		tb.Skip("usher_portable does without " + what)
	}
}
