//go:build unix || windows

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gofrs/flock"
)

// StartLock is held by whoever starts the broker of a socket, from before it looks
// whether there is one until that one serves or has failed. It goes with its holder.
type StartLock struct{ file *flock.Flock }

// LockStart waits for the right to start a broker at path, until ctx ends. The directory
// is made, and judged, as Bind does. The caller calls Unlock. The lock is nil, without an
// error, when another had that right, and has given it back with a socket there: ask that.
//
// After ctx the wait goes on in the background for as long as another holds the lock, and
// gives it back.
func LockStart(ctx context.Context, path string) (*StartLock, error) {
	fail := func(err error) (*StartLock, error) {
		return nil, fmt.Errorf("start a broker at %s: %w", path, thisHost().explain(path, err))
	}
	if err := CheckLength(path); err != nil {
		return fail(err)
	}
	file, err := startFile(path)
	if err != nil {
		return fail(err)
	}
	taken := make(chan error, 1)
	lock := &StartLock{flock.New(file, flock.SetFlag(lockFlags), flock.SetPermissions(0o600))}
	go func() {
		_, err := visibly(file, func() (*flock.Flock, error) { return lock.file, lock.take(path) })
		taken <- err
	}()
	select {
	case err := <-taken:
		switch {
		case errors.Is(err, errStarted):
			return nil, nil
		case err != nil:
			return fail(err)
		}
		return lock, nil
	case <-ctx.Done():
		go func() {
			if <-taken == nil {
				_ = lock.Unlock()
			}
		}()
		return fail(errors.Join(errors.New("another process has been starting it"), ctx.Err()))
	}
}

var errStarted = errors.New("another has started it")

// take takes the lock. Those who find it taken wait together, not one for the other: they
// are let go at once, and where there is a socket by then, nobody has to start anything.
func (l *StartLock) take(path string) error {
	if free, err := l.file.TryLock(); free || err != nil {
		return err
	}
	if err := l.file.RLock(); err != nil {
		return err
	}
	if err := l.Unlock(); err != nil {
		return err
	}
	if isServed(path) {
		return errStarted
	}
	return l.file.Lock()
}

// Unlock lets the next one start. The file stays: deleting it would let two processes
// lock two files of the same name.
func (l *StartLock) Unlock() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
