package frame

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/usherpb"
)

// This file codes the messages on a handoff's path without reflection. It takes
// only what is ordinary: known fields of their own wire type, each message field
// at most once, text in UTF-8. Whatever else arrives is left to Protocol Buffers,
// so the two never differ (FuzzDirect).

// fields walks over the fields of an encoded message.
type fields struct {
	rest   []byte
	key    uint64 // field number and wire type
	number uint64 // of a varint field
	bytes  []byte // of a length-delimited one; shared with what is walked over
	ok     bool   // false after something that is not ordinary
}

const (
	varint    = uint64(protowire.VarintType)
	delimited = uint64(protowire.BytesType)
)

// next reads one field. It is false at the end, or when ok is.
func (f *fields) next() bool {
	if len(f.rest) == 0 {
		return false
	}
	var n int
	if f.key, n = protowire.ConsumeVarint(f.rest); n < 0 {
		return f.strange()
	}
	f.rest = f.rest[n:]
	switch f.key & 7 {
	case varint:
		f.number, n = protowire.ConsumeVarint(f.rest)
	case delimited:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	default:
		return f.strange()
	}
	if n < 0 {
		return f.strange()
	}
	f.rest = f.rest[n:]
	return true
}

func (f *fields) strange() bool {
	f.ok = false
	return false
}

// copied is the field's bytes, which are not shared any more.
func (f *fields) copied() []byte { return append([]byte{}, f.bytes...) }

func (f *fields) text() string {
	if !utf8.Valid(f.bytes) {
		f.rest, f.ok = nil, false
	}
	return string(f.bytes)
}

// decodeDirect decodes an ordinary message into m, which is new. False means that
// it is left to Protocol Buffers, whatever m holds then.
func decodeDirect(b []byte, m proto.Message) bool {
	f := fields{rest: b, ok: true}
	switch m := m.(type) {
	case *brokerpb.Frame:
		return decodeEnvelope(f, m)
	case *brokerpb.Hello:
		return decodeHello(f, m)
	case *brokerpb.HelloReply:
		return decodeReply(f, m)
	case *brokerpb.HandoffAck:
		return decodeReady(f, m)
	case *usherpb.Offer:
		return decodeOffer(f, m)
	case *usherpb.Ack:
		return decodeAck(f, m)
	}
	return false
}

func decodeEnvelope(f fields, m *brokerpb.Frame) bool {
	for f.next() {
		switch f.key {
		case 1<<3 | varint:
			m.EnvelopeVersion = uint32(f.number)
		case 2<<3 | varint:
			m.Kind = brokerpb.FrameKind(f.number)
		case 3<<3 | varint:
			m.PayloadProtocol = uint32(f.number)
		case 4<<3 | delimited:
			m.Payload = f.copied()
		case 5<<3 | varint:
			m.RequestId = f.number
		case 6<<3 | varint:
			m.PayloadEncoding = brokerpb.PayloadEncoding(f.number)
		case 7<<3 | varint:
			m.DeadlineUnixMs = f.number
		case 8<<3 | delimited:
			m.Traceparent = f.text()
		case 9<<3 | delimited:
			m.Tracestate = f.text()
		default:
			return false
		}
	}
	return f.ok
}

func decodeHello(f fields, m *brokerpb.Hello) bool {
	for f.next() {
		switch f.key {
		case 1<<3 | varint:
			m.ClientMinProtocol = uint32(f.number)
		case 2<<3 | varint:
			m.ClientMaxProtocol = uint32(f.number)
		case 3<<3 | delimited:
			m.ServiceName = f.text()
		case 4<<3 | delimited:
			m.WantedVersion = f.text()
		case 5<<3 | delimited:
			m.ClientVersion = f.text()
		case 6<<3 | varint:
			m.ClientCapabilities = f.number
		case 8<<3 | delimited:
			m.RequestId = f.text()
		case 9<<3 | varint:
			m.ConnectionId = f.number
		case 10<<3 | varint:
			m.PeerPid = uint32(f.number)
		case 11<<3 | delimited:
			m.ClientLibName = f.text()
		case 12<<3 | delimited:
			m.ClientLibVersion = f.text()
		case 15<<3 | varint:
			m.ClientKeepaliveSecs = f.number
		case 100<<3 | varint:
			m.EarlyDataLen = uint32(f.number)
		default:
			return false
		}
	}
	return f.ok
}

func decodeReply(f fields, m *brokerpb.HelloReply) bool {
	for f.next() {
		if f.key != 1<<3|delimited || m.Result != nil {
			return false
		}
		granted := new(brokerpb.Negotiated)
		if !decodeNegotiated(fields{rest: f.bytes, ok: true}, granted) {
			return false
		}
		m.Result = &brokerpb.HelloReply_Negotiated{Negotiated: granted}
	}
	return f.ok
}

func decodeNegotiated(f fields, m *brokerpb.Negotiated) bool {
	for f.next() {
		switch f.key {
		case 1<<3 | varint:
			m.NegotiatedProtocol = uint32(f.number)
		case 2<<3 | delimited:
			m.DaemonVersion = f.text()
		case 3<<3 | delimited:
			m.BackendPipe = f.text()
		case 5<<3 | varint:
			m.ServerCapabilities = f.number
		case 6<<3 | varint:
			m.KeepaliveIntervalSecs = f.number
		case 7<<3 | delimited:
			m.HandlePassedToken = f.copied()
		case 8<<3 | varint:
			m.ConnectionId = f.number
		default:
			return false
		}
	}
	return f.ok
}

