package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

const lockFlags = os.O_CREATE | os.O_RDWR

// startFile is the file that a StartLock locks: a pipe has no directory, so that lies in the
// one of usher's state.
func startFile(path string) (string, error) {
	if err := sock.CheckName(path); err != nil {
		return "", err
	}
	state, err := StateDir()
	if err != nil {
		return "", err
	}
	name := strings.ReplaceAll(path[len(`\\.\pipe\`):], `\`, "-")
	return filepath.Join(state, name+".start"), EnsureState(state)
}

// visibly takes the lock of a file, which nobody removes while it is open.
func visibly[F any](_ string, take func() (F, error)) (F, error) { return take() }

// isServed reports whether there is a pipe at path that has a server.
func isServed(path string) bool {
	c, err := sock.Dial(path)
	if err == nil {
		_ = c.Close()
	}
	return err == nil || errors.Is(err, syscall.EAGAIN)
}
