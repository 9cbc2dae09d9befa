//go:build unix

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// lockTries bounds how often a lock file that was replaced under our hands is
// opened again. Each try needs another process that deletes the file just then.
const lockTries = 16

// nameLock is an advisory lock on the file beside a socket. The file holds the
// owner's pid for the benefit of those who come late. It is never deleted:
// deleting it would let two processes lock two files of the same name.
type nameLock struct {
	file *flock.Flock
}

// takeLock locks path or says who holds it. held is the socket path to report.
func takeLock(path, held string) (*nameLock, error) {
	for range lockTries {
		l := &nameLock{flock.New(path, flock.SetFlag(lockFlags), flock.SetPermissions(0o600))}
		ok, err := l.file.TryLock()
		if errno := unix.Errno(0); errors.As(err, &errno) && !isPathError(err) {
			return nil, &LockRefusedError{Path: path, Err: err}
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !ok {
			return nil, &InUseError{Path: held, PID: readPID(path)}
		}
		same, err := l.isVisible(path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), l.file.Close())
		}
		if same {
			// For people alone: a full file system must not keep the owner from serving.
			_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
			return l, nil
		}
		if err := l.file.Close(); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return nil, fmt.Errorf("lock %s: the file keeps being replaced: stop whatever deletes it", path)
}

// isPathError tells a file that can't be opened from a lock that can't be had.
func isPathError(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}

// isVisible tells whether the locked file is the one that others open.
func (l *nameLock) isVisible(path string) (bool, error) {
	mine, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	theirs, err := os.Lstat(path)
	if isMissing(err) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, theirs), err
}

// release forgets the pid and unlocks. A nil lock has nothing to release.
func (l *nameLock) release() error {
	if l == nil {
		return nil
	}
	if same, _ := l.isVisible(l.file.Path()); same {
		_ = os.Truncate(l.file.Path(), 0)
	}
	return l.file.Close()
}

// readPID returns the pid in a lock file, or 0: the owner may not have written
// it yet.
func readPID(path string) int {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 16 {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
