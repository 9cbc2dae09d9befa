package broker_test

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// adminFrame asks for verb, with an id and a trace to be echoed.
func adminFrame(verb wire.AdminVerb, change func(*wire.AdminRequest)) *wire.Frame {
	req := &wire.AdminRequest{Verb: verb, Json: true}
	if change != nil {
		change(req)
	}
	f := frame.Request(frame.Admin, 77, wire.Marshal(req))
	f.Traceparent, f.Tracestate = "00-trace-parent-01", "rp=1"
	return f
}

// admin asks the broker for verb.
func (s *site) admin(verb wire.AdminVerb, change func(*wire.AdminRequest)) *wire.AdminReply {
	s.tb.Helper()
	return adminOf(s.tb, s.Socket(), verb, change)
}

// adminOf asks the broker at socket.
func adminOf(tb testing.TB, socket string, verb wire.AdminVerb, change func(*wire.AdminRequest)) *wire.AdminReply {
	tb.Helper()
	c := dial(tb, socket)
	send(tb, c, bytesOf(tb, adminFrame(verb, change)))
	f := readFrame(tb, c)
	if err := frame.Check(f, wire.FrameKind_FRAME_KIND_RESPONSE, frame.Admin); err != nil {
		tb.Fatal(err)
	}
	if f.RequestId != 77 || f.Traceparent != "00-trace-parent-01" || f.Tracestate != "rp=1" {
		tb.Errorf("id and trace are not echoed: %v", f)
	}
	reply := new(wire.AdminReply)
	if err := frame.Unmarshal(f.Payload, reply); err != nil {
		tb.Fatal(err)
	}
	readEnd(tb, c)
	return reply
}

// status is what the tests read of the STATUS verb.
type status struct {
	Accepting bool `json:"accepting_hello"`
	Backends  []struct {
		PID   int
		State string
	}
	Handoffs handoffCounts
	Clients  clientCount
}

type handoffCounts struct {
	Adopted  int
	NotTaken int `json:"not_taken"`
	Unknown  int
	LateAck  int `json:"late_ack"`
	Retried  int
	StrayAck int `json:"stray_ack"`

	ProvenUnread    int `json:"proven_unread"`
	UnknownMessages int `json:"unknown_messages"`

	Fallbacks []fallbackCount
}

type fallbackCount struct {
	Stage, Reason string
	Count         int
}

type clientCount struct {
	Reconnected, Gone, Foreign, Waited int
	AcceptFailures                     int `json:"accept_failures"`
	Refused                            map[string]int
}

func readStatus(tb testing.TB, s *site) (v status) {
	tb.Helper()
	reply := s.admin(wire.AdminVerb_ADMIN_VERB_STATUS, nil)
	if err := json.Unmarshal([]byte(reply.Body), &v); err != nil {
		tb.Fatalf("%v in %s", err, reply.Body)
	}
	return v
}

func clientCounts(tb testing.TB, s *site) clientCount { tb.Helper(); return readStatus(tb, s).Clients }

// checkHandoffs compares the broker's counters once nothing is under way.
func checkHandoffs(tb testing.TB, s *site, want handoffCounts) {
	tb.Helper()
	s.settle()
	got := readStatus(tb, s).Handoffs
	if !slices.Equal(got.Fallbacks, want.Fallbacks) {
		tb.Errorf("fallbacks %+v, want %+v", got.Fallbacks, want.Fallbacks)
	}
	got.Fallbacks, want.Fallbacks = nil, nil
	if got.Adopted != want.Adopted || got.NotTaken != want.NotTaken || got.Unknown != want.Unknown ||
		got.LateAck != want.LateAck || got.Retried != want.Retried || got.StrayAck != want.StrayAck {
		tb.Errorf("handoffs %+v, want %+v", got, want)
	}
}

