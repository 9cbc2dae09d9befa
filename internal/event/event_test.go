package event_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
)

// TestNoBytes: no field of a fact can hold the bytes of a token, nor anything that might.
func TestNoBytes(t *testing.T) {
	allowed := map[string]bool{
		"string": true, "int": true, "uint64": true, "bool": true, "time.Duration": true, "time.Time": true, "Backend": true, "[]Step": true,
	}
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	facts := 0
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		facts++
		for _, field := range s.Fields.List {
			if name := typeName(field.Type); !allowed[name] || len(field.Names) == 0 {
				t.Errorf("a field of type %s", name)
			}
		}
		return true
	})
	if facts < 30 {
		t.Errorf("%d types were looked at", facts)
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		if e.Len == nil {
			return "[]" + typeName(e.Elt)
		}
	}
	return "?"
}

// TestLog: a line says what happened for people, and which fact it is for programs.
func TestLog(t *testing.T) {
	for _, c := range []struct {
		fact event.Event
		want string
	}{
		{event.Handoff{Verdict: event.Adopted, Stage: "Acknowledge", FDReachedBackend: true, Waited: 3 * time.Millisecond},
			"outcome.verdict=adopted outcome.stage=Acknowledge outcome.fd_reached_backend=true outcome.waited=3ms event=handoff.adopted"},
		{event.Handoff{Verdict: "unknown", Stage: "AwaitAck", Reason: "BackendAckTimeout", Late: true, Problem: "why"},
			"outcome.verdict=unknown outcome.stage=AwaitAck outcome.fd_reached_backend=false outcome.reason=BackendAckTimeout outcome.late=true outcome.error=why event=handoff.fell_back"},
		{event.Handoff{Verdict: "unknown", Stage: "AwaitAck", FDReachedBackend: true, LeakedBackendHandle: 756},
			"outcome.fd_reached_backend=true outcome.leaked_backend_handle=756 event=handoff.fell_back"},
		{event.Handoff{Verdict: event.Adopted, Late: true}, "event=handoff.fell_back"},
		{event.Refused{Code: "C", Reason: "because", PID: 7}, "level=INFO msg=refused code=C reason=because peer_pid=7 event=hello.refused"},
		{event.Refused{Unread: true}, ""},
		{event.Registered{Backend: event.Backend{Service: "s", Version: "1.0.0", PID: 7, Pipe: "p"}},
			`msg="backend registered" service=s version=1.0.0 backend_pid=7 pipe=p event=backend.registered`},
		{event.ChannelEnded{Strays: 1}, ""},
		{event.ChannelEnded{PID: 7, Fault: "f"}, "backend_pid=7 error=f event=backend.channel_ended"},
		{event.Done{Steps: []event.Step{{Name: "accept", At: time.Unix(1, 0)}, {Name: "hello", At: time.Unix(1, 5000)}}},
			"steps.began_unix_us=1000000 steps.accept_us=0 steps.hello_us=5 event=connection.done"},
		{event.Waited{}, ""},
	} {
		var log bytes.Buffer
		l := event.NewLog(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if l.Note(c.fact); !strings.Contains(log.String(), c.want) || c.want == "" && log.Len() > 0 {
			t.Errorf("%#v: logged %s, want %s", c.fact, &log, c.want)
		}
	}
}

// TestFactsCostNoMemory: where nobody reads the debug log, what happens with every
// handoff is made known without allocating.
func TestFactsCostNoMemory(t *testing.T) {
	l := event.NewLog(slog.New(slog.DiscardHandler))
	n := testing.AllocsPerRun(100, func() {
		l.Note(event.Handoff{Verdict: event.Adopted, ConnectionID: 7})
		l.Note(event.Reconnected{ConnectionID: 7})
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
