package client

import (
	"errors"
	"time"
)

// attempts is how often the broker is asked when the connection ends before a
// verdict and nothing can have been run, or the backend it named is gone.
const attempts = 3

// firstPause and lastPause bound the pause before a full backlog is tried again.
const (
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// retries is what an exchange remembers of the times it was asked in vain.
type retries struct {
	tries int           // connections that ended without a verdict, or led to nobody
	lost  error         // the first of unknown outcome
	pause time.Duration // before a full backlog is tried again
	busy  error         // the backlog is full
}

// retry decides what follows a failure: another try where that is safe and may
// help, else the error.
func (x *exchange) retry(err error) (step, error) {
	x.disconnect()
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		if !x.Idempotent {
			return 0, err
		}
		if x.lost == nil {
			x.lost = errors.Unwrap(err)
		}
	case errors.Is(err, errEnded), errors.Is(err, ErrBackendUnreachable):
	default:
		return 0, err
	}
	if x.tries++; x.tries == attempts {
		return 0, err
	}
	return stepDial, nil
}
