package hello

import (
	"errors"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	libName     = "usher" // Hello.client_lib_name
	helloID     = "hello" // Hello.request_id, as the stock v1 client writes it
	helloFrame  = 1       // Frame.request_id of a Hello
	unspecified = wire.ErrorCode_ERROR_CODE_UNSPECIFIED
)

// Request is what a client asks for (spec 01 §9). It names no pid, so that a client in
// another pid namespace is not refused, and leaves the keepalive to the broker.
type Request struct {
	Service       string // as defined on the broker
	Version       string // wanted version of the backend
	ClientVersion string // informational, at most 128 bytes
	Capabilities  uint64 // frame.Cap… bits
	EarlyDataLen  uint32 // bytes sent behind the Hello before any reply is read; then without CapHandlePassing
	OwnBuild      []byte // a wire.OwnBuild; empty: the service is a defined one
}

// Hello is the request as a message.
func (r Request) Hello() *wire.Hello {
	return &wire.Hello{
		ClientMinProtocol:  protocolVersion,
		ClientMaxProtocol:  protocolVersion,
		ServiceName:        r.Service,
		WantedVersion:      r.Version,
		ClientVersion:      r.ClientVersion,
		ClientCapabilities: r.Capabilities,
		RequestId:          helloID,
		ClientLibName:      libName,
		EarlyDataLen:       r.EarlyDataLen,
		OwnBuild:           r.OwnBuild,
	}
}

// Frame is the request in its frame. What a broker would refuse in any case is
// an error here, before anything is dialled: *names.InvalidError for service
// and version, *Refusal for the rest.
func (r Request) Frame() (*wire.Frame, error) {
	if err := names.ServiceName(r.Service); err != nil {
		return nil, err
	}
	if err := names.Version(r.Version); err != nil {
		return nil, err
	}
	h := r.Hello()
	if refusal := Validate(h, 0); refusal != nil {
		return nil, refusal
	}
	return frame.Request(frame.Control, helloFrame, wire.Marshal(h)), nil
}

// ErrMissingResult: the reply neither grants nor refuses.
var ErrMissingResult = errors.New("missing result: the HelloReply neither grants nor refuses; the broker is faulty")

// ParseReply judges the broker's answer. Errors: *frame.EnvelopeError,
// *frame.DecodeError, ErrMissingResult, *Refusal. As in v1 the frame's id
// is not checked: there is one exchange per connection, and a broker that could
// not read the request answers with id 0.
func ParseReply(f *wire.Frame) (*wire.Negotiated, error) {
	if err := frame.Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, frame.Control); err != nil {
		return nil, err
	}
	reply := new(wire.HelloReply)
	if err := frame.Unmarshal(f.Payload, reply); err != nil {
		return nil, err
	}
	switch {
	case reply.Negotiated != nil:
		return reply.Negotiated, nil
	case reply.Refused != nil:
		return nil, refusal(reply.Refused)
	}
	return nil, ErrMissingResult
}

// refusal is what the broker said. A code that v1 does not define counts as UNSPECIFIED.
func refusal(r *wire.Refused) *Refusal {
	code := r.Code
	if !code.Known() {
		code = unspecified
	}
	return &Refusal{Code: code, Reason: r.Reason, RetryAfter: fromMillis(r.RetryAfterMs)}
}
