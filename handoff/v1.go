package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/seed-7265657e/usher/internal/fdpass"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/wire"
)

// V1 is the transport to a backend that knows no claim: dial its handoff
// endpoint, pass 16 token bytes with the descriptor, then a framed offer, and
// read a framed ACK on the same connection (spec 02 §5, §6, §8). The broker has
// told the client its token before, and writes the ready event after the ACK.
//
// Without a claim a lost ACK is unknown, never "not adopted".
type V1 struct {
	// Endpoint is the path of the backend's handoff socket.
	Endpoint string
	// PID is the process that must listen there, as this user; nothing is sent to
	// another one. 0 leaves it at the user.
	PID int
}

// v1StepTimeout bounds the dial and the writing of the offer (spec 02 §6, §15).
const v1StepTimeout = 5 * time.Second

// Claims returns false: a v1 backend would not know what to do with one.
func (V1) Claims() bool { return false }

// Send implements Transport.
func (t V1) Send(ctx context.Context, offer Offer, conn syscall.RawConn) (Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, v1StepTimeout)
	defer cancel()
	dialer := net.Dialer{}
	endpoint, err := dialer.DialContext(ctx, "unix", t.Endpoint)
	if err != nil {
		return nil, at(StageTransfer, ClassifyConnect(err))
	}
	d := &v1Delivery{conn: endpoint.(*net.UnixConn), client: conn, offer: offer}
	if err := t.verify(d.conn); err != nil {
		d.Close()
		return nil, &SendError{Stage: StageTransfer, Class: SendPermissionDenied, Err: err}
	}
	if err := d.transfer(); err != nil {
		d.Close()
		return nil, err
	}
	if err := d.deliver(ctx); err != nil {
		d.Close()
		return nil, &SendError{Stage: StageDeliver, Class: SendPostTransferDeliveryFailed, Sent: TokenSize, Err: err}
	}
	return d, nil
}

// verify makes sure that the descriptor goes to the backend, not to whoever took
// its name.
func (t V1) verify(endpoint *net.UnixConn) error {
	cred, err := peer.OfConn(endpoint)
	if err != nil {
		return err
	}
	if err := cred.CheckUser(os.Geteuid()); err != nil {
		return err
	}
	if t.PID != 0 && cred.PID != t.PID {
		return fmt.Errorf("handoff endpoint %s is served by process %d, not by the backend, %d", t.Endpoint, cred.PID, t.PID)
	}
	return nil
}

// at names the step of the exchange in which a send failed.
func at(stage Stage, err *SendError) *SendError {
	err.Stage = stage
	return err
}

// v1Delivery owns the connection to the handoff endpoint, which serves one
// handoff.
type v1Delivery struct {
	conn   *net.UnixConn
	client syscall.RawConn // borrowed, as in Send
	offer  Offer
}

// transfer sends the token bytes with the client's connection, which a v1
// backend expects in blocking mode (spec 02 §1). The flag is shared with the
// broker's own copy, so a connection that stays here gets it back.
func (d *v1Delivery) transfer() error {
	endpoint, err := d.conn.SyscallConn()
	if err != nil {
		return &SendError{Stage: StageTransfer, Class: SendFailed, Err: err}
	}
	var n int
	err = withFD(d.client, func(fd int) error {
		if err := setNonblock(fd, false); err != nil {
			return err
		}
		err := withFD(endpoint, func(sock int) (err error) {
			n, err = fdpass.Send(sock, d.offer.Token[:], fd)
			return err
		})
		if n == 0 {
			err = errors.Join(err, setNonblock(fd, true))
		}
		return err
	})
	switch {
	case err != nil:
		return at(StageTransfer, ClassifySend(err))
	case n < TokenSize:
		return at(StageTransfer, PartialSend(n))
	}
	return nil
}

func (d *v1Delivery) deliver(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	if err := d.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := frame.Write(d.conn, frame.HandoffOffer(&wire.HandoffOffer{
		Token:         d.offer.Token[:],
		ServiceName:   d.offer.Service,
		CorrelationId: d.offer.ConnectionID,
	}))
	return err
}

// AwaitAck implements Delivery with the checks of spec 02 §6 in their order. An
// answer that fails one of them is no answer.
func (d *v1Delivery) AwaitAck(ctx context.Context) (Ack, error) {
	stop := context.AfterFunc(ctx, func() { _ = d.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	f, _, err := frame.Read(d.conn, frame.MaxHelloBody)
	if err != nil {
		var eof *frame.EOFError
		switch {
		case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
			return Ack{}, ctx.Err()
		case errors.As(err, &eof), errors.Is(err, syscall.ECONNRESET):
			return Ack{}, fmt.Errorf("%w: %w", ErrBackendGone, err)
		}
		return Ack{}, err
	}
	ack, err := frame.ParseHandoffAck(f, d.offer.Token[:], d.offer.ConnectionID)
	var rejected *frame.RejectedError
	if errors.As(err, &rejected) {
		// The connection is the broker's again, who writes to it with a deadline.
		if err := withFD(d.client, func(fd int) error { return setNonblock(fd, true) }); err != nil {
			return Ack{}, err
		}
		return Ack{Token: d.offer.Token[:], Detail: rejected.Detail}, nil
	}
	if err != nil {
		return Ack{}, err
	}
	return Ack{Token: ack.Token, Accepted: true}, nil
}

// Close closes the connection to the handoff endpoint.
func (d *v1Delivery) Close() { _ = d.conn.Close() }
