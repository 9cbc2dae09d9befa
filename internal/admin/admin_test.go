package admin

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/usage"
	"github.com/seed-7265657e/usher/internal/wire"
)

type adminVectors struct {
	Snapshots map[string]snapshotVector
	Vectors   []struct {
		Name, Snapshot string
		Request        map[string]any
		Reply          struct {
			Kind        int32
			ExitCode    uint32 `json:"exit_code"`
			ContentType string `json:"content_type"`
			Body        string
		}
	}
}

type snapshotVector struct {
	Instance    string `json:"broker_instance"`
	PID         int    `json:"broker_pid"`
	GeneratedAt int64  `json:"generated_at_unix_ms"`
	UptimeMS    int64  `json:"uptime_ms"`
	Accepting   bool   `json:"accepting_hello"`
	Connections int    `json:"connections_open"`
	Demoted     bool   `json:"fd_pressure_demoted"`
	Inodes      struct {
		Total, Free uint64
	} `json:"inode_pressure"`
	Backends []struct {
		Service    string `json:"service_name"`
		Version    string `json:"service_version"`
		PID        int
		Pipe       string `json:"backend_pipe"`
		LastActive int64  `json:"last_active_unix_ms"`
		LastHello  int64  `json:"last_hello_unix_ms"`
		State      string
	}
	Dir       string `json:"service_definition_dir"`
	DirSource string `json:"service_definition_dir_source"`
}

func (v snapshotVector) snapshot() Snapshot {
	s := Snapshot{
		Now: time.UnixMilli(v.GeneratedAt), Instance: v.Instance, PID: v.PID,
		Uptime: time.Duration(v.UptimeMS) * time.Millisecond, Accepting: v.Accepting,
		ConnectionsOpen: v.Connections, FDDemoted: v.Demoted, SocketPath: "/run/user/1000/broker.sock",
		ServiceDefDir: v.Dir, ServiceDefDirSource: v.DirSource,
		System: System{Processes: "pidfd", Claims: "page"},
		Inodes: usage.Inodes{Total: v.Inodes.Total, Free: v.Inodes.Free},
	}
	for _, b := range v.Backends {
		s.Backends = append(s.Backends, Backend{
			Service: b.Service, Version: b.Version, PID: b.PID, Pipe: b.Pipe,
			LastActiveMS: b.LastActive, LastHelloMS: b.LastHello, Stale: b.State == "stale",
		})
	}
	return s
}

// real are the keys where usher has a value of its own instead of v1's constant.
var real = map[string]any{
	"pipe": "/run/user/1000/broker.sock", "active_budget_rows": map[string]any{"source": "runtime", "value": 0.0}, "spawn_budgets": []any{},
}

// counted puts the samples that v1 leaves out behind the type of a metric.
func counted(body string, backends []Backend) string {
	const name = "running_process_broker_v1_active_backends"
	for _, b := range backends {
		body = strings.Replace(body, "# TYPE "+name+" gauge\n", "# TYPE "+name+" gauge\n"+name+`{service="`+b.Service+`"} 1`+"\n", 1)
	}
	return body
}

// expected puts usher's own values into a body of the vectors.
func expected(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if own, ok := real[key]; ok {
				v[key] = own
			} else {
				v[key] = expected(value)
			}
		}
		if v["command"] == "status" {
			v["handoffs"] = map[string]any{
				"adopted": 0.0, "not_taken": 0.0, "unknown": 0.0, "late_ack": 0.0, "retried": 0.0, "stray_ack": 0.0, "unknown_messages": 0.0, "proven_unread": 0.0, "fallbacks": []any{},
			}
			v["clients"] = map[string]any{"reconnected": 0.0, "waited": 0.0, "gone": 0.0, "foreign": 0.0, "accept_failures": 0.0, "refused": map[string]any{}}
			v["instances"], v["paused"], v["log_dir"] = []any{}, []any{}, ""
			v["processes"], v["relays"] = []any{}, map[string]any{"open": 0.0, "most": 0.0, "total": 0.0}
			v["system"] = map[string]any{"processes": "pidfd", "claims": "page"}
			for _, b := range v["backends"].([]any) {
				b.(map[string]any)["other_build"], b.(map[string]any)["silent"] = false, false
			}
		}
	case []any:
		for i := range v {
			v[i] = expected(v[i])
		}
	}
	return v
}

