package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/remote"
)

// MaxEarlyData is how long a first request may be, in bytes, to go along with
// Hello.
const MaxEarlyData = 16 << 10

// Dial connects to the wanted service and returns a *Conn, in this order:
//
//	skip       the cached endpoint, if the Hello-skip rule allows it
//	hello      connect to the broker, send Hello, read its verdict
//	ready      handed over: the ready event ends the handoff
//	reconnect  not handed over: dial the pipe the broker named
//
// It sends nothing but Hello, so whatever fails, no request has been run.
// A refusal that passes by itself is waited out: the broker is asked again as long
// as there is time, and the last refusal is the answer. A broker that was killed, whose
// socket is still there, is waited for too: for its successor, 1 s at most.
// Errors: *RefusedError; ErrBrokerUnreachable; ErrBackendUnreachable;
// ErrBrokerDisabled; ErrNoAnswer when Timeout or ctx's deadline passed; ctx's
// own error when it was cancelled. ctx and Options.Timeout bound the
// call, not the connection.
//
// It always asks. To dial again and again, see Dialer: its connections can take the
// first request along with Hello.
func Dial(ctx context.Context, opts Options) (*Conn, error) {
	return (&Dialer{Options: opts}).Dial(ctx)
}

// DialWith connects to the wanted service and sends it the first request, which
// goes along with Hello when it is at most MaxEarlyData long. The verdict is known
// when it returns, and Read gives the answer. ctx and Options.Timeout bound the
// call, also where the request is longer.
//
// Errors are those of Dial, and then the request has not been run; or
// ErrOutcomeUnknown when the connection failed, or the time was over, after a part
// of the request had left. Options.Idempotent has a request that went along with
// Hello sent again.
func DialWith(ctx context.Context, opts Options, request []byte) (*Conn, error) {
	s, err := prepare(ctx, &Dialer{Options: opts})
	if err != nil {
		return nil, err
	}
	early := request
	if len(request) > MaxEarlyData || s.NoHandoff || s.host != nil {
		early = nil
	}
	x := newExchange(s, early)
	if s.skip() {
		early = nil
	} else if err := s.dial(ctx, x); err != nil {
		return nil, err
	}
	if len(early) == 0 && len(request) > 0 {
		if err := s.sendFirst(ctx, request, x.deadline); err != nil {
			_ = s.close()
			return nil, s.dialError(err)
		}
	}
	return newConn(s), nil
}

// dialing is what a connection is made for.
type dialing struct {
	Options               // complete
	ownBuild []byte       // Options.OwnBuild as a message
	host     *remote.Host // of the broker; nil for this one
	by       *Dialer      // is told what the broker is
}

func prepare(ctx context.Context, by *Dialer) (*stream, error) {
	if by.OwnBuild == nil { // a tool in one binary has no way but its own broker
		if err := checkEnabled(); err != nil {
			return nil, err
		}
	}
	d := &dialing{Options: by.Options, by: by}
	if err := d.complete(); err != nil {
		return nil, err
	}
	err := d.findHost()
	if err != nil {
		return nil, err
	}
	if d.ownBuild, err = d.OwnBuild.message(); err != nil {
		return nil, err
	}
	if _, err := d.hello(0); err != nil { // what is wrong with the Options shows here
		return nil, err
	}
	s := &stream{dialing: d}
	switch err := ctx.Err(); {
	case errors.Is(err, context.Canceled):
		return nil, s.dialError(err)
	case err != nil:
		return nil, s.dialError(&noAnswer{})
	}
	return s, nil
}

// skip dials the cached endpoint; false when the rule forbids it or nobody answers
// there.
func (s *stream) skip() bool {
	if s.host != nil || s.CachedEndpoint == "" || s.OwnVersion == "" || s.OwnVersion != s.Version {
		return false
	}
	c, err := endpoint.DialNow(s.CachedEndpoint) // a full backlog is no answer either: the broker may know better
	if err != nil || s.use(c) != nil {
		return false
	}
	s.settle(&opened{route: HelloSkipped, endpoint: s.CachedEndpoint})
	return true
}

// dial takes the whole exchange within ctx.
func (s *stream) dial(ctx context.Context, x *exchange) error {
	if by, bounded := ctx.Deadline(); bounded {
		x.deadline = earlier(x.deadline, by)
	}
	s.x = x
	c := &caller{op: "dial", ctx: ctx}
	if err := s.take(c); err != nil {
		return s.dialError(err)
	}
	defer s.leave()
	return s.dialError(s.run(c, settled))
}

// sendFirst writes the first request behind the verdict, by then.
func (s *stream) sendFirst(ctx context.Context, request []byte, by time.Time) error {
	conn := s.opened.Load().conn
	n, err := conn.TryWrite(request)
	s.outcome.send(n > 0)
	if n < len(request) && (err == nil || errors.Is(err, errno.EAGAIN)) {
		var more int
		more, err = writeBy(ctx, conn, request[n:], by)
		n += more
		s.outcome.send(n > 0)
	}
	if err == nil {
		return nil
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch cancelled := errors.Is(ctx.Err(), context.Canceled); {
	case late && cancelled:
		err = ctx.Err()
	case late:
		err = errLate
	}
	switch {
	case n > 0:
		return &OutcomeError{Err: err}
	case err == errLate:
		return &noAnswer{}
	case late:
		return err
	}
	return fmt.Errorf("%w at %s: %w", ErrBackendUnreachable, s.info().endpoint, err)
}

// writer is what writeBy writes to.
type writer interface {
	Write([]byte) (int, error)
	SetWriteDeadline(time.Time) error
}

// writeBy writes p until then, or until ctx ends. It leaves no deadline behind.
func writeBy(ctx context.Context, w writer, p []byte, by time.Time) (int, error) {
	if err := w.SetWriteDeadline(by); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = w.SetWriteDeadline(time.Unix(1, 0))
	})
	n, err := w.Write(p)
	if !release() {
		<-ended
	}
	_ = w.SetWriteDeadline(time.Time{})
	return n, err
}

// dialError is err in the form that net gives it.
func (s *stream) dialError(err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "dial", Net: "unix", Addr: target(s.Service + "@" + s.Version), Err: err}
}

// target names a service at a version in errors.
type target string

func (target) Network() string  { return "unix" }
func (t target) String() string { return string(t) }
