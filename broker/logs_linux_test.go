package broker_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestLogOfRunningInstance: the log of a process that writes 10 MB is bounded while it
// runs, its last lines are there, and a log that nobody writes is not looked at.
func TestLogOfRunningInstance(t *testing.T) {
	s := starting(t, "", "talks")
	path := filepath.Join(s.dir, "logs", demo+".log")
	pid, err := strconv.Atoi(word(s.mustAsk(demoVersion), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	size := func(path string) int64 {
		fi, err := os.Stat(path)
		if err != nil {
			return 1 << 40
		}
		return fi.Size()
	}
	testutil.WaitFor(t, "the log is bounded", func() bool {
		return size(path) <= logfile.Max && size(logfile.Older(path)) <= logfile.Max
	})
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the instance has ended: %v", err)
	}
	if !testutil.Portable { // where nothing tells it is always due
		testutil.WaitFor(t, "no look is due", func() bool { return !s.LookDue() })
	}
	var text []byte
	for _, file := range []string{logfile.Older(path), path} {
		part, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	if !strings.Contains(string(text), "\n   10239 x") {
		t.Error("the last line is missing")
	}
}

// TestLogOfOneThatDrains is in use as long as it serves.
func TestLogOfOneThatDrains(t *testing.T) {
	s := starting(t, "", "")
	conn, _ := s.stay(demoVersion)
	s.control(verbStop, "", time.Millisecond)
	if s.Backends() != 0 || !s.LogsInUse(demo)[demo+".log"] {
		t.Errorf("%d backends, and in use are %v", s.Backends(), s.LogsInUse(demo))
	}
	_ = conn.Close()
	testutil.WaitFor(t, "it has ended", func() bool { return len(s.LogsInUse(demo)) == 0 })
}
