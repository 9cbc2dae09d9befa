package broker_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

type invalidVectors struct {
	Framing []struct {
		Name, Hex, Expect string
		Cap               uint32
	}
	Refusals struct {
		Cases []struct {
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
		BodyLen int    `json:"body_len"`
		SHA256  string `json:"sha256_of_wire"`
		Expect  struct {
			Code           wire.ErrorCode
			Reason         string
			ReplyRequestID string `json:"reply_request_id"`
		} `json:"expect_control_socket"`
	} `json:"hello_size"`
}

func invalid(tb testing.TB) (v invalidVectors) {
	tb.Helper()
	testutil.Vectors(tb, "invalid.json", &v)
	if len(v.Framing) == 0 || len(v.Refusals.Cases) == 0 || len(v.Refusals.AcceptedShapes) == 0 || len(v.HelloSize) == 0 {
		tb.Fatal("the vectors are empty")
	}
	return v
}

// contexts prepare the broker as a vector's context says.
var contexts = map[string]func(*site){
	"service_unknown": func(s *site) { _ = os.Remove(filepath.Join(s.defs, demo+".toml")) },
	"below_min":       func(s *site) { s.define(demo, `min_version = "2.0.0"`) },
	"not_in_allow_list": func(s *site) {
		s.define(demo, `version_allow_list = ["1.4.1"]`)
	},
	"fd_pressure": func(s *site) { s.Demote() },
}

// withOwnPID replaces the peer_pid of a vector by this process', where the
// vector's refusal comes behind that check.
func withOwnPID(t *testing.T, raw []byte) []byte {
	t.Helper()
	f, _, err := frame.Decode(raw, frame.MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	h := new(wire.Hello)
	if err := frame.Unmarshal(f.Payload, h); err != nil {
		t.Fatal(err)
	}
	h.PeerPid = uint32(os.Getpid())
	f.Payload = wire.Marshal(h)
	return bytesOf(t, f)
}

func TestRefusals(t *testing.T) {
	for _, c := range invalid(t).Refusals.Cases {
		t.Run(c.Name, func(t *testing.T) {
			s := newSite(t, nil)
			raw := testutil.Hex(t, c.WireHex)
			switch c.Name {
			case "service_unknown", "below_min", "not_in_allow_list", "not_registered":
				raw = withOwnPID(t, raw)
			}
			if prepare := contexts[c.Name]; prepare != nil {
				prepare(s)
			}
			conn := s.dial()
			send(t, conn, raw)
			if c.Name == "eof_in_body" {
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			f, reply := readReply(t, conn)
			id, err := strconv.ParseUint(c.ReplyRequestID, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			checkEnvelope(t, f, id, false)
			want := testutil.Message(t, "HelloReply", map[string]any{"refused": c.Expect})
			if !testutil.Equal(reply, want) {
				t.Errorf("got %v, want %v", reply, want)
			}
			readEnd(t, conn)
		})
	}
}

// TestAcceptedShapes: what the vectors accept reaches a backend, and bit 0
// alone decides about a token for a client of v1.
func TestAcceptedShapes(t *testing.T) {
	for _, c := range invalid(t).Refusals.AcceptedShapes {
		t.Run(c.Name, func(t *testing.T) {
			s := newSite(t, nil)
			h := new(wire.Hello)
			if err := frame.Unmarshal(testutil.Hex(t, c.HelloHex), h); err != nil {
				t.Fatal(err)
			}
			if h.PeerPid != 0 {
				h.PeerPid = uint32(os.Getpid())
			}
			backend := s.fake(h.WantedVersion)
			conn := s.dial()
			send(t, conn, helloFrame(t, h))
			f, reply := readReply(t, conn)
			checkEnvelope(t, f, 9, true)
			want := &wire.HelloReply{Negotiated: &wire.Negotiated{
				NegotiatedProtocol: 1, DaemonVersion: h.WantedVersion, BackendPipe: backend.pipe,
				ServerCapabilities: frame.CapUsher, KeepaliveIntervalSecs: 1800, ConnectionId: 1,
			}}
			if !testutil.Equal(reply, want) {
				t.Errorf("got %v, want %v", reply, want)
			}
			readEnd(t, conn)
		})
	}
}

// TestHelloSize: a decodable Hello above 64 KiB is read to its end and refused
// with its own id.
func TestHelloSize(t *testing.T) {
	s := newSite(t, nil)
	c := invalid(t).HelloSize[0]
	var framed struct {
		Vectors []struct{ Frame struct{ Payload string } }
	}
	testutil.Vectors(t, "framed.json", &framed)
	payload := testutil.Hex(t, framed.Vectors[0].Frame.Payload)
	payload = protowire.AppendTag(payload, 200, protowire.BytesType)
	payload = protowire.AppendBytes(payload, make([]byte, 65536))
	raw := bytesOf(t, frame.Request(frame.Control, 9, payload))
	if sum := sha256.Sum256(raw); len(raw) != frame.HeaderLen+c.BodyLen || hex.EncodeToString(sum[:]) != c.SHA256 {
		t.Fatalf("built %d bytes with sum %x", len(raw), sum)
	}
	conn := s.dial()
	send(t, conn, raw)
	f, reply := readReply(t, conn)
	checkEnvelope(t, f, 9, false)
	if r := testutil.Refused(reply); r.Code != c.Expect.Code || r.Reason != c.Expect.Reason {
		t.Errorf("got %v", reply)
	}
	readEnd(t, conn)
}

// TestFraming: every fault of the framing has its refusal, with id 0, and no
// body byte is waited for where the header is refused.
func TestFraming(t *testing.T) {
	s := newSite(t, nil)
	texts := map[string]string{
		"UnsupportedFramingVersion": "unsupported framing version",
		"UnexpectedEof":             "incomplete Hello frame",
		"FrameTooLarge":             "initial Hello frame exceeds 64 KiB",
		"ok, body length 0":         "frame envelope_version is not v1",
	}
	for _, c := range invalid(t).Framing {
		t.Run(c.Name, func(t *testing.T) {
			reason := texts[c.Expect]
			switch {
			case reason == "":
				t.Fatalf("unknown expectation %q", c.Expect)
			case c.Name == "hello_cap_exceeded":
				reason = texts["UnexpectedEof"] // judged once the body is there
			case c.Name == "exact_cap_header":
				reason = texts["FrameTooLarge"] // far above what any Hello may have
			}
			conn := s.dial()
			send(t, conn, testutil.Hex(t, c.Hex))
			if reason == texts["UnexpectedEof"] {
				_ = conn.CloseWrite()
			}
			f, reply := readReply(t, conn)
			checkEnvelope(t, f, 0, false)
			if got := testutil.Refused(reply).Reason; got != reason {
				t.Errorf("got %q, want %q", got, reason)
			}
			readEnd(t, conn)
		})
	}
}
