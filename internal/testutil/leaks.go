package testutil

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// settleTime is how long what must happen may take. Who waits goes on as soon as it has, so
// that it is long for a busy machine costs nobody anything.
const settleTime = 30 * time.Second

// Leaks fails the test when, at its end, it has more descriptors open or more
// goroutines running than at this call. Call it first, so that it judges after
// every other cleanup, and never in a test that runs in parallel to another. In
// a testing/synctest test call it outside of the bubble.
//
// Descriptors are counted where the system lists them (/proc/self/fd, /dev/fd).
func Leaks(tb testing.TB) {
	tb.Helper()
	startPoller(tb)
	before := descriptors(tb)
	goroutines := goleak.IgnoreCurrent()
	tb.Cleanup(func() {
		var err error
		if !Settles(func() bool { err = goleak.Find(goroutines); return err == nil }) {
			tb.Errorf("after the test: %v", err)
		}
		var after []string
		if !Settles(func() bool { after = descriptors(tb); return len(after) <= len(before) }) {
			tb.Errorf("%d descriptors were open before the test, %d are after it:\n%s\n%s",
				len(before), len(after), strings.Join(before, " "), strings.Join(after, " "))
		}
	})
}

// WaitFor waits until cond holds, and fails the test when it doesn't come to
// hold soon. It is for facts that no event announces; what names the fact.
func WaitFor(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	if !Settles(cond) {
		tb.Fatalf("%s: not so after %v", what, settleTime)
	}
}

// settles polls: what it waits for has no event.
func Settles(cond func() bool) bool {
	for end := time.Now().Add(settleTime); ; time.Sleep(time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// OpenDescriptors returns how many descriptors this process has open, and 0
// where the system does not tell.
func OpenDescriptors(tb testing.TB) int {
	tb.Helper()
	return len(descriptors(tb))
}

// descriptors lists what is open as number=target.
func descriptors(tb testing.TB) []string {
	tb.Helper()
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		var open []string
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err == nil && !strings.HasSuffix(target, "/fd") { // the listing itself
				open = append(open, e.Name()+"="+target)
			}
		}
		sort.Strings(open)
		return open
	}
	return nil
}

// startPoller makes the runtime open the descriptors that it keeps for good.
func startPoller(tb testing.TB) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	_ = r.Close()
	_ = w.Close()
}
