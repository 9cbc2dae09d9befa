//go:build unix

package testutil

import (
	"testing"

	"golang.org/x/sys/unix"
)

// FillTable leaves this process no room for another descriptor until release is
// called, or the test ends. Not for tests that run in parallel to another.
func FillTable(tb testing.TB) (release func()) {
	tb.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		tb.Fatal(err)
	}
	full := old
	full.Cur = 1
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &full); err != nil {
		tb.Fatal(err)
	}
	release = func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			tb.Error(err)
		}
	}
	tb.Cleanup(release)
	return release
}
