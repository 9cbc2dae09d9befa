//go:build unix

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// lockTries bounds how often a lock file that was replaced under our hands is
// opened again. Each try needs another process that deletes the file just then.
const lockTries = 16

// nameLock is an advisory lock on the file beside a socket. The file holds the
// owner's pid for the benefit of those who come late. It is never deleted:
// deleting it would let two processes lock two files of the same name.
//
// It is flock(2), which belongs to the open file and not to the process: whoever is passed
// the descriptor has the lock as well, and it is free when all have closed theirs, or one has
// unlocked it.
type nameLock struct {
	file *os.File
	path string
	away bool // another process has it by now, too: it is not to be unlocked
}

// takeLock locks path or says who holds it. held is the socket path to report.
func takeLock(path, held string) (*nameLock, error) {
	l, err := lockName(path, unix.LOCK_EX|unix.LOCK_NB)
	var refused *LockRefusedError
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, &InUseError{Path: held, PID: readPID(path)}
	case errors.As(err, &refused):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	l.sign()
	return l, nil
}

// lockName opens the file at path and does what how says. Errors: LockRefusedError, and those
// of the file.
func lockName(path string, how int) (*nameLock, error) {
	file, err := visibly(path, func() (*os.File, error) {
		file, err := os.OpenFile(path, lockFlags, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lock(file, how); err != nil {
			return nil, errors.Join(&LockRefusedError{Path: path, Err: err}, file.Close())
		}
		return file, nil
	})
	if err != nil {
		return nil, err
	}
	return &nameLock{file: file, path: path}, nil
}

// lock does with file what how says; a signal does not end the wait.
func lock(file *os.File, how int) error {
	for {
		// Fd, which stays good until the file is closed: the caller has it.
		if err := unix.Flock(int(file.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// lockable is a file that can be locked, as package flock has it, or package os.
type lockable interface {
	Stat() (fs.FileInfo, error)
	Close() error
}

// visibly calls take, which opens the file at path and locks it, until what it has locked is
// the file that others open: the name may have been removed, or lead elsewhere, between the
// opening and the lock. An error of take is returned as it is, and nothing is locked.
func visibly[F lockable](path string, take func() (F, error)) (none F, err error) {
	for range lockTries {
		file, err := take()
		if err != nil {
			return none, err
		}
		same, err := isVisible(file, path)
		if same {
			return file, nil
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return none, err
		}
	}
	return none, errors.New("the file keeps being replaced: stop whatever deletes it")
}

// sign writes this process' pid into the file.
func (l *nameLock) sign() {
	// For people alone: a full file system must not keep the owner from serving.
	_ = os.WriteFile(l.path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
}

// share returns another descriptor of the open file, for a process to which the lock is
// passed; the caller owns it.
func (l *nameLock) share() (*sock.FD, error) { return sock.Duplicate(l.file) }

// isVisible tells whether the locked file is the one that others open.
func isVisible(file lockable, path string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	theirs, err := os.Lstat(path)
	if isMissing(err) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, theirs), err
}

// release forgets the pid and unlocks, or leaves both to the process that has the lock by
// now. A nil lock has nothing to release.
func (l *nameLock) release() error {
	if l == nil {
		return nil
	}
	if l.away {
		return l.file.Close()
	}
	if same, _ := isVisible(l.file, l.path); same {
		_ = os.Truncate(l.path, 0)
	}
	_ = lock(l.file, unix.LOCK_UN) // closing is not enough while a child of ours is between fork and exec
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
