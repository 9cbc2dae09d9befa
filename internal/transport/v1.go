package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/failpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// V1 is the way to a backend that knows no claim: dial its handoff endpoint, pass 16
// token bytes with the descriptor, then a framed offer, and read a framed ACK on the
// same connection (spec 02 §5, §6, §8). On Windows nothing is passed: the connection is
// duplicated into the backend's process, and the offer has the handle's value there (§11).
// The broker has told the client its token before, and writes the ready event after the ACK.
//
// Without a claim a lost ACK is unknown, never "not adopted".
type V1 struct {
	// Endpoint is the path of the backend's handoff socket.
	Endpoint string
	// PID is the process that must listen there, as this user; nothing is sent to
	// another one. 0 leaves it at the user, and on Windows leads nowhere.
	PID int
}

// v1StepTimeout bounds the dial and the writing of the offer (spec 02 §6, §15).
const v1StepTimeout = 5 * time.Second

// V1Result is what came of an exchange.
type V1Result struct {
	SentAt time.Time   // zero when the offer did not leave
	Ack    handoff.Ack // the backend's answer, when Err is nil
	// Err is a *SendError when SentAt is zero. Else it says why there is no answer:
	// handoff.ErrNoAck, handoff.ErrBackendGone, the context's error, or what was wrong with it.
	Err error
	// Handle is, on Windows, what the backend was told of; else 0.
	Handle uint64
}

// Exchange makes the whole exchange, which may block: for v1StepTimeout until the offer
// is written, and then for wait until the ACK is there. It ends early with ctx. It takes
// values and gives one, so that it can run on any goroutine; what becomes of the attempt
// is for its owner to say (V1Result.Settle). It borrows conn.
func (v V1) Exchange(ctx context.Context, token handoff.Token, offer handoff.Offer, conn syscall.RawConn, wait time.Duration) (r V1Result) {
	d, err := v.send(ctx, token, offer, conn)
	if err != nil {
		return V1Result{Err: err}
	}
	defer d.close()
	r.SentAt, r.Handle = time.Now(), d.transferred.Handle
	failpoint.Hit(failpoint.BrokerSent)
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	r.Ack, r.Err = d.awaitAck(waiting)
	switch {
	case r.Err == nil: // whatever has become of ctx meanwhile
	case ctx.Err() != nil && errors.Is(r.Err, waiting.Err()):
		r.Err = context.Cause(ctx)
	case errors.Is(r.Err, context.DeadlineExceeded):
		r.Err = handoff.ErrNoAck
	}
	return r
}

// Settle ends an attempt with the result of its exchange. now is when the exchange had
// ended, by the attempt's clock.
func (r V1Result) Settle(a *handoff.Attempt, now time.Time) handoff.Outcome {
	a.Sent(r.SentAt)
	if r.SentAt.IsZero() {
		return a.SendFailed(r.Err)
	}
	out := r.settle(a, now)
	if out.Verdict != handoff.Adopted {
		out.LeakedBackendHandle = r.Handle // whether the backend has closed it, only that knows
	}
	return out
}

func (r V1Result) settle(a *handoff.Attempt, now time.Time) handoff.Outcome {
	if r.Err == nil {
		return a.Answered(r.Ack, now)
	}
	return a.Unanswered(r.Err, now)
}

func (v V1) send(ctx context.Context, token handoff.Token, offer handoff.Offer, conn syscall.RawConn) (*v1Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, v1StepTimeout)
	defer cancel()
	backend, err := endpoint.DialHandoff(ctx, v.Endpoint)
	if err != nil {
		return nil, inTransfer(handoff.ClassifyConnect(err))
	}
	d := &v1Delivery{conn: backend, client: conn, token: token, offer: offer}
	if err = v.verify(d.conn); err != nil {
		err = &handoff.SendError{Stage: handoff.StageTransfer, Class: handoff.SendPermissionDenied, Err: err}
	} else if err = d.transfer(v.PID); err == nil {
		if err = d.deliver(ctx); err != nil {
			err = d.undelivered(err)
		}
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// verify makes sure that the descriptor goes to the backend, not to whoever took
// its name.
func (v V1) verify(endpoint *sock.Conn) error {
	cred, err := sock.PeerOf(endpoint)
	if err != nil {
		return err
	}
	if err := cred.CheckUser(os.Geteuid()); err != nil {
		return err
	}
	if v.PID != 0 && cred.PID != v.PID {
		return fmt.Errorf("handoff endpoint %s is served by process %d, not by the backend, %d", v.Endpoint, cred.PID, v.PID)
	}
	return nil
}

// inTransfer says that err is of the first step of the exchange.
func inTransfer(err *handoff.SendError) *handoff.SendError {
	err.Stage = handoff.StageTransfer
	return err
}

// v1Delivery owns the connection to the handoff endpoint, which serves one
// handoff.
type v1Delivery struct {
	conn        *sock.Conn
	client      syscall.RawConn // borrowed
	token       handoff.Token
	offer       handoff.Offer
	transferred sock.Transferred
}

// Format keeps the token out of logs: fmt would print the fields.
func (d *v1Delivery) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "v1 exchange(redacted)") }

