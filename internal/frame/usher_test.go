package frame_test

import (
	"errors"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

func TestChannelRoundTrip(t *testing.T) {
	offer := &wire.Offer{
		Token: []byte("0123456789abcdef"), HandoffId: 7, ConnectionId: 8, Preamble: []byte("p"),
		EarlyDataLen: 9, Traceparent: "t", Tracestate: "s",
	}
	gotOffer, err := frame.ParseChannelOffer(overTheWire(t, frame.ChannelOffer(offer)))
	if err != nil || !testutil.Equal(gotOffer, offer) {
		t.Errorf("offer: got %v, %v", gotOffer, err)
	}
	for _, ack := range []*wire.Ack{
		{Token: offer.Token, HandoffId: 7, Accepted: true},
		{Reason: wire.NackReason_NACK_REASON_DESCRIPTORS, Detail: "no descriptor arrived"},
	} {
		gotAck, err := frame.ParseChannelAck(overTheWire(t, frame.ChannelAck(ack)))
		if err != nil || !testutil.Equal(gotAck, ack) {
			t.Errorf("ack: got %v, %v", gotAck, err)
		}
	}
}

func TestRegistrationRoundTrip(t *testing.T) {
	request := &wire.Register{ServiceName: "demo", ServiceVersion: "1.0.0", BackendPipe: "/run/demo.sock"}
	req := overTheWire(t, frame.RegisterRequest(request))
	got, err := frame.ParseRegister(req)
	if err != nil || !testutil.Equal(got, request) {
		t.Errorf("request: got %v, %v", got, err)
	}
	answer := &wire.Registered{Accepted: true, BrokerPid: 3, Channel: 2}
	gotAnswer, err := frame.ParseRegistered(overTheWire(t, frame.Registered(req, answer)))
	if err != nil || !testutil.Equal(gotAnswer, answer) {
		t.Errorf("answer: got %v, %v", gotAnswer, err)
	}
}

// TestUsherFaults gives each parser a wrong kind, a wrong id and a payload that
// is no message.
func TestUsherFaults(t *testing.T) {
	parsers := map[string]struct {
		good  *wire.Frame
		parse func(*wire.Frame) error
	}{
		"offer": {
			frame.ChannelOffer(&wire.Offer{HandoffId: 7}),
			func(f *wire.Frame) error { _, err := frame.ParseChannelOffer(f); return err },
		},
		"ack": {
			frame.ChannelAck(&wire.Ack{HandoffId: 7}),
			func(f *wire.Frame) error { _, err := frame.ParseChannelAck(f); return err },
		},
		"registered": {
			frame.Registered(frame.RegisterRequest(&wire.Register{}), &wire.Registered{}),
			func(f *wire.Frame) error { _, err := frame.ParseRegistered(f); return err },
		},
	}
	for name, p := range parsers {
		faults := map[string]struct {
			spoil func(*wire.Frame)
			want  any
		}{
			"none":    {func(*wire.Frame) {}, nil},
			"kind":    {func(f *wire.Frame) { f.Kind = event }, new(*frame.EnvelopeError)},
			"v1":      {func(f *wire.Frame) { f.PayloadProtocol = frame.Control }, new(*frame.EnvelopeError)},
			"id":      {func(f *wire.Frame) { f.RequestId++ }, new(*frame.MismatchError)},
			"garbage": {func(f *wire.Frame) { f.Payload = []byte{0x0a, 0x05} }, new(*frame.DecodeError)},
		}
		for fault, c := range faults {
			f := testutil.Clone(p.good)
			c.spoil(f)
			err := p.parse(f)
			if c.want == nil && err != nil || c.want != nil && (err == nil || !errors.As(err, c.want)) {
				t.Errorf("%s with fault %s: got %v", name, fault, err)
			}
		}
	}
	register := frame.RegisterRequest(&wire.Register{})
	register.Payload = []byte{0x0a, 0x05}
	if _, err := frame.ParseRegister(register); !errors.As(err, new(*frame.DecodeError)) {
		t.Errorf("registration with garbage: got %v", err)
	}
	register.Kind = event
	if _, err := frame.ParseRegister(register); !errors.As(err, new(*frame.EnvelopeError)) {
		t.Errorf("registration of a wrong kind: got %v", err)
	}
}

func overTheWire(t *testing.T, f *wire.Frame) *wire.Frame {
	t.Helper()
	got, _, err := frame.Decode(encode(t, f), frame.MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
