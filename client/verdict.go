package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
)

// What may be concluded when an exchange does not lead to a backend. After early data
// has left, only an explicit word of the broker says that it was not run.

// reached reports whether early data may be with a backend: a byte of it has left on
// the present connection.
func (x *exchange) reached() bool { return x.sent > len(x.head) }

// notRun notes an explicit word that the early data was not read.
func (x *exchange) notRun() {
	x.sent = 0
	x.s.outcome.send(x.lost != nil)
}

// noVerdict is what a failure before the verdict means: nothing when no early byte
// can have left, else unknown.
func (x *exchange) noVerdict(err error) error {
	if err == nil {
		return nil
	}
	if why := x.s.hostFailure(err); why != nil {
		return fmt.Errorf("%w: %w", ErrBrokerUnreachable, why)
	}
	switch {
	case x.reached():
		return &OutcomeError{Err: err}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errno.ECONNRESET), errors.Is(err, errno.EPIPE):
		return fmt.Errorf("%w (%w)", errEnded, err)
	}
	return err
}

// late reports whether the exchange has no more time, whoever drives it.
func (x *exchange) late(c *caller) bool { return c.err() != nil || passed(x.deadline, time.Now()) }

// lateError is what the end of the time means.
func (x *exchange) lateError(c *caller) error {
	var cause error = errLate
	cancelled := errors.Is(c.err(), context.Canceled)
	if cancelled {
		cause = c.err()
	}
	switch {
	case x.reached():
		return &OutcomeError{Err: cause}
	case cancelled:
		return cause
	case x.refusal != nil:
		return x.refusal
	case x.lost != nil: // so that it is not true that nothing was sent
		return errLate
	}
	return &noAnswer{cause: x.busy}
}

// end ends the stream: err is for who waited, and what later calls are told is not
// a timeout.
func (x *exchange) end(err error) error {
	if x.lost != nil && !errors.Is(err, ErrOutcomeUnknown) {
		err = &OutcomeError{Err: fmt.Errorf("%w; asked again: %w", x.lost, err)}
	}
	why := err
	if errors.Is(err, os.ErrDeadlineExceeded) {
		why = errOver
		if errors.Is(err, ErrOutcomeUnknown) {
			why = &OutcomeError{Err: errOver}
		}
	}
	x.s.fail(why)
	return err
}
