//go:build unix

package cli

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

var healthzRequest = &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_HEALTHZ}

func TestAskWithoutBroker(t *testing.T) {
	p := newPlace(t)
	_, err := new(app).ask(t.Context(), healthzRequest)
	var none *NoBrokerError
	if !errors.As(err, &none) || none.Socket != p.socket || !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("error is %v", err)
	}
	if !strings.Contains(err.Error(), "usher serve") {
		t.Errorf("%q does not say what to do", err)
	}
}

// TestAskSilentBroker: a broker that is stopped has its queue all the same.
func TestAskSilentBroker(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	t.Setenv(endpoint.ClientTimeoutVariable, "20")
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	run(t, "healthz").want(t, 1, "", "took longer than 20ms: look whether it is stopped")
}

func TestAskJudgesTheAnswer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(*wire.Frame) *wire.Frame
		is     func(error) bool
	}{
		{"none", func(*wire.Frame) *wire.Frame { return nil }, isA[*frame.EOFError]},
		{"refusal", func(*wire.Frame) *wire.Frame {
			return hello.ReplyFrame(nil, hello.ShuttingDown().Reply())
		}, isA[*hello.Refusal]},
		{"other protocol", func(f *wire.Frame) *wire.Frame {
			f.PayloadProtocol = frame.Probe
			return frame.Response(f, nil)
		}, isA[*frame.EnvelopeError]},
		{"other id", func(f *wire.Frame) *wire.Frame {
			f.RequestId++
			return frame.Response(f, nil)
		}, isA[*frame.MismatchError]},
		{"garbage", func(f *wire.Frame) *wire.Frame {
			return frame.Response(f, []byte{0xff})
		}, isA[*frame.DecodeError]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testutil.Leaks(t)
			newPlace(t).startFake(t, tc.answer)
			if _, err := new(app).ask(t.Context(), healthzRequest); !tc.is(err) {
				t.Errorf("error is %T: %v", err, err)
			}
		})
	}
}

func isA[E error](err error) bool {
	var target E
	return errors.As(err, &target)
}

// TestAskIsBounded asks a broker that accepts and never answers.
func TestAskIsBounded(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	ln, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	t.Setenv(endpoint.ClientTimeoutVariable, "20")
	if _, err := new(app).ask(t.Context(), healthzRequest); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the deadline", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := new(app).ask(ctx, healthzRequest); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the cancellation", err)
	}
}

func TestRelay(t *testing.T) {
	for _, tc := range []struct {
		name   string
		reply  *wire.AdminReply
		code   int
		stdout string
	}{
		{"as it is", &wire.AdminReply{Body: "a\nb\n"}, 0, "a\nb\n"},
		{"newline added", &wire.AdminReply{Body: "{}"}, 0, "{}\n"},
		{"exit code", &wire.AdminReply{Body: "no\n", ExitCode: 2}, 2, "no\n"},
		{"huge exit code", &wire.AdminReply{Body: "no\n", ExitCode: 1 << 31}, 255, "no\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newPlace(t).startFake(t, reply(tc.reply))
			if got := run(t, "healthz"); got != (result{code: tc.code, stdout: tc.stdout}) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
