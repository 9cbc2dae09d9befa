package frame

import (
	"github.com/seed-7265657e/usher/internal/wire"
)

// registerID is the frame id of a registration: one per connection.
const registerID = 1

// CapUnknownMessages is a bit of the capabilities in Register and Registered: whoever
// sets it keeps the channel when a message comes that it does not know
// (docs/protocol.md, section "Channel").
const CapUnknownMessages uint64 = 1 << 0

// CapTaken is a bit of the capabilities in READY: the second broker answers GO with TAKEN
// before it begins, and has the lock from it (docs/protocol.md, section "Upgrade").
const CapTaken uint64 = 1 << 0

// CapBackends is another: it goes on with the channels of backends, behind TAKEN. The bit
// stands for all that a PassedBackend says, the way in which the keys of own builds are made
// included: who changes that takes another bit.
const CapBackends uint64 = 1 << 1

// CapSockets is another: it goes on with the sockets of services, which come before GO.
const CapSockets uint64 = 1 << 2

// CapPrograms is another: it goes on with the programs that have no channel, which come before
// GO, and counts the processes that have a connection to themselves.
const CapPrograms uint64 = 1 << 3

// UnknownOnChannel reports whether f is a sound message of another kind than the one
// that its reader expects: kind, with the protocol Channel.
func UnknownOnChannel(f *wire.Frame, kind wire.FrameKind) bool {
	return f.EnvelopeVersion == envelopeVersion && (f.Kind != kind || f.PayloadProtocol != Channel)
}

// ChannelOffer builds the offer that travels with the connection and the claim,
// broker to backend. Its frame id is the handoff id.
func ChannelOffer(o *wire.Offer) *wire.Frame {
	return Request(Channel, o.HandoffId, wire.Marshal(o))
}

// ParseChannelOffer judges envelope and ids of an offer. The descriptors beside
// it and the token are judged by the caller.
func ParseChannelOffer(f *wire.Frame) (*wire.Offer, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_REQUEST, Channel); err != nil {
		return nil, err
	}
	offer := new(wire.Offer)
	if err := Unmarshal(f.Payload, offer); err != nil {
		return nil, err
	}
	if f.RequestId != offer.HandoffId {
		return nil, &MismatchError{Text: "frame request_id does not match Offer handoff_id"}
	}
	return offer, nil
}

// ChannelAck builds the ACK or NACK, backend to broker. An offer that could not
// be read is answered with handoff id 0.
func ChannelAck(a *wire.Ack) *wire.Frame {
	return build(wire.FrameKind_FRAME_KIND_RESPONSE, Channel, a.HandoffId, wire.Marshal(a))
}

// ParseChannelAck judges envelope and ids of an ACK or NACK. Which offer it
// answers, and whether its token is the right one, is judged by the caller.
func ParseChannelAck(f *wire.Frame) (*wire.Ack, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, Channel); err != nil {
		return nil, err
	}
	ack := new(wire.Ack)
	if err := Unmarshal(f.Payload, ack); err != nil {
		return nil, err
	}
	if f.RequestId != ack.HandoffId {
		return nil, &MismatchError{Text: "frame request_id does not match Ack handoff_id"}
	}
	return ack, nil
}

// ChannelNote builds a note, in either direction. It has no answer.
func ChannelNote(n *wire.Note) *wire.Frame { return Event(Channel, 0, wire.Marshal(n)) }

// ParseChannelNote reads a note; nil when f is none, or one of a kind that is not known.
func ParseChannelNote(f *wire.Frame) *wire.Note {
	if Check(f, wire.FrameKind_FRAME_KIND_EVENT, Channel) != nil {
		return nil
	}
	note := new(wire.Note)
	if Unmarshal(f.Payload, note) != nil {
		return nil
	}
	switch note.Kind {
	case wire.NoteKind_NOTE_KIND_READY, wire.NoteKind_NOTE_KIND_IDLE, wire.NoteKind_NOTE_KIND_DRAIN, wire.NoteKind_NOTE_KIND_ACTIVE,
		wire.NoteKind_NOTE_KIND_BUSY:
		return note
	}
	return nil
}

// HandoverEvent builds a message between a broker and its successor.
func HandoverEvent(h *wire.Handover) *wire.Frame { return Event(Handover, 0, wire.Marshal(h)) }

// ParseHandover judges the envelope of a message between a broker and its successor.
func ParseHandover(f *wire.Frame) (*wire.Handover, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_EVENT, Handover); err != nil {
		return nil, err
	}
	h := new(wire.Handover)
	return h, Unmarshal(f.Payload, h)
}

// RegisterRequest builds a backend's request for a channel.
func RegisterRequest(r *wire.Register) *wire.Frame {
	return Request(Register, registerID, wire.Marshal(r))
}

// ParseRegister judges the envelope of a registration. Its names are judged by
// the caller.
func ParseRegister(f *wire.Frame) (*wire.Register, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_REQUEST, Register); err != nil {
		return nil, err
	}
	request := new(wire.Register)
	if err := Unmarshal(f.Payload, request); err != nil {
		return nil, err
	}
	return request, nil
}

// Registered builds the broker's answer to the registration in req.
func Registered(req *wire.Frame, r *wire.Registered) *wire.Frame {
	return Response(req, wire.Marshal(r))
}

// ParseRegistered judges the answer to RegisterRequest. Whether it accepts, and
// whether the channel's descriptor came with it, is judged by the caller. A v1
// broker answers with a refused Hello, which is a wrong protocol here.
func ParseRegistered(f *wire.Frame) (*wire.Registered, error) {
	if err := Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, Register); err != nil {
		return nil, err
	}
	if f.RequestId != registerID {
		return nil, &MismatchError{Text: "frame request_id does not match the registration"}
	}
	answer := new(wire.Registered)
	if err := Unmarshal(f.Payload, answer); err != nil {
		return nil, err
	}
	return answer, nil
}
