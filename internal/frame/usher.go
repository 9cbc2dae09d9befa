package frame

import (
	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/usherpb"
)

// registerID is the frame id of a registration: one per connection.
const registerID = 1

// ChannelOffer builds the offer that travels with the connection and the claim,
// broker to backend. Its frame id is the handoff id.
func ChannelOffer(o *usherpb.Offer) *brokerpb.Frame {
	return Request(Channel, o.GetHandoffId(), Marshal(o))
}

// ParseChannelOffer judges envelope and ids of an offer. The descriptors beside
// it and the token are judged by the caller.
func ParseChannelOffer(f *brokerpb.Frame) (*usherpb.Offer, error) {
	if err := Check(f, brokerpb.FrameKind_FRAME_KIND_REQUEST, Channel); err != nil {
		return nil, err
	}
	offer := new(usherpb.Offer)
	if err := Unmarshal(f.GetPayload(), offer); err != nil {
		return nil, err
	}
	if f.GetRequestId() != offer.GetHandoffId() {
		return nil, &MismatchError{Text: "frame request_id does not match Offer handoff_id"}
	}
	return offer, nil
}

// ChannelAck builds the ACK or NACK, backend to broker. An offer that could not
// be read is answered with handoff id 0.
func ChannelAck(a *usherpb.Ack) *brokerpb.Frame {
	return build(brokerpb.FrameKind_FRAME_KIND_RESPONSE, Channel, a.GetHandoffId(), Marshal(a))
}

// ParseChannelAck judges envelope and ids of an ACK or NACK. Which offer it
// answers, and whether its token is the right one, is judged by the caller.
func ParseChannelAck(f *brokerpb.Frame) (*usherpb.Ack, error) {
	if err := Check(f, brokerpb.FrameKind_FRAME_KIND_RESPONSE, Channel); err != nil {
		return nil, err
	}
	ack := new(usherpb.Ack)
	if err := Unmarshal(f.GetPayload(), ack); err != nil {
		return nil, err
	}
	if f.GetRequestId() != ack.GetHandoffId() {
		return nil, &MismatchError{Text: "frame request_id does not match Ack handoff_id"}
	}
	return ack, nil
}

// RegisterRequest builds a backend's request for a channel.
func RegisterRequest(r *usherpb.Register) *brokerpb.Frame {
	return Request(Register, registerID, Marshal(r))
}

// ParseRegister judges the envelope of a registration. Its names are judged by
// the caller.
func ParseRegister(f *brokerpb.Frame) (*usherpb.Register, error) {
	if err := Check(f, brokerpb.FrameKind_FRAME_KIND_REQUEST, Register); err != nil {
		return nil, err
	}
	request := new(usherpb.Register)
	if err := Unmarshal(f.GetPayload(), request); err != nil {
		return nil, err
	}
	return request, nil
}

// Registered builds the broker's answer to the registration in req.
func Registered(req *brokerpb.Frame, r *usherpb.Registered) *brokerpb.Frame {
	return Response(req, Marshal(r))
}

// ParseRegistered judges the answer to RegisterRequest. Whether it accepts, and
// whether the channel's descriptor came with it, is judged by the caller. A v1
// broker answers with a refused Hello, which is a wrong protocol here.
func ParseRegistered(f *brokerpb.Frame) (*usherpb.Registered, error) {
	if err := Check(f, brokerpb.FrameKind_FRAME_KIND_RESPONSE, Register); err != nil {
		return nil, err
	}
	if f.GetRequestId() != registerID {
		return nil, &MismatchError{Text: "frame request_id does not match the registration"}
	}
	answer := new(usherpb.Registered)
	if err := Unmarshal(f.GetPayload(), answer); err != nil {
		return nil, err
	}
	return answer, nil
}