func decodeReady(f fields, m *brokerpb.HandoffAck) bool {
	for f.next() {
		switch f.key {
		case 1<<3 | delimited:
			m.Token = f.copied()
		case 2<<3 | varint:
			m.Accepted = protowire.DecodeBool(f.number)
		case 4<<3 | varint:
			m.CorrelationId = f.number
		default:
			return false
		}
	}
	return f.ok
}

func decodeOffer(f fields, m *usherpb.Offer) bool {
	for f.next() {
		switch f.key {
		case 1<<3 | delimited:
			m.Token = f.copied()
		case 2<<3 | varint:
			m.HandoffId = f.number
		case 3<<3 | varint:
			m.ConnectionId = f.number
		case 4<<3 | delimited:
			m.Preamble = f.copied()
		case 5<<3 | varint:
			m.EarlyDataLen = uint32(f.number)
		case 6<<3 | delimited:
			m.Traceparent = f.text()
		case 7<<3 | delimited:
			m.Tracestate = f.text()
		case 8<<3 | varint:
			m.ClaimWord = uint32(f.number)
		case 9<<3 | varint:
			m.ClaimGeneration = f.number
		default:
			return false
		}
	}
	return f.ok
}

func decodeAck(f fields, m *usherpb.Ack) bool {
	for f.next() {
		switch f.key {
		case 1<<3 | delimited:
			m.Token = f.copied()
		case 2<<3 | varint:
			m.HandoffId = f.number
		case 3<<3 | varint:
			m.Accepted = protowire.DecodeBool(f.number)
		default:
			return false
		}
	}
	return f.ok
}

// encoding is a message that grows by its fields, in the order of their numbers.
// Fields at their default are left out.
type encoding struct {
	b  []byte
	ok bool // false after text that is not UTF-8
}

func (e *encoding) varint(field protowire.Number, v uint64) {
	if v != 0 {
		e.b = protowire.AppendVarint(protowire.AppendTag(e.b, field, protowire.VarintType), v)
	}
}

func (e *encoding) bytes(field protowire.Number, v []byte) {
	if len(v) > 0 {
		e.b = protowire.AppendBytes(protowire.AppendTag(e.b, field, protowire.BytesType), v)
	}
}

func (e *encoding) text(field protowire.Number, v string) {
	if len(v) > 0 {
		e.ok = e.ok && utf8.ValidString(v)
		e.b = protowire.AppendString(protowire.AppendTag(e.b, field, protowire.BytesType), v)
	}
}

// encodeDirect appends an ordinary message to dst. False means that it is left to
// Protocol Buffers.
func encodeDirect(dst []byte, m proto.Message) ([]byte, bool) {
	e := encoding{dst, true}
	switch m := m.(type) {
	case *brokerpb.Frame:
		e.varint(1, uint64(m.GetEnvelopeVersion()))
		e.varint(2, uint64(m.GetKind()))
		e.varint(3, uint64(m.GetPayloadProtocol()))
		e.bytes(4, m.GetPayload())
		e.varint(5, m.GetRequestId())
		e.varint(6, uint64(m.GetPayloadEncoding()))
		e.varint(7, m.GetDeadlineUnixMs())
		e.text(8, m.GetTraceparent())
		e.text(9, m.GetTracestate())
	case *brokerpb.HelloReply:
		n := m.GetNegotiated()
		if n == nil || len(n.GetWarnings()) > 0 {
			return dst, false
		}
		room := rooms.Get().(*[]byte)
		defer rooms.Put(room)
		granted := encoding{(*room)[:0], true}
		granted.varint(1, uint64(n.GetNegotiatedProtocol()))
		granted.text(2, n.GetDaemonVersion())
		granted.text(3, n.GetBackendPipe())
		granted.varint(5, n.GetServerCapabilities())
		granted.varint(6, n.GetKeepaliveIntervalSecs())
		granted.bytes(7, n.GetHandlePassedToken())
		granted.varint(8, n.GetConnectionId())
		e.b = protowire.AppendBytes(protowire.AppendTag(e.b, 1, protowire.BytesType), granted.b)
		e.ok = granted.ok
		*room = granted.b
	case *brokerpb.HandoffAck:
		e.bytes(1, m.GetToken())
		e.varint(2, protowire.EncodeBool(m.GetAccepted()))
		e.text(3, m.GetErrorDetail())
		e.varint(4, m.GetCorrelationId())
	case *usherpb.Offer:
		e.bytes(1, m.GetToken())
		e.varint(2, m.GetHandoffId())
		e.varint(3, m.GetConnectionId())
		e.bytes(4, m.GetPreamble())
		e.varint(5, uint64(m.GetEarlyDataLen()))
		e.text(6, m.GetTraceparent())
		e.text(7, m.GetTracestate())
		e.varint(8, uint64(m.GetClaimWord()))
		e.varint(9, m.GetClaimGeneration())
	case *usherpb.Ack:
		e.bytes(1, m.GetToken())
		e.varint(2, m.GetHandoffId())
		e.varint(3, protowire.EncodeBool(m.GetAccepted()))
		e.varint(4, uint64(m.GetReason()))
		e.text(5, m.GetDetail())
	default:
		return dst, false
	}
	return e.b, e.ok
}
