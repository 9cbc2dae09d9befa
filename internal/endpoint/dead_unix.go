//go:build unix

package endpoint

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// RemoveDead removes the pipe of a backend that has gone, if its name is one of
// NewBackendPath's and nobody listens there. Nobody else ever takes such a name,
// so this can't hit a successor. A pipe at a chosen path is left alone: its next
// owner clears it away in Bind, under the lock.
func RemoveDead(path string) { removeDead(path, time.Now()) }

// Bounds of one RemoveDeadBackends: what it leaves, the next one finds.
const (
	sweepNames = 4096 // looked at, in the order of the directory
	sweepTime  = time.Second
	// sweepAge is how old a socket is at least: a backend's name is there before it
	// listens, and must not be taken from it in between. One that is frozen there
	// for longer loses its name, as if it had never been started.
	sweepAge = 5 * time.Second
)

// RemoveDeadBackends removes the pipes that backends left who were killed while no
// broker ran, and returns how many. It asks each pipe in the user's runtime directory
// whether somebody listens there.
func RemoveDeadBackends() (removed int) {
	now := time.Now()
	path, err := NewBackendPath()
	if err != nil {
		return 0
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return 0
	}
	names, _ := dir.Readdirnames(sweepNames)
	_ = dir.Close()
	for _, name := range names {
		if time.Since(now) > sweepTime {
			break
		}
		if removeDead(filepath.Join(filepath.Dir(path), name), now.Add(-sweepAge)) {
			removed++
		}
	}
	return removed
}

// liveNames bounds how many pipes BackendsLive asks.
const liveNames = 16

// BackendsLive reports whether a backend serves on a pipe in the user's runtime directory,
// as one does whose broker has ended. It asks a few of them alone, the first that it finds.
func BackendsLive() bool {
	own, err := NewBackendPath()
	if err != nil {
		return false
	}
	dir, err := os.Open(filepath.Dir(own))
	if err != nil {
		return false
	}
	names, _ := dir.Readdirnames(sweepNames)
	_ = dir.Close()
	asked := 0
	for _, name := range names {
		path := filepath.Join(filepath.Dir(own), name)
		if !isBackendPath(path) {
			continue
		}
		if _, err := probe(path); err == nil {
			return true
		}
		if asked++; asked == liveNames {
			return false
		}
	}
	return false
}

// removeDead removes the backend's socket at path if it was made before, and
// connecting to it says that nobody listens. Whatever else the system says about
// it, it stays.
func removeDead(path string, before time.Time) bool {
	if !isBackendPath(path) {
		return false
	}
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != fs.ModeSocket || fi.ModTime().After(before) {
		return false
	}
	_, err = probe(path)
	return errors.Is(err, syscall.ECONNREFUSED) && os.Remove(path) == nil
}

// isBackendPath reports whether path is one of NewBackendPath's, for this user.
// Where a name is a hash (macOS), nothing tells, and none is.
func isBackendPath(path string) bool {
	mine, err := NewBackendPath()
	if err != nil || filepath.Dir(path) != filepath.Dir(mine) {
		return false
	}
	const random, suffix = 2 * randomLen, len(".sock")
	leaf, own := filepath.Base(path), filepath.Base(mine)
	fixed := len(own) - random - suffix
	if len(leaf) != len(own) || fixed <= 0 || !strings.HasPrefix(leaf, leafPrefix) || leaf[:fixed] != own[:fixed] || filepath.Ext(leaf) != ".sock" {
		return false
	}
	_, err = hex.DecodeString(leaf[fixed : len(leaf)-suffix])
	return err == nil
}
