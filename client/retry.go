package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
)

// attempts is how often the broker is asked when the connection ends before a
// verdict and nothing can have been run, or the backend it named is gone.
const attempts = 3

const (
	// firstPause and lastPause bound the pause before a full backlog is tried again,
	// and a refusal's, which says itself how long it wants to be left alone.
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
	// nextBroker is the pause after a broker has said that it shuts down: it may
	// take as long until its successor listens.
	nextBroker = 50 * time.Millisecond
	// absentWait bounds how long a client asks for a backend that is not registered, or
	// a broker that does not come back. Both take about a second to come back, and a
	// client that asks for what does not exist is told soon.
	absentWait = 2 * time.Second
	// killedWait is the same for a broker whose socket is there, and nobody listens: it was
	// killed, and whoever started it may start another. Nobody has said so, therefore the
	// wait is shorter.
	killedWait = time.Second
)

// retries is what an exchange keeps of the tries that failed.
type retries struct {
	starts  int           // of a broker
	tries   int           // connections that ended without a verdict, or led to nobody
	lost    error         // the first of unknown outcome
	refusal *RefusedError // the last
	waited  time.Time     // when asking for what is absent began
	times   int           // refusals in all
	until   time.Time     // of the step askAgain
	pause   time.Duration // before a full backlog is tried again
	busy    error         // the backlog is full
}

// retry decides what follows a failure: another try where that is safe and may
// help, else the error.
func (x *exchange) retry(err error) (step, error) {
	x.disconnect()
	var refusal *RefusedError
	switch {
	case errors.As(err, &refusal):
		x.refusal = refusal
		x.times++
		return x.postpone(x.patience(refusal), err)
	case errors.Is(err, ErrOutcomeUnknown):
		if !x.Idempotent {
			return 0, err
		}
		if x.lost == nil {
			x.lost = errors.Unwrap(err)
		}
	case errors.Is(err, errEnded), errors.Is(err, ErrBackendUnreachable):
	case errors.Is(err, ErrBrokerUnreachable) && x.refusal != nil && x.refusal.Code == CodeShuttingDown:
		return x.postpone(x.whileAbsent(nextBroker, absentWait), fmt.Errorf("%w; then %w", x.refusal, err))
	case errors.Is(err, ErrBrokerUnreachable) && (errors.Is(err, errno.ECONNREFUSED) || !x.waited.IsZero() && errors.Is(err, syscall.ENOENT)):
		// The next one takes the name away before it listens there.
		return x.postpone(x.whileAbsent(nextBroker, killedWait), err)
	default:
		return 0, err
	}
	if x.tries++; x.tries == attempts {
		return 0, err
	}
	return stepDial, nil
}

// patience returns how long to wait before asking again after a refusal; 0 means not at
// all. Nobody has read the early data of a client that was refused.
func (x *exchange) patience(r *RefusedError) time.Duration {
	switch r.Code {
	case CodeShuttingDown:
		return nextBroker
	case CodeRateLimited, CodeFDPressure:
		return r.RetryAfter
	case CodeBackendUnavailable:
		return x.whileAbsent(r.RetryAfter, absentWait)
	}
	return 0
}

// whileAbsent shortens a pause so that the whole wait takes no longer than most; 0 when that
// is over.
func (x *exchange) whileAbsent(pause, most time.Duration) time.Duration {
	now := time.Now()
	if x.waited.IsZero() {
		x.waited = now
	}
	return max(min(pause, x.waited.Add(most).Sub(now)), 0)
}

// postpone has the broker asked again after pause; it returns err where no time is left
// for that. Pauses grow with the number of refusals, and each is a little longer than
// asked for, so that clients that were refused together don't come back together.
func (x *exchange) postpone(pause time.Duration, err error) (step, error) {
	if pause <= 0 || pause >= time.Until(x.deadline) {
		return 0, err
	}
	pause = max(pause, min(firstPause<<min(x.times, 10), lastPause))
	pause += rand.N(pause/4 + 1)
	if x.until = time.Now().Add(pause); !x.until.Before(x.deadline) {
		return 0, err
	}
	return stepAskAgain, nil
}

// askAgain waits until it is time to dial the broker again.
func (x *exchange) askAgain() (step, error) {
	if !passed(x.until, time.Now()) {
		x.s.sleep(x.until, nil)
		return stepAskAgain, nil
	}
	return stepDial, nil
}
