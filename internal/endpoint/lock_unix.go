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
	l := &nameLock{flock.New(path, flock.SetFlag(lockFlags), flock.SetPermissions(0o600))}
	err := visibly(l.file, func() error {
		ok, err := l.file.TryLock()
		if errno := unix.Errno(0); errors.As(err, &errno) && !isPathError(err) {
			return &LockRefusedError{Path: path, Err: err}
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", path, err)
		}
		if !ok {
			return &InUseError{Path: held, PID: readPID(path)}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// For people alone: a full file system must not keep the owner from serving.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return l, nil
}

// visibly calls take, which locks file, until what it has locked is the file that others
// open: the name may have been removed, or lead elsewhere, between the opening and the
// lock. An error of take is returned as it is, and nothing is locked.
func visibly(file *flock.Flock, take func() error) error {
	for range lockTries {
		if err := take(); err != nil {
			return err
		}
		same, err := isVisible(file)
		if err != nil {
			return errors.Join(fmt.Errorf("lock %s: %w", file.Path(), err), file.Close())
		}
		if same {
			return nil
		}
		if err := file.Close(); err != nil {
			return fmt.Errorf("lock %s: %w", file.Path(), err)
		}
	}
	return fmt.Errorf("lock %s: the file keeps being replaced: stop whatever deletes it", file.Path())
}

// isPathError tells a file that can't be opened from a lock that can't be had.
func isPathError(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}

// isVisible tells whether the locked file is the one that others open.
func isVisible(file *flock.Flock) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	theirs, err := os.Lstat(file.Path())
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
	if same, _ := isVisible(l.file); same {
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
