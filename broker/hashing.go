package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/filehash"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/peer"
)

// hashing is the context for reading whole files on a connection's behalf: its job's,
// ended at the connection's deadline, and at once when the broker begins to drain: a
// large file must not keep it.
func (c *connection) hashing(job context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(job, c.deadline)
	stop := context.AfterFunc(c.serving, cancel)
	return ctx, func() { stop(); cancel() }
}

// executable returns path and hash of what the process runs, read while the
// process was certainly alive. Reading ends with ctx, and with the process.
func (b *Broker) executable(ctx context.Context, p *peer.Process) (path string, hash [32]byte, err error) {
	path, link, err := p.Executable()
	if err != nil {
		return "", hash, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // until the return
		if p.Wait(ctx) == nil {
			cancel()
		}
	}()
	hash, err = b.hashes.Hash(ctx, link)
	switch {
	case !p.Alive():
		return "", hash, fmt.Errorf("process %d: %w", p.PID(), os.ErrProcessDone)
	case err != nil:
		return "", hash, fmt.Errorf("executable %s of process %d: %w", path, p.PID(), err)
	}
	return path, hash, nil
}

// errFileSystem says why a definition or an executable could not be read.
var errFileSystem = errors.New("its file system does not answer")

// noBackend is the refusal when no backend fits. When the build that is wanted is
// not known, that is why.
func noBackend(buildErr error) *hello.Refusal {
	var large *filehash.TooLargeError
	switch {
	case errors.As(buildErr, &large):
		return hello.ServiceUnloadable(buildErr)
	case errors.Is(buildErr, context.Canceled): // by the end of serving: see hashing
		return hello.ShuttingDown()
	case errors.Is(buildErr, context.DeadlineExceeded):
		refusal := hello.ServiceUnloadable(fmt.Errorf("in the time that a connection has: %w", buildErr))
		refusal.RetryAfter = time.Second
		return refusal
	}
	return hello.BackendNotRegistered()
}
