package endpoint

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/wait"
)

// Dial connects to the Unix socket at path. A full backlog, which is EAGAIN at
// once on Linux, is waited for until ctx ends; the error then joins ctx's. The
// caller owns the connection.
func Dial(ctx context.Context, path string) (*net.UnixConn, error) {
	dialer := net.Dialer{}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		c, err := dialer.DialContext(ctx, "unix", path)
		switch {
		case err == nil:
			return c.(*net.UnixConn), nil
		case !errors.Is(err, syscall.EAGAIN):
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
