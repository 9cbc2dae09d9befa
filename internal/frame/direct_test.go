package frame_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/usherpb"
)

// onThePath are the messages that are coded without reflection, every field set,
// also to values at the edges.
func onThePath() []proto.Message {
	token := []byte("0123456789abcdef")
	most := ^uint64(0)
	return []proto.Message{
		&brokerpb.Frame{
			EnvelopeVersion: ^uint32(0), Kind: -1, PayloadProtocol: 0xF001, Payload: []byte("payload"), RequestId: most,
			PayloadEncoding: 3, DeadlineUnixMs: 9, Traceparent: "00-äö", Tracestate: "s",
		},
		&brokerpb.Hello{
			ClientMinProtocol: 1, ClientMaxProtocol: 2, ServiceName: "svc", WantedVersion: "1.0.0", ClientVersion: "v",
			ClientCapabilities: most, AuthToken: token, RequestId: "hello", ConnectionId: 4, PeerPid: 5, ClientLibName: "usher",
			ClientLibVersion: "1", PeerAttestationNonce: token, CapabilityToken: token, ClientKeepaliveSecs: 6, EarlyDataLen: 7,
		},
		&brokerpb.Hello{ServiceName: "svc", ClientCapabilities: most, PeerPid: 5, ClientKeepaliveSecs: 6, EarlyDataLen: 7},
		negotiated(&brokerpb.Negotiated{
			NegotiatedProtocol: 1, DaemonVersion: "1.0.0", BackendPipe: "/run/b.sock", ServerCapabilities: most,
			KeepaliveIntervalSecs: 1800, HandlePassedToken: token, ConnectionId: most,
		}),
		negotiated(&brokerpb.Negotiated{Warnings: []string{"w", ""}}),
		negotiated(&brokerpb.Negotiated{}),
		negotiated(&brokerpb.Negotiated{BackendPipe: strings.Repeat("x", 2000)}),
		&brokerpb.HelloReply{Result: &brokerpb.HelloReply_Refused{Refused: &brokerpb.Refused{
			Reason: "r", Code: brokerpb.ErrorCode_ERROR_RATE_LIMITED, Details: map[string]string{"a": "b", "c": "d"}, RetryAfterMs: 1,
		}}},
		&brokerpb.HelloReply{},
		&brokerpb.HandoffAck{Token: token, Accepted: true, ErrorDetail: "e", CorrelationId: most},
		&usherpb.Offer{
			Token: token, HandoffId: 1, ConnectionId: 2, Preamble: token, EarlyDataLen: 16384, Traceparent: "t", Tracestate: "s",
			ClaimWord: ^uint32(0), ClaimGeneration: most,
		},
		&usherpb.Ack{Token: token, HandoffId: most, Accepted: true},
		&usherpb.Ack{Reason: usherpb.NackReason_NACK_REASON_BUSY, Detail: "queue is full"},
	}
}

func negotiated(n *brokerpb.Negotiated) *brokerpb.HelloReply {
	return &brokerpb.HelloReply{Result: &brokerpb.HelloReply_Negotiated{Negotiated: n}}
}

// TestDirect: what is written is byte for byte what Protocol Buffers write, and
// what is read is what they read.
func TestDirect(t *testing.T) {
	for _, m := range onThePath() {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := frame.Marshal(m); !bytes.Equal(got, want) {
			t.Errorf("%T: wrote %x, want %x", m, got, want)
		}
		got := m.ProtoReflect().New().Interface()
		if err := frame.Unmarshal(want, got); err != nil || !proto.Equal(got, m) {
			t.Errorf("%T: read %v, %v", m, got, err)
		}
		f := &brokerpb.Frame{Payload: want, Tracestate: "s"}
		body, _ := proto.Marshal(f)
		if wire := encode(t, f); !bytes.Equal(wire[frame.HeaderLen:], body) {
			t.Errorf("framed %x, want %x", wire, body)
		}
	}
}

// TestNotText: text that is not UTF-8 is an error in an envelope, and repaired in
// a payload, as ever.
func TestNotText(t *testing.T) {
	before := []byte("before")
	got, err := frame.Append(before, &brokerpb.Frame{Tracestate: "\xff"})
	if err == nil || string(got) != "before" {
		t.Errorf("envelope: %q, %v", got, err)
	}
	ack := new(usherpb.Ack)
	if err := frame.Unmarshal(frame.Marshal(&usherpb.Ack{Detail: "no \xff"}), ack); err != nil || ack.Detail != "no \ufffd" {
		t.Errorf("payload: %q, %v", ack.Detail, err)
	}
}

// FuzzDirect: whatever arrives means what Protocol Buffers take it for, and what
// was read is written as they write it.
func FuzzDirect(f *testing.F) {
	kinds := onThePath()
	for i, m := range kinds {
		b, _ := proto.Marshal(m)
		f.Add(uint8(i), b)
		f.Add(uint8(i), append(b, b...))               // every field twice
		f.Add(uint8(i), append(b, 0xfa, 0x7f, 1, 0))   // and an unknown one
		f.Add(uint8(i), append([]byte{0x88, 0}, b...)) // a field number longer than it need be
	}
	var framed struct{ Vectors []framedVector }
	testutil.Vectors(f, "framed.json", &framed)
	for _, v := range framed.Vectors {
		f.Add(uint8(0), testutil.Hex(f, v.Hex)[frame.HeaderLen:])
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := kinds[int(kind)%len(kinds)].ProtoReflect()
		want, got := m.New().Interface(), m.New().Interface()
		wantErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, want)
		err := frame.Unmarshal(b, got)
		if (err == nil) != (wantErr == nil) || err == nil && !proto.Equal(got, want) {
			t.Fatalf("read %v, %v; want %v, %v", got, err, want, wantErr)
		}
		if err != nil {
			return
		}
		again, _ := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if wrote := frame.Marshal(got); !bytes.Equal(wrote, again) {
			t.Fatalf("wrote %x, want %x", wrote, again)
		}
	})
}
