package handoff

import (
	"context"
	"errors"
	"syscall"

	"github.com/seed-7265657e/usher/internal/claim"
)

// Claim is the shared object that decides who owns a connection in flight.
type Claim = claim.Claim

// Transport carries an offer with its connection to one backend.
type Transport interface {
	// Claims reports whether a claim travels beside the connection. Without one
	// only an explicit rejection proves that the backend did not adopt.
	Claims() bool
	// Send passes the connection, which it borrows. A nil error means that the
	// backend has the descriptor in its queue; the Delivery then is the
	// caller's to close. A failure is a *SendError.
	Send(ctx context.Context, offer Offer, conn syscall.RawConn) (Delivery, error)
}

// Delivery is an offer on its way.
type Delivery interface {
	// AwaitAck waits for the backend's answer until ctx ends. A NACK is an Ack
	// with Accepted false; ErrBackendGone means that no answer can come any more.
	AwaitAck(ctx context.Context) (Ack, error)
	// Close forgets the delivery: an answer that comes later is counted and
	// ignored.
	Close()
}

// Offer is one handoff as a backend sees it.
type Offer struct {
	Token        Token
	Service      string
	ConnectionID uint64
	// Preamble is what the backend writes first on the connection, verbatim,
	// once it holds the claim. Empty on the v1 exchange, where the broker
	// itself talks to the client.
	Preamble []byte
	// EarlyDataLen is how many bytes the client says it sent behind Hello.
	EarlyDataLen uint32
	Traceparent  string
	Tracestate   string
	// Claim is lent to the transport; nil where the transport carries none.
	Claim *Claim
}

// Ack is a backend's answer to an offer.
type Ack struct {
	Token    []byte // as the backend presented it
	Accepted bool
	Detail   string // why not, for the log
	Leaving  bool   // not accepted because the backend is about to go
}

var (
	// ErrBackendGone says that the connection to the backend ended before it
	// answered.
	ErrBackendGone = errors.New("backend is gone")
	// ErrNoAck says that the backend did not answer before the deadline.
	ErrNoAck = errors.New("no acknowledgement before the deadline")
	// ErrRejected says that the backend answered with a NACK.
	ErrRejected = errors.New("backend rejected the handoff")
)
