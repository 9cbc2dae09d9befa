package frame

import (
	"strings"

	"github.com/seed-7265657e/usher/internal/brokerpb"
)

// Request builds a request frame: version 1, not compressed, no deadline, no
// trace (spec 01 §2).
func Request(protocol uint32, id uint64, payload []byte) *brokerpb.Frame {
	return build(brokerpb.FrameKind_FRAME_KIND_REQUEST, protocol, id, payload)
}

// Response builds the answer to req: it echoes protocol, id and trace.
func Response(req *brokerpb.Frame, payload []byte) *brokerpb.Frame {
	f := build(brokerpb.FrameKind_FRAME_KIND_RESPONSE, req.GetPayloadProtocol(), req.GetRequestId(), payload)
	f.Traceparent = req.GetTraceparent()
	f.Tracestate = req.GetTracestate()
	return f
}

// Event builds a frame that answers nothing and expects no answer.
func Event(protocol uint32, id uint64, payload []byte) *brokerpb.Frame {
	return build(brokerpb.FrameKind_FRAME_KIND_EVENT, protocol, id, payload)
}

func build(kind brokerpb.FrameKind, protocol uint32, id uint64, payload []byte) *brokerpb.Frame {
	return &brokerpb.Frame{
		EnvelopeVersion: envelopeVersion,
		Kind:            kind,
		PayloadProtocol: protocol,
		RequestId:       id,
		Payload:         payload,
	}
}

// Check judges the envelope of a frame in the order of spec 01 §2: version,
// kind, protocol, encoding. The first fault is returned as *EnvelopeError.
func Check(f *brokerpb.Frame, kind brokerpb.FrameKind, protocol uint32) error {
	switch {
	case f.GetEnvelopeVersion() != envelopeVersion:
		return &EnvelopeError{Text: "envelope_version is not v1"}
	case f.GetKind() != kind:
		return &EnvelopeError{Text: "kind is not " + strings.TrimPrefix(kind.String(), "FRAME_KIND_")}
	case f.GetPayloadProtocol() != protocol:
		return &EnvelopeError{Text: "payload_protocol is not " + protocolName(protocol)}
	case f.GetPayloadEncoding() != brokerpb.PayloadEncoding_PAYLOAD_ENCODING_NONE:
		return &EnvelopeError{Text: "payload is compressed"}
	}
	return nil
}
