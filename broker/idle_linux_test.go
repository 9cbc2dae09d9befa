package broker_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestStaysForItsFirstHello: a broker that would end at once waits for the client that has
// started it, not for longer, and for nobody behind it.
func TestStaysForItsFirstHello(t *testing.T) {
	s := newSite(t, func(o *options) { o.IdleExit, o.FirstHello = time.Nanosecond, time.Hour })
	for range 20 { // time enough to end; and none of them is a Hello
		readStatus(t, s)
	}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "") // not that it shuts down
	if err := s.end(); err != nil {
		t.Error(err)
	}
	s = newSite(t, func(o *options) { o.IdleExit, o.FirstHello = time.Nanosecond, time.Millisecond })
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// TestHellosWhileIdle: an instance that is let go for want of clients at random moments
// costs nobody an answer; it is served by it or by its successor. USHER_TEST_HELLOS=10000 is
// the number that the project holds itself to.
func TestHellosWhileIdle(t *testing.T) { hellosWhileIdle(t, "") }

// TestHellosWhileBusy: the same, of instances that stay now and then, for they are at work,
// also in the moment in which they are let go.
func TestHellosWhileBusy(t *testing.T) { hellosWhileIdle(t, "busy now and then") }

func hellosWhileIdle(t *testing.T, mode string) {
	t.Helper()
	const clients = 4
	const idle = 2 * time.Millisecond
	runtimeDir := testutil.SocketDir(t)
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	s := starting(t, fmt.Sprintf("idle = %q", idle), mode)
	const rounds = 4 // so that instances are let go even where a busy machine leaves no pause between clients
	each := (testutil.Repeat(t, "USHER_TEST_HELLOS", 1000, 200) + rounds*clients - 1) / (rounds * clients)
	var mu sync.Mutex
	instances := make(map[string]int)
	for range rounds {
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range each {
					time.Sleep(rand.N(8 * idle))
					answer, err := s.who(demoVersion)
					if err != nil {
						t.Error(err)
						continue
					}
					mu.Lock()
					instances[word(answer, "pid")]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		testutil.WaitFor(t, "the last has gone", func() bool { return s.Backends() == 0 })
	}
	t.Logf("%d Hellos, %d instances", rounds*clients*each, len(instances))
	if len(instances) < rounds {
		t.Error("those that have gone answer")
	}
	for pid := range instances {
		testutil.WaitFor(t, "process "+pid+" has been reaped", func() bool {
			_, err := os.Stat(filepath.Join("/proc", pid))
			return errors.Is(err, fs.ErrNotExist)
		})
	}
	testutil.WaitFor(t, "the last pipe is removed", func() bool {
		left, err := os.ReadDir(filepath.Join(runtimeDir, "running-process", "broker"))
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(left, func(e fs.DirEntry) bool { return e.Type() == fs.ModeSocket })
	})
}
