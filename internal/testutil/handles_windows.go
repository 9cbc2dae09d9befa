package testutil

import (
	"testing"

	"github.com/seed-7265657e/usher/internal/usage"
)

// Handles is how many handles a process has open, those of its runtime's threads among them.
func Handles(tb testing.TB, pid int) int {
	tb.Helper()
	open, err := usage.Handles(pid)
	if err != nil {
		tb.Fatal(err)
	}
	return len(open)
}
