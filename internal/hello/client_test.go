package hello_test

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestRequestBytes: but for the library's name and version, the pid and the trace,
// which the test puts in, the bytes are the stock client's.
func TestRequestBytes(t *testing.T) {
	var v struct {
		Vectors []struct {
			Name, Hex string
			Frame     struct{ Traceparent, Tracestate string }
		}
	}
	testutil.Vectors(t, "framed.json", &v)
	for _, c := range v.Vectors {
		if !strings.HasPrefix(c.Name, "hello_request") {
			continue
		}
		f, err := hello.Request{
			Service: "demo-svc", Version: "1.4.0", Capabilities: frame.CapHandlePassing,
		}.Frame()
		if err != nil {
			t.Fatal(err)
		}
		h := new(wire.Hello)
		if err := frame.Unmarshal(f.Payload, h); err != nil || h.ClientLibName != "usher" {
			t.Fatalf("library %q, %v", h.ClientLibName, err)
		}
		h.ClientLibName, h.ClientLibVersion, h.PeerPid = "running-process", "4.10.6", 31337
		f.Payload = wire.Marshal(h)
		f.Traceparent, f.Tracestate = c.Frame.Traceparent, c.Frame.Tracestate
		raw, err := frame.Append(nil, f)
		if got := hex.EncodeToString(raw); err != nil || got != c.Hex {
			t.Errorf("%s:\n %s, want\n %s", c.Name, got, c.Hex)
		}
	}
}

// TestEarlyDataLen pins the one added field: number 100, a varint.
func TestEarlyDataLen(t *testing.T) {
	r := hello.Request{Service: "a", Version: "1.0.0"}
	without := wire.Marshal(r.Hello())
	r.EarlyDataLen = 300
	if got, want := hex.EncodeToString(wire.Marshal(r.Hello())), hex.EncodeToString(without)+"a006ac02"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRequestRefusesLocally(t *testing.T) {
	good := hello.Request{Service: "a", Version: "1.0.0"}
	if _, err := good.Frame(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*hello.Request)
		want  any
	}{
		"service":        {func(r *hello.Request) { r.Service = "../x" }, new(*names.InvalidError)},
		"version":        {func(r *hello.Request) { r.Version = "v1" }, new(*names.InvalidError)},
		"long version":   {func(r *hello.Request) { r.Version = "1.0.0-" + strings.Repeat("a", 59) }, new(*hello.Refusal)},
		"client version": {func(r *hello.Request) { r.ClientVersion = strings.Repeat("a", 129) }, new(*hello.Refusal)},
	} {
		r := good
		c.spoil(&r)
		if _, err := r.Frame(); err == nil || !errors.As(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestParseReplyFaults(t *testing.T) {
	reply := func(payload []byte) *wire.Frame {
		return frame.Response(frame.Request(frame.Control, 1, nil), payload)
	}
	wrongProtocol := reply(nil)
	wrongProtocol.PayloadProtocol = frame.Admin
	if _, err := hello.ParseReply(wrongProtocol); err == nil || err.Error() != "payload_protocol is not control-plane" {
		t.Errorf("got %v", err)
	}
	if _, err := hello.ParseReply(reply([]byte{0x0a, 0x05})); !errors.As(err, new(*frame.DecodeError)) {
		t.Errorf("got %v", err)
	}
	if _, err := hello.ParseReply(reply(nil)); !errors.Is(err, hello.ErrMissingResult) {
		t.Errorf("got %v", err)
	}
	if got, err := hello.ParseReply(reply([]byte{0x0a, 0x00})); err != nil || got == nil {
		t.Errorf("an empty grant: got %v, %v", got, err)
	}
}

func TestParseReplyRefused(t *testing.T) {
	for _, c := range []struct {
		sent *wire.Refused
		want hello.Refusal
	}{
		{
			&wire.Refused{Code: 8, Reason: "r", RetryAfterMs: 1500},
			hello.Refusal{Code: wire.ErrorCode_ERROR_VERSION_BLOCKED, Reason: "r", RetryAfter: 1500 * time.Millisecond},
		},
		{
			&wire.Refused{Code: 77, RetryAfterMs: math.MaxUint64},
			hello.Refusal{RetryAfter: math.MaxInt64},
		},
	} {
		sent := &wire.HelloReply{Refused: c.sent}
		_, err := hello.ParseReply(hello.ReplyFrame(nil, sent))
		var refused *hello.Refusal
		if !errors.As(err, &refused) || *refused != c.want {
			t.Errorf("got %#v, want %#v", refused, c.want)
		}
	}
}
