package endpoint

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// startPipe is a name for a broker, whose lock lies in a directory of the test's.
func startPipe(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOCALAPPDATA", dir)
	path := freshPipe()
	t.Cleanup(func() {
		file, err := startFile(path)
		state, _ := StateDir()
		if err := errors.Join(err, os.Remove(file), os.Remove(state), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	return path
}

// TestStartLock: one at a time, and all of them in the end.
func TestStartLock(t *testing.T) {
	path := startPipe(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	const all = 8
	inside, ended := make(chan struct{}, 1), make(chan error)
	for range all {
		go func() {
			lock, err := LockStart(ctx, path)
			if err == nil {
				select {
				case inside <- struct{}{}:
					<-inside
				default:
					err = errors.New("two hold it")
				}
				other := flock.New(lock.file.Path())
				if free, tryErr := other.TryLock(); free || tryErr != nil {
					err = errors.Join(err, errors.New("it is not locked"), tryErr, other.Close())
				}
				err = errors.Join(err, lock.Unlock())
			}
			ended <- err
		}()
	}
	for range all {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestStartLockEndsWithItsContext: who gives up holds nothing, then or later; and who has
// waited finds the broker that was started.
func TestStartLockEndsWithItsContext(t *testing.T) {
	path := startPipe(t)
	first, err := LockStart(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := LockStart(over, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	third, err := LockStart(ctx, path)
	if err != nil || third == nil {
		t.Fatal(third, err)
	}
	mustBind(t, path)
	if err := third.Unlock(); err != nil {
		t.Fatal(err)
	}
	if !isServed(path) || isServed(freshPipe()) {
		t.Error("who serves is not seen")
	}
}
