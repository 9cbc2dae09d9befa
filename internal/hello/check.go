package hello

import (
	"errors"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// The checks of spec 01 §7.1 in order, first hit wins:
//
//	FromReadError   rows 1-4    what arrived is no frame
//	(the caller)    row 5       an admin frame takes another way
//	Open            rows 6-12   the frame is no Hello
//	Validate        rows 13-18  the Hello asks for something impossible

// Caps of Hello fields in bytes.
const (
	maxWantedVersion = 64
	maxClientVersion = 128
	maxLibField      = 64
)

const tooLong = "initial Hello frame exceeds 64 KiB"

// FromReadError is the refusal for a frame that could not be read; nil for a
// nil error. A timeout or a reset counts as incomplete. There is no request to
// echo: answer with ReplyFrame(nil, …).
func FromReadError(err error) *Refusal {
	var version *frame.UnsupportedVersionError
	var large *frame.TooLargeError
	var decode *frame.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &version):
		return unsupported("unsupported framing version")
	case errors.As(err, &large):
		return rejected(tooLong)
	case errors.As(err, &decode):
		return rejected("malformed broker Frame")
	}
	return rejected("incomplete Hello frame")
}

// Open takes the Hello out of its frame. bodyLen is the length of the frame's
// body in bytes. gate is what the broker answers at row 7, before it looks at
// the envelope: FDPressure, ShuttingDown or nil.
func Open(f *wire.Frame, bodyLen int, gate *Refusal) (*wire.Hello, *Refusal) {
	if bodyLen > frame.MaxHelloBody {
		return nil, rejected(tooLong)
	}
	if gate != nil {
		return nil, gate
	}
	if refusal := judgeEnvelope(f); refusal != nil {
		return nil, refusal
	}
	h := new(wire.Hello)
	if err := frame.Unmarshal(f.Payload, h); err != nil {
		return nil, rejected("malformed Hello payload")
	}
	return h, nil
}

// judgeEnvelope asks what frame.Check asks, in the same order, with the texts
// and codes of a Hello refusal.
func judgeEnvelope(f *wire.Frame) *Refusal {
	switch {
	case f.EnvelopeVersion != protocolVersion:
		return unsupported("frame envelope_version is not v1")
	case f.Kind != wire.FrameKind_FRAME_KIND_REQUEST:
		return rejected("Hello frame kind must be REQUEST")
	case f.PayloadProtocol != frame.Control:
		return rejected("Hello frame payload_protocol must be control-plane")
	case f.PayloadEncoding != wire.PayloadEncoding_PAYLOAD_ENCODING_NONE:
		return rejected("Hello payload must not be compressed")
	}
	return nil
}

// Validate judges the Hello itself. verifiedPID is what the kernel says about
// the peer, 0 when it says nothing. A Hello that passes names nothing on disk
// that its rules forbid.
func Validate(h *wire.Hello, verifiedPID uint32) *Refusal {
	switch claimed := h.PeerPid; {
	case h.ClientMinProtocol > protocolVersion || h.ClientMaxProtocol < protocolVersion:
		return unsupported("client protocol range does not include v1")
	case names.ServiceName(h.ServiceName) != nil:
		return InvalidServiceName()
	case len(h.WantedVersion) > maxWantedVersion || names.Version(h.WantedVersion) != nil:
		return rejected("invalid wanted_version")
	case len(h.ClientVersion) > maxClientVersion:
		return rejected("client_version exceeds 128 bytes")
	case len(h.ClientLibName) > maxLibField || len(h.ClientLibVersion) > maxLibField:
		return rejected("client_lib fields exceed 64 bytes")
	case claimed != 0 && verifiedPID != 0 && claimed != verifiedPID:
		return rejected("peer_pid does not match verified peer")
	}
	return nil
}
