//go:build unix

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// StartLock is held by whoever starts the broker of a socket, from before it looks
// whether there is one until that one serves or has failed. It goes with its holder.
type StartLock struct{ file *flock.Flock }

// LockStart waits for the right to start a broker at path, until ctx ends. The directory
// is made, and judged, as Bind does. The caller calls Unlock.
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
	if err := ensureParent(filepath.Dir(path)); err != nil {
		return fail(err)
	}
	taken := make(chan error, 1)
	lock := &StartLock{flock.New(path+".start", flock.SetFlag(lockFlags), flock.SetPermissions(0o600))}
	go func() { taken <- lock.file.Lock() }()
	select {
	case err := <-taken:
		if err != nil {
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

// Unlock lets the next one start. The file stays: deleting it would let two processes
// lock two files of the same name.
func (l *StartLock) Unlock() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
