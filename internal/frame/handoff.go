package frame

import (
	"crypto/subtle"

	"github.com/seed-7265657e/usher/internal/wire"
)

// HandoffOffer builds the v1 offer, broker to backend (spec 02 §6). Its frame
// id is the correlation id.
func HandoffOffer(o *wire.HandoffOffer) *wire.Frame {
	return Request(Handoff, o.CorrelationId, wire.Marshal(o))
}

// HandoffAck builds the v1 answer to an offer, backend to broker.
func HandoffAck(a *wire.HandoffAck) *wire.Frame {
	return build(wire.FrameKind_FRAME_KIND_RESPONSE, Handoff, a.CorrelationId, wire.Marshal(a))
}

// HandoffReady builds the event that tells the client that its connection now
// belongs to the backend.
func HandoffReady(token []byte, connectionID uint64) *wire.Frame {
	return Event(Handoff, connectionID, wire.Marshal(&wire.HandoffAck{
		Token:         token,
		Accepted:      true,
		CorrelationId: connectionID,
	}))
}

// ParseHandoffOffer judges an offer (spec 02 §8 row 2). Every error means: no
// ACK, no token consumed. The token itself is judged by the caller.
func ParseHandoffOffer(f *wire.Frame) (*wire.HandoffOffer, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_REQUEST, Handoff); err != nil {
		return nil, err
	}
	offer := new(wire.HandoffOffer)
	if err := Unmarshal(f.Payload, offer); err != nil {
		return nil, err
	}
	if f.RequestId != offer.CorrelationId {
		return nil, &MismatchError{Text: "frame request_id does not match HandoffOffer correlation_id"}
	}
	return offer, nil
}

// ParseHandoffAck judges the answer to the offer with this token and
// correlation id, checks 3 to 8 of spec 02 §6 in order. *RejectedError is the
// explicit refusal and comes only when all else held; after any other error
// the backend may own the connection.
func ParseHandoffAck(f *wire.Frame, token []byte, correlation uint64) (*wire.HandoffAck, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, Handoff); err != nil {
		return nil, err
	}
	if f.RequestId != correlation {
		return nil, &MismatchError{Text: "request_id mismatch"}
	}
	ack := new(wire.HandoffAck)
	if err := Unmarshal(f.Payload, ack); err != nil {
		return nil, err
	}
	if ack.CorrelationId != correlation {
		return nil, &MismatchError{Text: "correlation mismatch"}
	}
	if err := judgeToken(ack, token); err != nil {
		return nil, err
	}
	return ack, nil
}

// ParseHandoffReady judges the event a client waits for (spec 02 §7); token is
// the one from Negotiated. The ids are deliberately not checked.
func ParseHandoffReady(f *wire.Frame, token []byte) error {
	if err := Check(f, wire.FrameKind_FRAME_KIND_EVENT, Handoff); err != nil {
		return err
	}
	ack := new(wire.HandoffAck)
	if err := Unmarshal(f.Payload, ack); err != nil {
		return err
	}
	return judgeToken(ack, token)
}

// judgeToken compares in constant time, then looks at the verdict. An empty
// expected token matches nothing.
func judgeToken(ack *wire.HandoffAck, token []byte) error {
	if len(token) == 0 || subtle.ConstantTimeCompare(ack.Token, token) != 1 {
		return &MismatchError{Text: "token echo mismatch"}
	}
	if !ack.Accepted {
		return &RejectedError{Detail: ack.ErrorDetail}
	}
	return nil
}
