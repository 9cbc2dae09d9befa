package start

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// TestStartedOnce: clients that come at once share one start, and are handed over.
func TestStartedOnce(t *testing.T) {
	surroundings(t, "serves")
	broker(t)
	const clients = 8
	pids, errs := make(chan int, clients), make(chan error, clients)
	for i := range clients {
		go func() {
			pid, handed, err := ask(fmt.Sprint("request", i))
			if err == nil && !handed {
				err = errors.New("not handed over")
			}
			pids <- pid
			errs <- err
		}()
	}
	served := make(map[int]bool)
	for range clients {
		served[<-pids] = true
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	all := instances(t)
	if len(served) != 1 || len(all) != 1 || !served[all[0].PID] || all[0].State != "ready" {
		t.Fatalf("served by %v, and there are %+v", served, all)
	}
	if log := fixture.Usher(t, "logs", fixture.Service); !strings.Contains(log, fmt.Sprint("serving as ", all[0].PID)) {
		t.Errorf("its log is %q", log)
	}
}

// TestDiesBeforeReady: whoever waits is told how it ended, and what it said last.
func TestDiesBeforeReady(t *testing.T) {
	surroundings(t, "fails")
	broker(t)
	_, _, err := ask("request")
	var refused *client.RefusedError
	const want = "the daemon of lines 1.0.0 exited with code 1 before it was ready: no licence | instance: can't serve; its log is "
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, want) {
		t.Fatalf("%v; want %q", err, want)
	}
	_, log, _ := strings.Cut(refused.Reason, want)
	log, _, _ = strings.Cut(log, "\n")
	if _, err := os.Stat(strings.TrimSpace(log)); err != nil {
		t.Error(err)
	}
}

// TestNotReadyInTime: it is ended, and whoever waits is told so.
func TestNotReadyInTime(t *testing.T) {
	surroundings(t, "hangs alone", "--start-timeout", "500ms")
	broker(t)
	const want = "was not ready in 500ms, and was ended"
	if _, _, err := ask("request"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %q", err, want)
	}
	if all := instances(t); len(all) != 0 {
		t.Errorf("there are %+v", all)
	}
}

// TestStoppedEarly: an instance that is ended before it was ready, ends with what it has
// started.
func TestStoppedEarly(t *testing.T) {
	surroundings(t, "hangs", "--start-timeout", "1h")
	broker(t)
	failed := make(chan error, 1)
	go func() {
		_, _, err := ask("request")
		failed <- err
	}()
	var parent, child int
	fixture.Until(t, "it has a child", func() bool {
		for _, i := range instances(t) {
			text, _ := os.ReadFile(filepath.Join(os.Getenv("LOCALAPPDATA"), "running-process", "shared", fixture.Service+".log"))
			if _, err := fmt.Sscanf(string(text), "child %d", &child); err == nil {
				parent = i.PID
				return true
			}
		}
		return false
	})
	own, other := watched(t, parent), watched(t, child)
	fixture.Usher(t, "service", "stop", fixture.Service)
	const want = "was stopped before it was ready"
	if err := <-failed; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %q", err, want)
	}
	ended(t, own)
	ended(t, other)
}

// TestEndsReady: an instance that is killed is started again.
func TestEndsReady(t *testing.T) {
	surroundings(t, "serves")
	broker(t)
	first := mustAsk(t, "first")
	process := watched(t, first)
	end(first)
	ended(t, process)
	if second := mustAsk(t, "second"); second == first {
		t.Errorf("both by %d", first)
	}
}

func TestRestartAndStop(t *testing.T) {
	surroundings(t, "serves")
	broker(t)
	first := mustAsk(t, "first")
	old := watched(t, first)
	fixture.Usher(t, "service", "restart", fixture.Service)
	ended(t, old)
	second := mustAsk(t, "second")
	if second == first {
		t.Errorf("both by %d", first)
	}
	current := watched(t, second)
	fixture.Usher(t, "service", "stop", fixture.Service)
	ended(t, current)
	if all := instances(t); len(all) != 0 {
		t.Errorf("behind a stop there are %+v", all)
	}
	fixture.Usher(t, "service", "pause", fixture.Service)
	fixture.Usher(t, "service", "resume", fixture.Service)
	mustAsk(t, "third")
}

// TestBrokerEnds: an instance lives on, registers with the next broker, and is not started
// twice.
func TestBrokerEnds(t *testing.T) {
	for _, how := range []string{"killed", "shut down"} {
		t.Run(how, func(t *testing.T) {
			surroundings(t, "serves")
			first := broker(t)
			pid := mustAsk(t, "first")
			if how == "killed" {
				first.Kill()
			} else {
				fixture.Usher(t, "shutdown")
			}
			first.Ends()
			broker(t)
			fixture.Until(t, "it has registered", func() bool { return len(instances(t)) == 1 })
			if again := mustAsk(t, "second"); again != pid {
				t.Errorf("by %d, and then by %d", pid, again)
			}
		})
	}
}
