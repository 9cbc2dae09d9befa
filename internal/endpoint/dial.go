package endpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wait"
)

// Dial connects to the Unix socket at path, which must be served by the own
// effective user: anyone can put a socket into a directory that does not exist
// yet. A full backlog, which is EAGAIN at once on Linux, is waited for until ctx
// ends; the error then joins ctx's. The caller owns the connection.
// Errors: *ForeignListenerError, *VariableError.
func Dial(ctx context.Context, path string) (*sock.Conn, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := DialNow(path)
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, errno.EAGAIN):
			return nil, err
		case !wait.For(ctx, pause):
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

const (
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// DialNow is Dial without the wait: a full backlog is an error at once. So is a listener that
// has ended meanwhile, where the system can't say any more who it was: errno.EAGAIN too, for
// its successor may serve there.
func DialNow(path string) (*sock.Conn, error) {
	c, err := sock.Dial(path)
	if err != nil {
		return nil, thisHost().explain(path, err)
	}
	if err := checkListener(c, path, os.Geteuid()); err != nil {
		_ = c.Close()
		if errors.Is(err, errno.ESRCH) {
			err = fmt.Errorf("%w: %w", errno.EAGAIN, err)
		}
		return nil, err
	}
	return c, nil
}

// DialHandoff is Dial for the handoff endpoint of a v1 backend, which judges nobody: whose it
// is the caller asks. A queue that is full is errno.EAGAIN at once, and waited for where that
// is usual (fullPasses).
func DialHandoff(ctx context.Context, path string) (*sock.Conn, error) {
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c, err := sock.Dial(path)
		if err == nil || !fullPasses || !errors.Is(err, errno.EAGAIN) || !wait.For(ctx, firstPause) {
			return c, err
		}
	}
}

// CheckServedBy returns nil when process pid listens at path, as the own user. It
// never waits. Where the system can't tell who listens, it is nil when anybody
// does. Errors: *ForeignListenerError, *OtherListenerError; errno.EAGAIN when the
// listener's queue is full.
func CheckServedBy(path string, pid int) error {
	cred, err := probe(path)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case errors.Is(err, errno.EAGAIN):
		return fmt.Errorf("%s can't be asked who serves it, its queue is full: %w", path, err)
	case err != nil:
		return fmt.Errorf("who serves %s: %w", path, err)
	case cred.CheckUser(os.Geteuid()) != nil:
		return &ForeignListenerError{Path: path, UID: cred.UID}
	case cred.PID != pid:
		return &OtherListenerError{Path: path, PID: cred.PID, Want: pid}
	}
	return nil
}

// checkListener tells whether the listener that c reached at path runs as user
// uid. Where the system can't say, the directory's mode alone protects path.
func checkListener(c syscall.Conn, path string, uid int) error {
	cred, err := sock.PeerOf(c)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("who serves %s: %w", path, err)
	case cred.CheckUser(uid) != nil:
		return &ForeignListenerError{Path: path, UID: cred.UID}
	}
	return nil
}