// TestAdminVerbs: every verb is answered on the broker's socket, as text and as
// JSON, while backends and connections are there.
func TestAdminVerbs(t *testing.T) {
	s := newSite(t, nil)
	s.fake(demoVersion)
	s.dial() // one silent connection
	served := map[wire.AdminVerb]bool{
		wire.AdminVerb_ADMIN_VERB_STATUS:         true,
		wire.AdminVerb_ADMIN_VERB_LIST_INSTANCES: true,
		wire.AdminVerb_ADMIN_VERB_HEALTHZ:        true,
		wire.AdminVerb_ADMIN_VERB_READYZ:         true,
		wire.AdminVerb_ADMIN_VERB_BACKEND_HEALTH: true,
		wire.AdminVerb_ADMIN_VERB_CONFIG:         true,
		wire.AdminVerb_ADMIN_VERB_DUMP:           true,
		wire.AdminVerb_ADMIN_VERB_DIAGNOSE:       true,
		wire.AdminVerb_ADMIN_VERB_METRICS:        true,
	}
	verbs := []wire.AdminVerb{99}
	for n := range wire.AdminVerb_ADMIN_VERB_SHUTDOWN {
		if verb := wire.AdminVerb(n); verb != wire.AdminVerb_ADMIN_VERB_SHUTDOWN {
			verbs = append(verbs, verb)
		}
	}
	for _, verb := range verbs {
		for _, asJSON := range []bool{false, true} {
			reply := s.admin(verb, func(r *wire.AdminRequest) { r.Json, r.ServiceName = asJSON, demo })
			want := uint32(2)
			if served[verb] {
				want = 0
			}
			if reply.ExitCode != want || reply.Body == "" {
				t.Errorf("%v, json %v: %v", verb, asJSON, reply)
			}
			if reply.Kind == wire.AdminReplyKind_ADMIN_REPLY_KIND_JSON && !json.Valid([]byte(reply.Body)) {
				t.Errorf("%v: %s is no JSON", verb, reply.Body)
			}
		}
	}
	if v := readStatus(t, s); !v.Accepting || len(v.Backends) != 1 || v.Backends[0].State != "running" {
		t.Errorf("status %+v", v)
	}
}

// TestAdminMalformed: a malformed admin frame gets no answer, and ends nothing
// but its own connection.
func TestAdminMalformed(t *testing.T) {
	s := newSite(t, nil)
	s.fake(demoVersion)
	bystander := s.dial()
	for name, spoil := range map[string]func(*wire.Frame){
		"envelope":   func(f *wire.Frame) { f.EnvelopeVersion = 2 },
		"kind":       func(f *wire.Frame) { f.Kind = wire.FrameKind_FRAME_KIND_RESPONSE },
		"compressed": func(f *wire.Frame) { f.PayloadEncoding = 1 },
		"payload":    func(f *wire.Frame) { f.Payload = []byte{0x0a} },
		"not UTF-8":  func(f *wire.Frame) { f.Payload = []byte{0x1a, 2, 0xc3, 0x28} },
	} {
		t.Run(name, func(t *testing.T) {
			f := adminFrame(wire.AdminVerb_ADMIN_VERB_SHUTDOWN, nil)
			spoil(f)
			c := s.dial()
			send(t, c, bytesOf(t, f))
			if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	send(t, bystander, helloFor(t, noHandoff, nil))
	readSentAway(t, bystander, s.pipe("fake-"+demoVersion))
	if s.Draining() {
		t.Error("a malformed SHUTDOWN was obeyed")
	}
}

// TestAdminAboveHelloSize: the 64 KiB of a Hello do not bound an admin frame.
func TestAdminAboveHelloSize(t *testing.T) {
	s := newSite(t, nil)
	reply := s.admin(wire.AdminVerb_ADMIN_VERB_HEALTHZ, func(r *wire.AdminRequest) {
		r.OutputPath = string(make([]byte, 100<<10))
	})
	if reply.ExitCode != 0 || reply.Body != "ok\n" {
		t.Errorf("got %v", reply)
	}
}

// TestShutdownVerb: the verb is acknowledged, then the broker drains and Serve
// returns nil. A drain deadline above the option does not lengthen it.
func TestShutdownVerb(t *testing.T) {
	for name, deadline := range map[string]uint64{"default": 0, "huge": 1 << 63, "short": 1} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(o *options) { o.DrainTimeout = 100 * time.Millisecond })
			reply := s.admin(wire.AdminVerb_ADMIN_VERB_SHUTDOWN, func(r *wire.AdminRequest) { r.DrainDeadlineMs = deadline })
			if reply.ExitCode != 0 || reply.Body != "broker shutting down\n" {
				t.Errorf("got %v", reply)
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStatusSaysWhyABackendIsNotUsed: one that runs another build than the definition
// names by now, and one that has left an offer unanswered, are told apart from others.
func TestStatusSaysWhyABackendIsNotUsed(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = 50 * time.Millisecond })
	b := s.fake(demoVersion)
	states := func() string {
		t.Helper()
		reply := s.admin(wire.AdminVerb_ADMIN_VERB_STATUS, nil)
		var v struct {
			Backends []struct {
				OtherBuild bool `json:"other_build"`
				Silent     bool
			}
		}
		if err := json.Unmarshal([]byte(reply.Body), &v); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(v.Backends)
	}
	if got := states(); got != "[{false false}]" {
		t.Errorf("at first %s", got)
	}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	b.receive()
	readPipe(t, c, b.pipe)
	if got := states(); got != "[{false true}]" {
		t.Errorf("silent: %s", got)
	}
	s.write(demo+".toml", `binary_path = "/bin/sh"`)
	if got := states(); got != "[{true true}]" {
		t.Errorf("of another build: %s", got)
	}
}
