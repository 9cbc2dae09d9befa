package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// ProbeTimeout bounds one probe, write and read together (spec 01 §13). A context
// may end it earlier, never later.
const ProbeTimeout = 500 * time.Millisecond

// ErrProbeTimeout reports an endpoint that did not answer in time, or closed the
// connection instead.
var ErrProbeTimeout = errors.New("the endpoint did not answer the identity probe: its process hangs or is no v1 backend")

// Fetch asks the process behind conn who it is, in the order of spec 01 §11, checks 3
// to 9. conn stays the caller's; after an error it is good for nothing but closing.
// Errors: ErrProbeTimeout; the
// framing errors of frame; *frame.EnvelopeError, *frame.MismatchError (request
// id), or what is wrong with the payload; those of Decode; ctx.Err when ctx was cancelled.
func Fetch(ctx context.Context, conn net.Conn) (*wire.DaemonProcess, error) {
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	return Await(ctx, conn)
}

// Await is Fetch for a process that is being started: it waits for the answer until ctx
// ends.
func Await(ctx context.Context, conn net.Conn) (*wire.DaemonProcess, error) {
	// Any end of ctx makes the blocked read or write return at once.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	p, err := exchange(conn)
	if !stop() {
		return nil, fmt.Errorf("identity probe: %w", timeoutOf(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("identity probe: %w", err)
	}
	return p, nil
}

// timeoutOf tells a deadline, ours or the caller's, from a cancelled caller.
func timeoutOf(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrProbeTimeout
	}
	return ctx.Err()
}

func exchange(conn net.Conn) (*wire.DaemonProcess, error) {
	var nonce [nonceLen]byte
	_, _ = rand.Read(nonce[:]) // never fails: it ends the program instead
	request := newProbe(nonce)
	if _, err := frame.Write(conn, request); err != nil {
		return nil, asTimeout(err)
	}
	response, _, err := frame.Read(conn, frame.MaxBody)
	if err != nil {
		return nil, asTimeout(err)
	}
	return judge(request, response)
}

// asTimeout gives an early end of the stream the class that v1 gives it.
func asTimeout(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w (%w)", ErrProbeTimeout, err)
	}
	return err
}

func newProbe(nonce [nonceLen]byte) *wire.Frame {
	return frame.Request(frame.Probe, binary.LittleEndian.Uint64(nonce[:8]), nonce[:])
}

// judge is checks 5 to 9 of spec 01 §11.
func judge(request, response *wire.Frame) (*wire.DaemonProcess, error) {
	if err := checkEnvelope(request, response); err != nil {
		return nil, err
	}
	nonce, payload := request.Payload, response.Payload
	if len(payload) < nonceLen {
		return nil, errors.New("payload shorter than nonce")
	}
	if !bytes.Equal(payload[:nonceLen], nonce) {
		return nil, errors.New("nonce does not match endpoint probe request")
	}
	return Decode(payload[nonceLen:])
}

// checkEnvelope judges request_id between the protocol and the encoding; only the
// probe does.
func checkEnvelope(request, response *wire.Frame) error {
	const kind = wire.FrameKind_FRAME_KIND_RESPONSE
	head := &wire.Frame{
		EnvelopeVersion: response.EnvelopeVersion,
		Kind:            response.Kind,
		PayloadProtocol: response.PayloadProtocol,
	}
	if err := frame.Check(head, kind, frame.Probe); err != nil {
		return err
	}
	if response.RequestId != request.RequestId {
		return &frame.MismatchError{Text: "request_id does not match"}
	}
	return frame.Check(response, kind, frame.Probe)
}