// transfer sends the token bytes with the client's connection, which a v1
// backend expects in blocking mode (spec 02 §1). The flag is shared with the
// broker's own copy, so a connection that stays here gets it back.
//
// On Windows the connection goes to process pid, and has no such mode.
func (d *v1Delivery) transfer(pid int) error {
	err := sock.SetNonblock(d.client, false)
	if err == nil {
		if d.transferred, err = sock.Transfer(d.conn, pid, d.token[:], d.client); err != nil && d.transferred.Sent == 0 {
			err = errors.Join(err, sock.SetNonblock(d.client, true))
		}
	}
	switch {
	case err != nil:
		return inTransfer(handoff.ClassifySend(err))
	case !sock.ByNumber && d.transferred.Sent < handoff.TokenSize:
		return inTransfer(handoff.PartialSend(d.transferred.Sent))
	}
	return nil
}

// undelivered is what follows from an offer that was not written whole. A backend that was not
// told of a handle has not closed it, so it is closed there.
func (d *v1Delivery) undelivered(err error) *handoff.SendError {
	failed := &handoff.SendError{Stage: handoff.StageDeliver, Class: handoff.SendPostTransferDeliveryFailed, Sent: d.transferred.Sent, Err: err}
	if !sock.ByNumber {
		return failed
	}
	if left := d.transferred.TakeBack(); left != nil {
		failed.Err, failed.Left = errors.Join(err, left), d.transferred.Handle
	} else {
		failed.Class = handoff.ClassifySend(err).Class
	}
	return failed
}

func (d *v1Delivery) deliver(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	if err := d.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := frame.Write(d.conn, frame.HandoffOffer(&wire.HandoffOffer{
		HandleValue:   d.transferred.Handle,
		Token:         d.token[:],
		ServiceName:   d.offer.Service,
		CorrelationId: d.offer.ConnectionID,
	}))
	return err
}

// awaitAck makes the checks of spec 02 §6 in their order. An answer that fails one of
// them is no answer.
func (d *v1Delivery) awaitAck(ctx context.Context) (handoff.Ack, error) {
	stop := context.AfterFunc(ctx, func() { _ = d.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	f, _, err := frame.Read(d.conn, frame.MaxHelloBody)
	if err != nil {
		var eof *frame.EOFError
		switch {
		case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
			return handoff.Ack{}, ctx.Err()
		case errors.As(err, &eof), errors.Is(err, errno.ECONNRESET):
			return handoff.Ack{}, fmt.Errorf("%w: %w", handoff.ErrBackendGone, err)
		}
		return handoff.Ack{}, err
	}
	ack, err := frame.ParseHandoffAck(f, d.token[:], d.offer.ConnectionID)
	var rejected *frame.RejectedError
	if errors.As(err, &rejected) {
		// The connection is the broker's again, who writes to it with a deadline.
		if err := sock.SetNonblock(d.client, true); err != nil {
			return handoff.Ack{}, err
		}
		return handoff.Ack{Token: d.token[:], Detail: rejected.Detail}, nil
	}
	if err != nil {
		return handoff.Ack{}, err
	}
	return handoff.Ack{Token: ack.Token, Accepted: true}, nil
}

func (d *v1Delivery) close() {
	d.transferred.Close()
	_ = d.conn.Close()
}
