package testutil

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Children are the processes that a process has started and not reaped.
func Children(tb testing.TB, pid int) (pids []int) {
	tb.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // each has those that it has started
	if len(threads) == 0 || err != nil {
		tb.Fatalf("threads of process %d: %v", pid, err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended, and another has its children
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				tb.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}
