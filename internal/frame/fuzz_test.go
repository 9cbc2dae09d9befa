package frame_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// seed adds every pinned frame and every pinned framing fault.
func seed(f *testing.F) {
	f.Helper()
	var framed struct{ Vectors []framedVector }
	testutil.Vectors(f, "framed.json", &framed)
	for _, v := range framed.Vectors {
		f.Add(testutil.Hex(f, v.Hex))
	}
	var faulty framingVectors
	testutil.Vectors(f, "invalid.json", &faulty)
	for _, v := range faulty.Framing {
		f.Add(testutil.Hex(f, v.Hex))
	}
}

// FuzzDecodeFrame: what is decoded is a frame that survives being written and
// read again, and what follows it changes nothing.
func FuzzDecodeFrame(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, buf []byte) {
		got, consumed, err := frame.Decode(buf, frame.MaxBody)
		if err != nil {
			if got != nil || consumed != 0 {
				t.Fatalf("%v came with a frame of %d bytes", err, consumed)
			}
			return
		}
		if consumed < frame.HeaderLen || consumed > len(buf) {
			t.Fatalf("consumed %d of %d", consumed, len(buf))
		}
		again, _, err := frame.Decode(append(encode(t, got), 2), frame.MaxBody)
		if err != nil || !testutil.Equal(got, again) {
			t.Fatalf("%v became %v, %v", got, again, err)
		}
	})
}

// FuzzReadBody: the stream reader agrees with the buffer decoder and takes not
// one byte more.
func FuzzReadBody(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, buf []byte) {
		r := bytes.NewReader(buf)
		got, bodyLen, err := frame.Read(r, frame.MaxHelloBody)
		want, consumed, wantErr := frame.Decode(buf, frame.MaxHelloBody)
		switch {
		case errors.As(err, new(*frame.EOFError)):
			if !errors.Is(wantErr, frame.ErrNeedMore) {
				t.Fatalf("read %v, decoded %v", err, wantErr)
			}
		case err != nil:
			if wantErr == nil || err.Error() != wantErr.Error() {
				t.Fatalf("read %v, decoded %v", err, wantErr)
			}
		default:
			if wantErr != nil || !testutil.Equal(got, want) {
				t.Fatalf("read %v, decoded %v, %v", got, want, wantErr)
			}
			if taken := len(buf) - r.Len(); taken != consumed || taken != frame.HeaderLen+bodyLen {
				t.Fatalf("took %d bytes of a frame of %d", taken, consumed)
			}
		}
	})
}

// FuzzChannelMessage: a parsed message agrees with its frame about the id.
func FuzzChannelMessage(f *testing.F) {
	for _, m := range []*wire.Frame{
		frame.ChannelOffer(&wire.Offer{Token: make([]byte, 16), HandoffId: 1}),
		frame.ChannelAck(&wire.Ack{HandoffId: 2, Accepted: true}),
		frame.RegisterRequest(&wire.Register{ServiceName: "a"}),
		frame.Registered(frame.RegisterRequest(&wire.Register{}), &wire.Registered{Accepted: true}),
	} {
		f.Add(encode(f, m))
	}
	f.Fuzz(func(t *testing.T, buf []byte) {
		got, _, err := frame.Decode(buf, frame.MaxBody)
		if err != nil {
			return
		}
		parsed := 0
		if offer, err := frame.ParseChannelOffer(got); err == nil {
			parsed++
			if offer.HandoffId != got.RequestId {
				t.Fatalf("offer %d in frame %d", offer.HandoffId, got.RequestId)
			}
		}
		if ack, err := frame.ParseChannelAck(got); err == nil {
			parsed++
			if ack.HandoffId != got.RequestId {
				t.Fatalf("ack %d in frame %d", ack.HandoffId, got.RequestId)
			}
		}
		if _, err := frame.ParseRegister(got); err == nil {
			parsed++
		}
		if _, err := frame.ParseRegistered(got); err == nil {
			parsed++
		}
		if parsed > 1 {
			t.Fatalf("%v is read as %d messages", got, parsed)
		}
	})
}
