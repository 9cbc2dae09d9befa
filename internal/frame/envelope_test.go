package frame_test

import (
	"errors"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	request  = wire.FrameKind_FRAME_KIND_REQUEST
	response = wire.FrameKind_FRAME_KIND_RESPONSE
	event    = wire.FrameKind_FRAME_KIND_EVENT
)

func TestCheckOrder(t *testing.T) {
	faulty := func() *wire.Frame {
		return &wire.Frame{EnvelopeVersion: 2, Kind: 9, PayloadProtocol: 0x7A63, PayloadEncoding: 3}
	}
	mend := []func(*wire.Frame, wire.FrameKind, uint32){
		func(f *wire.Frame, _ wire.FrameKind, _ uint32) { f.EnvelopeVersion = 1 },
		func(f *wire.Frame, k wire.FrameKind, _ uint32) { f.Kind = k },
		func(f *wire.Frame, _ wire.FrameKind, p uint32) { f.PayloadProtocol = p },
		func(f *wire.Frame, _ wire.FrameKind, _ uint32) { f.PayloadEncoding = 0 },
	}
	for _, c := range []struct {
		kind                   wire.FrameKind
		protocol               uint32
		kindText, protocolText string
	}{
		{response, frame.Control, "kind is not RESPONSE", "payload_protocol is not control-plane"},
		{request, frame.Admin, "kind is not REQUEST", "payload_protocol is not admin"},
		{request, frame.Probe, "kind is not REQUEST", "payload_protocol is not endpoint probe"},
		{event, frame.Handoff, "kind is not EVENT", "payload_protocol is not handoff"},
		{request, frame.Channel, "kind is not REQUEST", "payload_protocol is not channel"},
		{request, frame.Register, "kind is not REQUEST", "payload_protocol is not registration"},
		{request, 0x5350, "kind is not REQUEST", "payload_protocol is not the expected one"},
	} {
		f := faulty()
		texts := []string{"envelope_version is not v1", c.kindText, c.protocolText, "payload is compressed"}
		for i, text := range texts {
			err := frame.Check(f, c.kind, c.protocol)
			if !errors.As(err, new(*frame.EnvelopeError)) || err.Error() != text {
				t.Errorf("got %v, want %q", err, text)
			}
			mend[i](f, c.kind, c.protocol)
		}
		if err := frame.Check(f, c.kind, c.protocol); err != nil {
			t.Error(err)
		}
	}
}

func TestResponseEchoes(t *testing.T) {
	req := frame.Request(frame.Admin, 7, []byte("q"))
	req.Traceparent, req.Tracestate, req.DeadlineUnixMs = "p", "s", 9
	want := &wire.Frame{
		EnvelopeVersion: 1, Kind: response, PayloadProtocol: frame.Admin, RequestId: 7,
		Payload: []byte("a"), Traceparent: "p", Tracestate: "s",
	}
	if got := frame.Response(req, []byte("a")); !testutil.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := frame.Event(frame.Handoff, 3, nil); got.Kind != event || got.RequestId != 3 {
		t.Errorf("got %v", got)
	}
}
