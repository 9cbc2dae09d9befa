package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/adminclient"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/wire"
)

// NoBrokerError reports that no broker answers at Socket.
type NoBrokerError struct {
	Socket string
	Err    error
}

func (e *NoBrokerError) Error() string {
	return fmt.Sprintf("no broker answers at %s (%v): start one with \"usher serve\", or name its socket with --socket", e.Socket, e.Err)
}

// Unwrap returns the cause.
func (e *NoBrokerError) Unwrap() error { return e.Err }

const (
	adminTimeout = 30 * time.Second // spec 01 §13
	adminGrace   = 5 * time.Second  // for an answer at the request's own deadline
)

// ask sends one admin request to the live broker and returns its reply. Errors:
// *NoBrokerError, and those of adminclient.Ask.
func (a *app) ask(ctx context.Context, req *wire.AdminRequest) (*wire.AdminReply, error) {
	socket, err := a.socketPath()
	if err != nil {
		return nil, err
	}
	timeout := endpoint.Milliseconds(endpoint.ClientTimeoutVariable, adminTimeout)
	if req.DrainDeadlineMs > 0 && req.Verb != wire.AdminVerb_ADMIN_VERB_SHUTDOWN { // the answer comes by then
		timeout = max(timeout, time.Duration(req.DrainDeadlineMs)*time.Millisecond+adminGrace)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reply, err := adminclient.Ask(ctx, socket, req)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w, which took longer than %v: look whether it is stopped or overloaded; %s, in milliseconds, sets another time",
			err, timeout, endpoint.ClientTimeoutVariable)
	}
	var dial *adminclient.DialError
	var forbidden *endpoint.VariableError
	switch {
	case !errors.As(err, &dial):
		return reply, err
	case errors.As(err, &forbidden): // a broker may be there: this user is not let in
		return nil, dial.Err
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	}
	return nil, &NoBrokerError{Socket: socket, Err: plain(dial.Err)}
}

// plain leaves the system's word alone: the path is in the text already.
func plain(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
