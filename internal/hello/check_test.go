package hello_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type refusalVectors struct {
	Refusals struct {
		VerifiedPeerPID uint32 `json:"verified_peer_pid"`
		Cases           []struct {
			Name           string
			WireHex        string `json:"wire_hex"`
			Expect         map[string]any
			ReplyRequestID string `json:"reply_request_id"`
		}
		AcceptedShapes []struct {
			Name     string
			HelloHex string `json:"hello_hex"`
		} `json:"accepted_shapes"`
	} `json:"hello_refusals"`
	HelloSize []struct {
		BodyLen      int    `json:"body_len"`
		SHA256       string `json:"sha256_of_wire"`
		OnTheControl struct {
			Reason         string
			ReplyRequestID string `json:"reply_request_id"`
		} `json:"expect_control_socket"`
		ServeOnce struct {
			Reason         string
			ReplyRequestID string `json:"reply_request_id"`
		} `json:"expect_serve_once"`
	} `json:"hello_size"`
}

func loadRefusals(t testing.TB) (v refusalVectors) {
	t.Helper()
	testutil.Vectors(t, "invalid.json", &v)
	if len(v.Refusals.Cases) == 0 || len(v.Refusals.AcceptedShapes) == 0 || len(v.HelloSize) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

// behind are the vectors whose Hello is well-formed: what the broker finds
// behind it decides. gated ones are answered before the Hello is opened.
var (
	behind = map[string]*hello.Refusal{
		"service_unknown":   hello.ServiceNotFound(),
		"below_min":         hello.BelowMinVersion(),
		"not_in_allow_list": hello.OutsideAllowList(),
		"not_registered":    hello.BackendNotRegistered(),
	}
	gated = map[string]*hello.Refusal{"fd_pressure": hello.FDPressure()}
)

// answer runs one connection's bytes through the checks, as a broker does.
func answer(raw io.Reader, limit, pid uint32, name string) (*wire.Frame, *hello.Refusal) {
	f, bodyLen, err := frame.Read(raw, limit)
	if refusal := hello.FromReadError(err); refusal != nil {
		return nil, refusal
	}
	h, refusal := hello.Open(f, bodyLen, gated[name])
	if refusal == nil {
		refusal = hello.Validate(h, pid)
	}
	if refusal == nil {
		refusal = behind[name]
	}
	return f, refusal
}

func TestRefusalVectors(t *testing.T) {
	v := loadRefusals(t).Refusals
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			raw := bytes.NewReader(testutil.Hex(t, c.WireHex))
			req, refusal := answer(raw, frame.MaxBody, v.VerifiedPeerPID, c.Name)
			if refusal == nil {
				t.Fatal("the Hello was accepted")
			}
			reply := hello.ReplyFrame(req, refusal.Reply())
			if id := strconv.FormatUint(reply.RequestId, 10); id != c.ReplyRequestID {
				t.Errorf("reply id %s, want %s", id, c.ReplyRequestID)
			}
			if err := frame.Check(reply, wire.FrameKind_FRAME_KIND_RESPONSE, frame.Control); err != nil {
				t.Error(err)
			}
			want := testutil.Message(t, "HelloReply", map[string]any{"refused": c.Expect})
			got := new(wire.HelloReply)
			if err := frame.Unmarshal(reply.Payload, got); err != nil {
				t.Fatal(err)
			}
			if !testutil.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestAcceptedShapes(t *testing.T) {
	v := loadRefusals(t).Refusals
	for _, c := range v.AcceptedShapes {
		t.Run(c.Name, func(t *testing.T) {
			f := frame.Request(frame.Control, 1, testutil.Hex(t, c.HelloHex))
			h, refusal := hello.Open(f, len(wire.Marshal(f)), nil)
			if refusal == nil {
				refusal = hello.Validate(h, v.VerifiedPeerPID)
			}
			if refusal != nil {
				t.Error(refusal)
			}
		})
	}
}

// TestUnverifiedPeer: a peer that the kernel can't name may claim any pid.
func TestUnverifiedPeer(t *testing.T) {
	h := hello.Request{Service: "a", Version: "1.0.0"}.Hello()
	h.PeerPid = 7
	if refusal := hello.Validate(h, 0); refusal != nil {
		t.Error(refusal)
	}
	if refusal := hello.Validate(h, 8); refusal == nil {
		t.Error("a false pid was accepted")
	}
}

// TestHelloSize builds the decodable Hello above 64 KiB. On the control socket
// it is judged after decoding and its id echoed; a reader that applies the cap
// at framing has no id.
func TestHelloSize(t *testing.T) {
	var framed struct {
		Vectors []struct {
			Name  string
			Frame struct{ Payload string }
		}
	}
	testutil.Vectors(t, "framed.json", &framed)
	payload := testutil.Hex(t, framed.Vectors[0].Frame.Payload)
	payload = protowire.AppendTag(payload, 200, protowire.BytesType)
	payload = protowire.AppendBytes(payload, make([]byte, 65536))
	raw, err := frame.Append(nil, frame.Request(frame.Control, 9, payload))
	if err != nil {
		t.Fatal(err)
	}
	c := loadRefusals(t).HelloSize[0]
	sum := sha256.Sum256(raw)
	if len(raw) != frame.HeaderLen+c.BodyLen || hex.EncodeToString(sum[:]) != c.SHA256 {
		t.Fatalf("built %d bytes with sum %x", len(raw), sum)
	}
	for _, e := range []struct {
		limit      uint32
		reason, id string
	}{
		{frame.MaxBody, c.OnTheControl.Reason, c.OnTheControl.ReplyRequestID},
		{frame.MaxHelloBody, c.ServeOnce.Reason, c.ServeOnce.ReplyRequestID},
	} {
		req, refusal := answer(bytes.NewReader(raw), e.limit, 0, "")
		if refusal == nil || refusal.Reason != e.reason {
			t.Errorf("limit %d: got %v", e.limit, refusal)
		}
		if id := fmt.Sprint(hello.ReplyFrame(req, refusal.Reply()).RequestId); id != e.id {
			t.Errorf("limit %d: reply id %s, want %s", e.limit, id, e.id)
		}
	}
}

// TestSizeBeforeGate: row 6 comes before row 7, and row 7 before row 8.
func TestSizeBeforeGate(t *testing.T) {
	f := &wire.Frame{EnvelopeVersion: 2}
	if _, refusal := hello.Open(f, frame.MaxHelloBody+1, hello.ShuttingDown()); refusal.Reason != "initial Hello frame exceeds 64 KiB" {
		t.Error(refusal)
	}
	if _, refusal := hello.Open(f, frame.MaxHelloBody, hello.ShuttingDown()); refusal.Code != wire.ErrorCode_ERROR_SHUTTING_DOWN {
		t.Error(refusal)
	}
}

// FuzzHello: no bytes make the checks panic, every refusal is a reply that a
// client can read, and what is accepted keeps the promises of Validate.
func FuzzHello(f *testing.F) {
	v := loadRefusals(f).Refusals
	for _, c := range v.Cases {
		f.Add(testutil.Hex(f, c.WireHex))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, refusal := answer(bytes.NewReader(raw), frame.MaxBody, v.VerifiedPeerPID, "")
		if refusal == nil {
			h, _ := hello.Open(req, 0, nil)
			if n := len(h.ServiceName); n == 0 || n > 64 || len(h.WantedVersion) > 64 {
				t.Fatalf("accepted %v", h)
			}
			return
		}
		_, err := hello.ParseReply(hello.ReplyFrame(req, refusal.Reply()))
		if refused, ok := err.(*hello.Refusal); !ok || refused.Reason != refusal.Reason {
			t.Fatalf("%v arrived as %v", refusal, err)
		}
	})
}
