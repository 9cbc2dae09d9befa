package frame_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type wireCase struct {
	Name, Expect string
	WireHex      string `json:"wire_hex"`
}

type handoffVectors struct {
	Offers []wireCase `json:"handoff_offer_frames"`
	Acks   struct {
		Offer struct {
			Token         string
			CorrelationID string `json:"correlation_id"`
		}
		Cases []wireCase
	} `json:"handoff_ack_frames"`
	Ready struct {
		ExpectedToken string `json:"expected_token"`
		Cases         []wireCase
	} `json:"handoff_ready_events"`
}

func loadHandoff(t *testing.T) (v handoffVectors) {
	t.Helper()
	testutil.Vectors(t, "invalid.json", &v)
	if len(v.Offers) == 0 || len(v.Acks.Cases) == 0 || len(v.Ready.Cases) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

func decode(t *testing.T, wire string) *wire.Frame {
	t.Helper()
	f, _, err := frame.Decode(testutil.Hex(t, wire), frame.MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestHandoffOfferVectors(t *testing.T) {
	for _, c := range loadHandoff(t).Offers {
		t.Run(c.Name, func(t *testing.T) {
			_, err := frame.ParseHandoffOffer(decode(t, c.WireHex))
			if c.Expect == "payload decode error" {
				if !errors.As(err, new(*frame.DecodeError)) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || err.Error() != c.Expect {
				t.Errorf("got %v, want %q", err, c.Expect)
			}
		})
	}
}

func TestHandoffAckVectors(t *testing.T) {
	v := loadHandoff(t).Acks
	token := testutil.Hex(t, v.Offer.Token)
	correlation, err := strconv.ParseUint(v.Offer.CorrelationID, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			ack, err := frame.ParseHandoffAck(decode(t, c.WireHex), token, correlation)
			var rejected *frame.RejectedError
			explicit := errors.As(err, &rejected)
			switch {
			case c.Expect == "ok":
				if err != nil || !ack.Accepted {
					t.Errorf("got %v, %v", ack, err)
				}
			case strings.HasPrefix(c.Expect, "explicit rejection"):
				if !explicit || rejected.Detail != "handoff token expired" {
					t.Errorf("got %v, want the rejection", err)
				}
			default:
				if err == nil || explicit || ack != nil || !strings.HasPrefix(c.Expect, err.Error()) {
					t.Errorf("got %v, want %q", err, c.Expect)
				}
			}
		})
	}
}

func TestHandoffReadyVectors(t *testing.T) {
	v := loadHandoff(t).Ready
	token := testutil.Hex(t, v.ExpectedToken)
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			f, _, err := frame.Read(bytes.NewReader(testutil.Hex(t, c.WireHex)), frame.MaxBody)
			if err == nil {
				err = frame.ParseHandoffReady(f, token)
			}
			if adopt := strings.HasPrefix(c.Expect, "adopt"); adopt != (err == nil) {
				t.Errorf("got %v, want %s", err, c.Expect)
			}
		})
	}
}

func TestEmptyTokenMatchesNothing(t *testing.T) {
	if err := frame.ParseHandoffReady(frame.HandoffReady(nil, 1), nil); err == nil {
		t.Error("a ready event was taken without a token")
	}
	ack := frame.HandoffAck(&wire.HandoffAck{Accepted: true, CorrelationId: 1})
	if _, err := frame.ParseHandoffAck(ack, nil, 1); err == nil {
		t.Error("an ACK was taken without a token")
	}
}

// TestHandoffStream builds the frames of one v1 exchange. The reference writes
// a zero handle value; the canonical bytes omit it, and both are read alike.
func TestHandoffStream(t *testing.T) {
	var v struct {
		Streams []struct {
			Segments []struct{ Hex string }
			ReplyHex string `json:"reply_hex"`
		}
	}
	testutil.Vectors(t, "framed.json", &v)
	stream := v.Streams[0]
	token := testutil.Hex(t, stream.Segments[0].Hex)

	offer, err := frame.ParseHandoffOffer(decode(t, stream.Segments[1].Hex))
	if err != nil || !bytes.Equal(offer.Token, token) {
		t.Fatalf("got %v, %v", offer, err)
	}
	again, err := frame.ParseHandoffOffer(frame.HandoffOffer(offer))
	if err != nil || again.ServiceName != offer.ServiceName {
		t.Errorf("got %v, %v", again, err)
	}
	ack := frame.HandoffAck(&wire.HandoffAck{Token: token, Accepted: true, CorrelationId: offer.CorrelationId})
	if got := hex.EncodeToString(encode(t, ack)); got != stream.ReplyHex {
		t.Errorf("ACK\n %s, want\n %s", got, stream.ReplyHex)
	}
	if err := frame.ParseHandoffReady(frame.HandoffReady(token, 1), token); err != nil {
		t.Error(err)
	}
}