func TestVectors(t *testing.T) {
	var v adminVectors
	testutil.Vectors(t, "admin.json", &v)
	for _, c := range v.Vectors {
		t.Run(c.Name, func(t *testing.T) {
			req := testutil.Message(t, "AdminRequest", c.Request).(*wire.AdminRequest)
			s := v.Snapshots[c.Snapshot].snapshot()
			got := Answer(req, s)
			if int32(got.Kind) != c.Reply.Kind || got.ExitCode != c.Reply.ExitCode || got.ContentType != c.Reply.ContentType {
				t.Errorf("reply %v, want %+v", got, c.Reply)
			}
			if got.Kind != wire.AdminReplyKind_ADMIN_REPLY_KIND_JSON {
				if want := counted(c.Reply.Body, s.Backends); got.Body != want {
					t.Errorf("body %q, want %q", got.Body, want)
				}
				return
			}
			if diff := cmp.Diff(expected(parse(t, c.Reply.Body)), parse(t, got.Body)); diff != "" {
				t.Errorf("body differs (-want +got):\n%s", diff)
			}
		})
	}
}

func parse(t *testing.T, body string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return v
}

// TestStatusBytes pins the rules of spec 04 §2: one line, alphabetical keys,
// fractions, raw characters.
func TestStatusBytes(t *testing.T) {
	s := Snapshot{
		Now: time.UnixMilli(7), Instance: `<a>&"é`, PID: 1, Uptime: 2 * time.Second, Accepting: true, ConnectionsOpen: 3,
		Inodes: usage.Inodes{Total: 10, Free: 20}, System: System{Processes: "pidfd", Claims: "pipe"},
		Handoffs: Handoffs{
			Adopted: 1, NotTaken: 2, Unknown: 3, LateAck: 4, Retried: 5,
			Fallbacks: []Fallback{{Stage: "AwaitAck", Reason: "BackendAckTimeout", Count: 6}},
		},
		Clients: Clients{Reconnected: 7, Refused: map[string]uint64{"ERROR_SERVICE_UNKNOWN": 8}},
	}
	got := Answer(&wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_STATUS, Json: true}, s).Body
	want := `{"accepting_hello":true,"backends":[],"broker_instance":"<a>&\"é","broker_pid":1,"clients":{"accept_failures":0,"foreign":0,"gone":0,"reconnected":7,"refused":{"ERROR_SERVICE_UNKNOWN":8},"waited":0},"command":"status","connections_open":3,` +
		`"fd_pressure":{"demoted":false},"generated_at_unix_ms":7,` +
		`"handoffs":{"adopted":1,"fallbacks":[{"count":6,"reason":"BackendAckTimeout","stage":"AwaitAck"}],"late_ack":4,"not_taken":2,"proven_unread":0,"retried":5,"stray_ack":0,"unknown":3,"unknown_messages":0},` +
		`"inode_pressure":{"inodes_free":20,"inodes_total":10,"inodes_used":0,"supported":true,"used_ratio":0.0},` +
		`"instances":[],"log_dir":"","paused":[],"processes":[],"relays":{"most":0,"open":0,"total":0},"schema_version":1,"system":{"claims":"pipe","processes":"pidfd"},"uptime_seconds":2.0}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBackendHealthRows(t *testing.T) {
	s := Snapshot{Backends: []Backend{
		{Service: "b", Version: "2.0.0", PID: 1},
		{Service: "a", Version: "1.0.0", PID: 9, LastHelloMS: 5, LastError: "refused", Stale: true},
		{Service: "a", Version: "1.0.0", PID: 3},
	}}
	body := Answer(&wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_BACKEND_HEALTH, ServiceName: "a"}, s).Body
	want := `"backends":[{"last_error":null,"last_hello_unix_ms":0,"pid":3,"service_version":"1.0.0","state":"running"},` +
		`{"last_error":"refused","last_hello_unix_ms":5,"pid":9,"service_version":"1.0.0","state":"stale"}]`
	if !strings.Contains(body, want) {
		t.Errorf("body %s\nlacks %s", body, want)
	}
	if s.Backends[0].Service != "b" {
		t.Error("Answer reordered the caller's snapshot")
	}
}

func TestHandle(t *testing.T) {
	payload, err := wire.Append(nil, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_SHUTDOWN, DrainDeadlineMs: 5})
	if err != nil {
		t.Fatal(err)
	}
	req := frame.Request(frame.Admin, 42, payload)
	req.Traceparent = "00-a-b-01"
	reply, verb, err := Handle(req, Snapshot{})
	if err != nil || verb != wire.AdminVerb_ADMIN_VERB_SHUTDOWN {
		t.Fatalf("verb %v, %v", verb, err)
	}
	if err := frame.Check(reply, wire.FrameKind_FRAME_KIND_RESPONSE, frame.Admin); err != nil || reply.RequestId != 42 || reply.Traceparent != req.Traceparent {
		t.Errorf("reply %v, %v", reply, err)
	}
	var answer wire.AdminReply
	if err := wire.Unmarshal(reply.Payload, &answer); err != nil || answer.Body != "broker shutting down\n" {
		t.Errorf("answer %v, %v", &answer, err)
	}

	var envelope *frame.EnvelopeError
	var decode *frame.DecodeError
	for name, change := range map[string]func(*wire.Frame){
		"envelope_version is not v1":    func(f *wire.Frame) { f.EnvelopeVersion = 2; f.Kind = 1 },
		"kind is not REQUEST":           func(f *wire.Frame) { f.Kind = 1; f.PayloadProtocol = 0 },
		"payload_protocol is not admin": func(f *wire.Frame) { f.PayloadProtocol = 0; f.PayloadEncoding = 1 },
		"payload is compressed":         func(f *wire.Frame) { f.PayloadEncoding = 1; f.Payload = []byte{0x0a} },
	} {
		bad := frame.Request(frame.Admin, 1, nil)
		change(bad)
		if reply, _, err := Handle(bad, Snapshot{}); reply != nil || !errors.As(err, &envelope) || err.Error() != name {
			t.Errorf("%s: %v, %v", name, reply, err)
		}
	}
	if reply, _, err := Handle(frame.Request(frame.Admin, 1, []byte{0x0a}), Snapshot{}); reply != nil || !errors.As(err, &decode) {
		t.Errorf("malformed payload: %v, %v", reply, err)
	}
}

func FuzzHandle(f *testing.F) {
	f.Add([]byte{8, 1, 16, 1})
	f.Add([]byte{8, 6, 26, 1, 'x'})
	f.Fuzz(func(t *testing.T, payload []byte) {
		reply, _, err := Handle(frame.Request(frame.Admin, 1, payload), Snapshot{})
		if err != nil {
			return
		}
		var answer wire.AdminReply
		if err := wire.Unmarshal(reply.Payload, &answer); err != nil || answer.Body == "" {
			t.Errorf("answer %v, %v", &answer, err)
		}
		if answer.Kind == wire.AdminReplyKind_ADMIN_REPLY_KIND_JSON && !json.Valid([]byte(answer.Body)) {
			t.Errorf("body %s", answer.Body)
		}
	})
}

// TestActiveBackends: one sample a service, of those that live.
func TestActiveBackends(t *testing.T) {
	s := Snapshot{FDUsage: 0.25, Backends: []Backend{{Service: "b"}, {Service: "a", Stale: true}, {Service: "b", PID: 2}, {Service: "b", Stale: true}}}
	body := Answer(&wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_METRICS}, s).Body
	for _, want := range []string{"active_backends{service=\"a\"} 0\n", "active_backends{service=\"b\"} 2\n", "fd_usage_ratio 0.25\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in\n%s", want, body)
		}
	}
}
