package client

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
)

// exchange asks the broker, and leads to a backend. The call that has the stream's turn
// takes its steps. A step that has to wait longer than its caller is taken again by the
// next one.
//
//	  ┌── ask again ◀────────────────┐ refused for a while, or ended with nothing run
//	  ▼                              │
//	dial ──▶ send ──▶ reply ──▶ ready ──────────────▶ settled: handed over
//	  │ ▲               └─────────┴──▶ redial ──▶ replay ──▶ settled: reconnected
//	  ▼ │
//	 start, where no broker answers and Options.Start is set
type exchange struct {
	*dialing
	s    *stream
	step step

	early    []byte    // kept until the verdict: it may have to be sent again
	deadline time.Time // of the whole exchange
	readyBy  time.Time // of the step ready
	token    []byte
	granted  *opened // what the reply says

	// Of the present connection:
	conn  *sock.Conn
	head  []byte // the Hello; nothing on a backend's pipe
	sent  int    // bytes of hello and early that have gone
	tried bool   // to send without waiting
	buf   []byte
	n     int // bytes in buf

	starting *starting // of a broker
	retries
}

type step uint8

const (
	stepDial step = iota
	stepStart
	stepSend
	stepReply
	stepReady
	stepRedial
	stepReplay
	stepAskAgain
)

// kernelWait bounds the wait for a verdict in the kernel; a verdict takes far less.
// After that the wait goes through the runtime's poller, which costs more and occupies no
// thread.
const kernelWait = 5 * time.Millisecond

func newExchange(s *stream, early []byte) *exchange {
	return &exchange{dialing: s.dialing, s: s, early: early, deadline: time.Now().Add(s.Timeout)}
}

// run drives the exchange for c until the stream is settled, or, with goal asked, until
// everything before the verdict has been sent. Its errors are c's own (ended), and why
// the stream failed.
func (s *stream) run(c *caller, goal state) error {
	for {
		s.mu.Lock()
		state, why, flushed, err := s.state, s.why, s.flushed, s.ended(c)
		s.mu.Unlock()
		switch {
		case state == settled:
			return nil
		case state == failed:
			return why
		case err != nil:
			return err
		case goal == asked && flushed:
			return nil
		}
		if s.x == nil {
			s.x = newExchange(s, nil)
		}
		if err := s.x.advance(c); err != nil {
			return err
		}
	}
}

// advance takes one step. After an error the stream has failed.
func (x *exchange) advance(c *caller) error {
	if x.late(c) && !x.arrived() {
		return x.end(x.lateError(c))
	}
	next, err := x.do()
	switch {
	case err == nil:
		x.step = next
		return nil
	case x.s.current() == closed:
		return nil // which the caller learns from the stream
	}
	if x.step, err = x.retry(err); err != nil {
		return x.end(err)
	}
	return nil
}

func (x *exchange) do() (step, error) {
	switch x.step {
	case stepDial:
		return x.dial()
	case stepStart:
		return x.start()
	case stepSend:
		return x.send()
	case stepReply:
		return x.reply()
	case stepReady:
		return x.ready()
	case stepRedial:
		return x.redial()
	case stepReplay:
		return x.replay()
	}
	return x.askAgain()
}

// dial connects to the broker.
func (x *exchange) dial() (step, error) {
	connected, err := x.connect(x.Broker)
	switch {
	case errors.Is(err, syscall.ENOENT) || errors.Is(err, errno.ECONNREFUSED): // else starting one is no help
		if x.Start != nil && x.starts < attempts {
			x.starts++
			x.starting = x.s.start(x.Start, x.deadline)
			return stepStart, nil
		}
		if x.Start != nil {
			return 0, fmt.Errorf("%w at %s: %w, although one was started %d times", ErrBrokerUnreachable, x.Broker, err, x.starts)
		}
		return 0, fmt.Errorf("%w at %s: %w (start one with \"usher serve\")", ErrBrokerUnreachable, x.Broker, err)
	case err != nil:
		return 0, fmt.Errorf("%w at %s: %w", ErrBrokerUnreachable, x.Broker, err)
	case !connected:
		return stepDial, nil
	}
	x.head, err = x.hello(len(x.early))
	return stepSend, err
}

