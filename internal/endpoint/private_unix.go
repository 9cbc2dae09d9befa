//go:build unix

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

// CheckPrivate reports whether dir is a directory that only the calling user can
// list or change. A missing directory is an error that is fs.ErrNotExist.
// Errors: *InsecureDirError, *VariableError.
func CheckPrivate(dir string) error { return thisHost().explain(dir, checkPrivate(dir)) }

func checkPrivate(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	switch {
	case !fi.IsDir():
		return &InsecureDirError{Path: dir, Reason: "is not a directory", Fix: "move it away or name another directory"}
	case owner(fi) != os.Geteuid():
		return foreign(dir, fi)
	case fi.Mode().Perm()&0o077 != 0:
		return openToOthers(dir, fi)
	}
	return nil
}

// EnsurePrivate creates dir with its parents if it is missing, sets its mode to
// 0700 and checks the result.
func EnsurePrivate(dir string) error { return thisHost().explain(dir, ensurePrivate(dir)) }

func ensurePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if checkPrivate(dir) == nil {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return checkPrivate(dir)
}

// ensureParent makes the directory of a socket usable: missing levels are created
// with 0700, and what is there in the end must be a real directory of the
// effective user with mode 0700 exactly. An existing one is never repaired:
// a wrong mode means that someone may already have put something inside.
func ensureParent(dir string) error {
	// Before anything is created, and again over what was.
	if err := checkAbove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		// A file, or a symlink to nowhere, in the place of the directory gets the
		// clearer text below.
		if _, statErr := os.Lstat(dir); statErr != nil {
			return err
		}
	}
	if err := judgeDir(dir, "choose another socket path"); err != nil {
		return err
	}
	return checkAbove(dir)
}

// judgeDir returns nil for a real directory of the effective user with mode 0700 exactly.
func judgeDir(dir, otherwise string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return &InsecureDirError{Path: dir, Reason: "is a symbolic link", Fix: "replace it by a real directory with mode 0700, or name its target"}
	case !fi.IsDir():
		return &InsecureDirError{Path: dir, Reason: "is not a directory", Fix: "move it away or " + otherwise}
	case owner(fi) != os.Geteuid():
		return foreign(dir, fi)
	case fi.Mode().Perm() != 0o700:
		return openToOthers(dir, fi)
	}
	return nil
}

// EnsureState makes the directory of a broker's or a tool's logs with what is missing above
// it, mode 0700, and judges it: it must be a real directory of the effective user with that
// mode. One that is there already is not repaired: others may have put links inside, which
// logs would be written through. Errors: *InsecureDirError, *VariableError.
func EnsureState(dir string) error { return thisHost().explain(dir, ensureState(dir)) }

func ensureState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		if _, statErr := os.Lstat(dir); statErr != nil {
			return err
		}
	}
	return judgeDir(dir, "set XDG_STATE_HOME to another directory")
}

func foreign(dir string, fi fs.FileInfo) error { return foreignTo(dir, owner(fi), os.Geteuid()) }

func foreignTo(dir string, uid, self int) error {
	if uid == sock.OverflowUID {
		return &InsecureDirError{
			Path: dir, Reason: fmt.Sprintf("belongs to uid %d, which is what the kernel reports for users it can't name", uid),
			Fix: "run broker, backends and clients in one user namespace",
		}
	}
	return &InsecureDirError{
		Path: dir, Reason: fmt.Sprintf("belongs to uid %d, not to uid %d", uid, self),
		Fix: "choose a directory of your own", foreign: true,
	}
}

func openToOthers(dir string, fi fs.FileInfo) error {
	return &InsecureDirError{
		Path: dir, Reason: fmt.Sprintf("has mode %04o instead of 0700", fi.Mode().Perm()),
		Fix: fmt.Sprintf("look at what is inside, then run chmod 700 %s", dir),
	}
}

// owner is the uid of a file, or -1, which is nobody's.
func owner(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
