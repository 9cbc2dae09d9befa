package hello_test

import (
	"errors"
	"io"
	"math"
	"os"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestRefusalTexts pins the texts and codes of spec 01 §7.1 that no vector
// reaches.
func TestRefusalTexts(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		got    *hello.Refusal
		code   wire.ErrorCode
		reason string
		retry  time.Duration
	}{
		{hello.ShuttingDown(), wire.ErrorCode_ERROR_SHUTTING_DOWN, "broker is shutting down; retry shortly", time.Second},
		{hello.InvalidServiceName(), wire.ErrorCode_ERROR_PEER_REJECTED, "invalid service_name", 0},
		{hello.ServiceUnloadable(cause), wire.ErrorCode_ERROR_SERVICE_UNKNOWN, "service definition could not be loaded: cause", 0},
		{hello.IsolationUnresolved(cause), wire.ErrorCode_ERROR_INTERNAL, "service isolation could not be resolved: cause", 0},
		{hello.BackendUnusable(cause), wire.ErrorCode_ERROR_INTERNAL, "registered backend could not be installed: cause", 0},
		{hello.RateLimited(time.Second), wire.ErrorCode_ERROR_RATE_LIMITED, "Hello rate limit exceeded", time.Second},
		{hello.RateLimited(0), wire.ErrorCode_ERROR_RATE_LIMITED, "Hello rate limit exceeded", time.Millisecond},
	} {
		if *c.got != (hello.Refusal{Code: c.code, Reason: c.reason, RetryAfter: c.retry}) {
			t.Errorf("got %+v, want %v %q %s", c.got, c.code, c.reason, c.retry)
		}
	}
}

func TestFromReadError(t *testing.T) {
	if refusal := hello.FromReadError(nil); refusal != nil {
		t.Errorf("no error became %v", refusal)
	}
	for _, err := range []error{os.ErrDeadlineExceeded, io.ErrClosedPipe, &frame.EOFError{Context: frame.InVersion}} {
		if refusal := hello.FromReadError(err); refusal.Reason != "incomplete Hello frame" {
			t.Errorf("%v became %v", err, refusal)
		}
	}
}

func TestRetryRoundsUp(t *testing.T) {
	for wait, want := range map[time.Duration]uint64{
		-time.Second:            0,
		0:                       0,
		1:                       1,
		time.Millisecond:        1,
		time.Millisecond + 1:    2,
		1500 * time.Millisecond: 1500,
		math.MaxInt64:           9223372036855,
	} {
		got := (&hello.Refusal{RetryAfter: wait}).Reply().Refused.RetryAfterMs
		if got != want {
			t.Errorf("%d ns became %d ms, want %d", wait, got, want)
		}
	}
}

// TestReplyFrameEchoes: id and trace come from the request, kind and protocol
// never do.
func TestReplyFrameEchoes(t *testing.T) {
	reply := hello.FDPressure().Reply()
	req := &wire.Frame{Kind: 3, PayloadProtocol: frame.Probe, RequestId: 5, Traceparent: "p", Tracestate: "s"}
	want := &wire.Frame{
		EnvelopeVersion: 1, Kind: wire.FrameKind_FRAME_KIND_RESPONSE,
		RequestId: 5, Traceparent: "p", Tracestate: "s", Payload: wire.Marshal(reply),
	}
	if got := hello.ReplyFrame(req, reply); !testutil.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want.RequestId, want.Traceparent, want.Tracestate = 0, "", ""
	if got := hello.ReplyFrame(nil, reply); !testutil.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGrant(t *testing.T) {
	token := []byte("0123456789abcdef")
	for _, c := range []struct {
		grant hello.Grant
		want  *wire.Negotiated
	}{
		{
			hello.Grant{Version: "1.4.0", BackendPipe: "/p", Token: token, ConnectionID: 3, ServerCapabilities: frame.CapUsher},
			&wire.Negotiated{
				NegotiatedProtocol: 1, DaemonVersion: "1.4.0", BackendPipe: "/p", KeepaliveIntervalSecs: 1800,
				HandlePassedToken: token, ConnectionId: 3, ServerCapabilities: frame.CapUsher | frame.CapHandlePassing,
			},
		},
		{
			hello.Grant{BackendPipe: "/p", Keepalive: 30, ConnectionID: 1, ServerCapabilities: frame.CapHandlePassing},
			&wire.Negotiated{NegotiatedProtocol: 1, BackendPipe: "/p", KeepaliveIntervalSecs: 30, ConnectionId: 1},
		},
	} {
		got, err := hello.ParseReply(hello.ReplyFrame(nil, c.grant.Reply()))
		if err != nil || !testutil.Equal(got, c.want) {
			t.Errorf("got %v, %v, want %v", got, err, c.want)
		}
	}
}
