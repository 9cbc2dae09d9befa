package frame

import (
	"strings"

	"github.com/seed-7265657e/usher/internal/wire"
)

// Request builds a request frame: version 1, not compressed, no deadline, no
// trace (spec 01 §2).
func Request(protocol uint32, id uint64, payload []byte) *wire.Frame {
	return build(wire.FrameKind_FRAME_KIND_REQUEST, protocol, id, payload)
}

// Response builds the answer to req: it echoes protocol, id and trace.
func Response(req *wire.Frame, payload []byte) *wire.Frame {
	f := build(wire.FrameKind_FRAME_KIND_RESPONSE, req.PayloadProtocol, req.RequestId, payload)
	f.Traceparent = req.Traceparent
	f.Tracestate = req.Tracestate
	return f
}

// Event builds a frame that answers nothing and expects no answer.
func Event(protocol uint32, id uint64, payload []byte) *wire.Frame {
	return build(wire.FrameKind_FRAME_KIND_EVENT, protocol, id, payload)
}

func build(kind wire.FrameKind, protocol uint32, id uint64, payload []byte) *wire.Frame {
	return &wire.Frame{
		EnvelopeVersion: envelopeVersion,
		Kind:            kind,
		PayloadProtocol: protocol,
		RequestId:       id,
		Payload:         payload,
	}
}

// Check judges the envelope of a frame in the order of spec 01 §2: version,
// kind, protocol, encoding. The first fault is returned as *EnvelopeError.
func Check(f *wire.Frame, kind wire.FrameKind, protocol uint32) error {
	switch {
	case f.EnvelopeVersion != envelopeVersion:
		return &EnvelopeError{Text: "envelope_version is not v1"}
	case f.Kind != kind:
		return &EnvelopeError{Text: "kind is not " + strings.TrimPrefix(kind.String(), "FRAME_KIND_")}
	case f.PayloadProtocol != protocol:
		return &EnvelopeError{Text: "payload_protocol is not " + protocolName(protocol)}
	case f.PayloadEncoding != wire.PayloadEncoding_PAYLOAD_ENCODING_NONE:
		return &EnvelopeError{Text: "payload is compressed"}
	}
	return nil
}