// start waits until Options.Start has returned.
func (x *exchange) start() (step, error) {
	if !x.starting.ended() {
		x.s.sleep(x.deadline, x.starting.done)
		return stepStart, nil
	}
	if err := x.starting.err; err != nil {
		return 0, fmt.Errorf("%w at %s: %w", ErrBrokerUnreachable, x.Broker, err)
	}
	return stepDial, nil
}

// send sends Hello with the early data behind it. A broker that refuses without
// reading may have closed its end already: its answer is there all the same, so that is
// not the verdict. Any other error is: the rest must not be sent behind a gap.
func (x *exchange) send() (step, error) {
	done, err := x.push()
	switch {
	case errors.Is(err, errno.EPIPE), errors.Is(err, errno.ECONNRESET):
	case err != nil:
		return 0, x.noVerdict(err)
	case !done:
		return stepSend, nil
	}
	x.s.begin(len(x.early) > 0, true)
	return stepReply, nil
}

// reply reads the broker's answer.
func (x *exchange) reply() (step, error) {
	f, err := x.frame(x.deadline)
	if f == nil {
		return stepReply, x.noVerdict(err)
	}
	granted, err := hello.ParseReply(f)
	if err != nil {
		var refusal *hello.Refusal
		if !errors.As(err, &refusal) {
			return 0, x.noVerdict(err)
		}
		x.by.usher.Store(false)
		x.notRun()
		return 0, refused(refusal, x.OwnBuild != nil)
	}
	x.by.usher.Store(granted.ServerCapabilities&frame.CapUsher != 0)
	x.refusal = nil
	x.granted = &opened{route: Reconnected, endpoint: granted.BackendPipe, version: granted.DaemonVersion, id: granted.ConnectionId}
	x.token = granted.HandlePassedToken
	// With early data a token says that a backend may have the connection, whatever
	// else the reply says.
	if len(x.token) > 0 && !x.NoHandoff && (x.reached() || granted.ServerCapabilities&frame.CapHandlePassing != 0) {
		x.readyBy = time.Now().Add(x.ReadyTimeout)
		return stepReady, nil
	}
	return x.notAdopted()
}

// ready waits for the end of an announced handoff.
func (x *exchange) ready() (step, error) {
	by := earlier(x.readyBy, x.deadline)
	f, err := x.frame(by)
	switch {
	case f != nil:
		err = frame.ParseHandoffReady(f, x.token)
	case err == nil && passed(by, time.Now()) && !x.arrived():
		err = errLate
	case err == nil:
		return stepReady, nil
	}
	switch {
	case err == nil:
		x.granted.route, x.granted.unread = HandedOver, x.buf[:x.n]
		x.s.settle(x.granted)
		return stepReady, nil
	case x.reached(): // announced as handed over: the backend may have it
		return 0, &OutcomeError{Err: err}
	}
	return x.notAdopted() // nothing has been sent on this connection
}

// notAdopted goes to the backend's own pipe: nobody has read the early data.
func (x *exchange) notAdopted() (step, error) {
	x.notRun()
	x.disconnect()
	if x.granted.endpoint == "" {
		return 0, errors.New("the broker named no backend pipe")
	}
	return stepRedial, nil
}

// redial connects to the backend's pipe.
func (x *exchange) redial() (step, error) {
	connected, err := x.connect(x.granted.endpoint)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w at %s: %w", ErrBackendUnreachable, x.granted.endpoint, err)
	case !connected:
		return stepRedial, nil
	}
	x.head = nil
	return stepReplay, nil
}

// replay sends the early data on a connection that has not seen it.
func (x *exchange) replay() (step, error) {
	done, err := x.push()
	switch {
	case err != nil && x.reached():
		return 0, &OutcomeError{Err: err}
	case err != nil:
		return 0, fmt.Errorf("%w at %s: %w", ErrBackendUnreachable, x.granted.endpoint, err)
	case done:
		x.s.begin(len(x.early) > 0, true)
		x.s.settle(x.granted)
	}
	return stepReplay, nil
}
