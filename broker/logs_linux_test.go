package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
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

// TestLogsPass: the log of what passes to a successor is bounded by that one, and by it alone,
// also while this broker stays, and when what writes it ends; that is no event of this one's.
func TestLogsPass(t *testing.T) {
	for _, mode := range []string{"sdk", "inetd", "listen-fds"} {
		t.Run(mode, func(t *testing.T) {
			s, path := passable(t, "", patience)
			log := filepath.Join(s.dir, "logs", demo+".log")
			begin := map[string]func() (pid int){
				"sdk": func() int {
					s.defineStart(ownBinary(t), "", "")
					return pidOf(t, s.mustAsk(demoVersion))
				},
				"inetd": func() int {
					s.defineInetd(ownBinary(t), fmt.Sprintf("listen = %q", path))
					_, pid := s.meet(mode, path)
					return pid
				},
				"listen-fds": func() int {
					all, _ := kinds(t, s.dir)
					s.write(demo+".toml", all[mode])
					return s.whoAt(path)
				},
			}[mode]
			pid := begin()
			s.write("other.toml", fmt.Sprintf("binary_path = %q\n[start]\nmode = \"stdio\"\nenv.USHER_TEST_HELPER = \"stdio\"\n", ownBinary(t)))
			stays := s.dial()
			send(t, stays, helloFor(t, usherClient, func(r *hello.Request) { r.Service = "other" }))
			if _, reply := readReply(t, stays); reply.Refused != nil {
				t.Fatalf("got %v", reply)
			}
			testutil.WaitFor(t, "both logs are watched", func() bool { return s.LogsWatched() == 2 })
			s.upgrade()
			testutil.WaitFor(t, "it stays", s.Stays)
			if n := s.LogsWatched(); n != 0 {
				t.Errorf("%d logs are bounded by both", n)
			}
			for range 2 {
				_ = os.Remove(logfile.Older(log))
				fill, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
				if err == nil {
					_, err = fill.Write(make([]byte, logfile.Max+1))
					_ = fill.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
				testutil.WaitFor(t, "the next broker bounds it", func() bool {
					_, err := os.Stat(logfile.Older(log))
					fi, logErr := os.Stat(log)
					return err == nil && logErr == nil && fi.Size() <= logfile.Max // what is written before the cut is lost
				})
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			reaped(t, pid)
			_ = stays.CloseWrite()
			if err := s.end(); err != nil {
				t.Error(err)
			}
			if n := s.LogsWatched(); n != 0 {
				t.Errorf("at the end %d logs are watched", n)
			}
			for _, name := range s.events() { // of its end
				if strings.HasPrefix(name, "DIED") || name == "backend.exited" || name == "process.ended" {
					t.Errorf("%s is kept by both", name)
				}
			}
		})
	}
}
