package frame_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
)

const (
	request  = brokerpb.FrameKind_FRAME_KIND_REQUEST
	response = brokerpb.FrameKind_FRAME_KIND_RESPONSE
	event    = brokerpb.FrameKind_FRAME_KIND_EVENT
)

func TestCheckOrder(t *testing.T) {
	faulty := func() *brokerpb.Frame {
		return &brokerpb.Frame{EnvelopeVersion: 2, Kind: 9, PayloadProtocol: 0x7A63, PayloadEncoding: 3}
	}
	mend := []func(*brokerpb.Frame, brokerpb.FrameKind, uint32){
		func(f *brokerpb.Frame, _ brokerpb.FrameKind, _ uint32) { f.EnvelopeVersion = 1 },
		func(f *brokerpb.Frame, k brokerpb.FrameKind, _ uint32) { f.Kind = k },
		func(f *brokerpb.Frame, _ brokerpb.FrameKind, p uint32) { f.PayloadProtocol = p },
		func(f *brokerpb.Frame, _ brokerpb.FrameKind, _ uint32) { f.PayloadEncoding = 0 },
	}
	for _, c := range []struct {
		kind                   brokerpb.FrameKind
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
	want := &brokerpb.Frame{
		EnvelopeVersion: 1, Kind: response, PayloadProtocol: frame.Admin, RequestId: 7,
		Payload: []byte("a"), Traceparent: "p", Tracestate: "s",
	}
	if got := frame.Response(req, []byte("a")); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := frame.Event(frame.Handoff, 3, nil); got.GetKind() != event || got.GetRequestId() != 3 {
		t.Errorf("got %v", got)
	}
}
