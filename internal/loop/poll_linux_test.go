//go:build usher_portable

package loop_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"few descriptors": loopBeyondItsLimit})
}

// TestLimitLowered: a loop that has more descriptors than its process may have by now goes
// on: what is posted is run, and tick comes.
func TestLimitLowered(t *testing.T) {
	testutil.Leaks(t)
	if err := testutil.Helper(t, "few descriptors").Run(); err != nil {
		t.Error(err)
	}
}

func loopBeyondItsLimit() error {
	ticked := make(chan struct{}, 1)
	l, err := loop.New(func(time.Time) time.Time { ticked <- struct{}{}; return time.Time{} }, nil)
	if err != nil {
		return err
	}
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &most); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: most.Max}); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	l.Post(func() { l.WakeAt(time.Now().Add(time.Millisecond)) })
	select {
	case <-ticked:
	case err := <-ended:
		return errors.Join(errors.New("the loop has ended"), err)
	case <-time.After(patience):
		return errors.New("nothing happens")
	}
	l.Stop()
	if err := <-ended; err != nil {
		return err
	}
	l.Close()
	return nil
}
