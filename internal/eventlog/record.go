package eventlog

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	// maxEvent bounds an encoded LifecycleEvent, in bytes, so that it is appended in one
	// write (spec 03 §15); its length takes two more.
	maxEvent  = 512
	maxRecord = maxEvent + 2

	// maxFile bounds the file, in bytes, so that what logfile moves away is whole.
	maxFile = logfile.Max - maxRecord
)

// Severities, as OpenTelemetry numbers them.
const (
	info    = 9
	warning = 13
	failure = 17
)

var severityTexts = map[uint32]string{info: "INFO", warning: "WARN", failure: "ERROR"}

// Name is what an event of any kind is called: the kind, or where v1 has none for it the
// name that usher's log has for it.
func Name(e *wire.LifecycleEvent) string {
	if name := e.Extra[extraEvent]; e.Kind == wire.EventKind_EVENT_KIND_UNSPECIFIED && name != "" {
		return name
	}
	return e.Kind.String()
}

// The names in LifecycleEvent.extra.
const (
	extraEvent       = "event"       // the fact's name in usher's log
	extraVersion     = "version"     // of the service
	extraVariant     = "variant"     // which own build, in hexadecimal
	extraVerdict     = "verdict"     // of a handoff
	extraConnections = "connections" // without a verdict when draining began, or timed out
	extraCount       = "count"       // of events that are missing here
)

// what is the fact's name, who it is about, and what v1 calls it.
func record(name string, kind wire.EventKind, severity uint32, about event.Backend, reason string) *wire.LifecycleEvent {
	r := &wire.LifecycleEvent{
		Kind: kind, Pid: uint32(about.PID), ServiceName: about.Service, Reason: reason,
		SeverityNumber: severity, SeverityText: severityTexts[severity],
		Extra: map[string]string{extraEvent: name},
	}
	add(r, extraVersion, about.Version)
	return r
}

func add(r *wire.LifecycleEvent, name, value string) {
	if value != "" {
		r.Extra[name] = value
	}
}

// atWill reports whether a fact is kept that peers can cause at will.
func atWill(e event.Event) bool {
	switch e := e.(type) {
	case event.Refused, event.NoToken, event.PeerDropped, event.RegistrationRefused, event.RegistrationFailed, event.Busy:
		return true
	case event.Handoff:
		return !e.InTime()
	}
	return false
}

// perConnection is the bound that a fact is kept within of which there is one with each
// connection; "" for others. Successes and failures of each service have one each.
func perConnection(e event.Event) string {
	switch e := e.(type) {
	case event.ProcessStarted:
		return e.Name() + " " + e.Backend.Service
	case event.ProcessEnded:
		return fmt.Sprint(e.Name(), " ", e.Failed, " ", e.Backend.Service)
	}
	return ""
}

// judge returns what is kept of a fact; nil for nothing.
func (w *Writer) judge(e event.Event) *wire.LifecycleEvent {
	switch e := e.(type) {
	case event.Refused:
		return record(e.Name(), wire.EventKind_HELLO_REFUSED, info, event.Backend{Service: e.Service, PID: e.PID}, e.Code+": "+e.Reason)
	case event.Handoff:
		if e.InTime() {
			return nil
		}
		r := record(e.Name(), wire.EventKind_PROTOCOL_DOWNGRADE, warning, e.Backend, join(e.Stage, e.Reason, e.Problem))
		r.ConnectionId = e.ConnectionID
		add(r, extraVerdict, e.Verdict)
		return r
	case event.NoToken:
		return record(e.Name(), wire.EventKind_PROTOCOL_DOWNGRADE, warning, event.Backend{}, e.Problem)
	case event.PeerDropped:
		return record(e.Name(), wire.EventKind_SECURITY_VIOLATION, warning, event.Backend{}, e.Problem)
	case event.RegistrationRefused:
		return record(e.Name(), wire.EventKind_HELLO_REFUSED, warning, e.Backend, e.Problem)
	case event.RegistrationFailed:
		return record(e.Name(), wire.EventKind_RESOURCE_PRESSURE, warning, e.Backend, e.Problem)
	}
	if r := w.judgeBackend(e); r != nil {
		return r
	}
	return w.judgeBroker(e)
}

func (w *Writer) judgeBackend(e event.Event) *wire.LifecycleEvent {
	switch e := e.(type) {
	case event.Started:
		r := record(e.Name(), wire.EventKind_SPAWN_ATTEMPT, info, e.Backend, "its log is "+e.Log)
		add(r, extraVariant, e.Variant)
		return r
	case event.Ready:
		return record(e.Name(), wire.EventKind_SPAWN, info, e.Backend, "ready after "+e.After.String())
	case event.StartFailed:
		kind := wire.EventKind_DIED_CRASH
		if e.Backend.PID == 0 { // there was no process
			kind = wire.EventKind_SPAWN_ATTEMPT
		}
		r := record(e.Name(), kind, warning, e.Backend, e.Problem)
		add(r, extraVariant, e.Variant)
		return r
	case event.BackendTaken:
		return record(e.Name(), unspecified, info, e.Backend, "taken over from the broker before")
	case event.Registered:
		return record(e.Name(), wire.EventKind_SPAWN, info, e.Backend, "registered")
	case event.StaticFound:
		return record(e.Name(), wire.EventKind_SPAWN, info, e.Backend, "found at "+e.Backend.Pipe)
	case event.StaticMissing:
		return record(e.Name(), unspecified, warning, event.Backend{Service: e.Service}, e.Problem)
	case event.ProcessStarted:
		kind, severity, reason := wire.EventKind_SPAWN, uint32(info), "for one connection; its log is "+e.Log
		if e.Problem != "" {
			kind, severity, reason = wire.EventKind_SPAWN_ATTEMPT, warning, e.Problem
		}
		r := record(e.Name(), kind, severity, e.Backend, reason)
		r.ConnectionId = e.ConnectionID
		return r
	case event.ProcessEnded:
		kind, severity := wire.EventKind_DIED_SHUTDOWN, uint32(info)
		if e.Exit == "" { // it is another's child
			return record(e.Name(), unspecified, info, e.Backend, "ended; how is not known")
		}
		if e.Failed {
			kind, severity = wire.EventKind_DIED_CRASH, warning
		}
		return record(e.Name(), kind, severity, e.Backend, e.Exit)
	case event.LetGo:
		w.letGo[e.Backend.PID] = e.Why
		return record(e.Name(), unspecified, info, e.Backend, e.Why)
	case event.Busy:
		return record(e.Name(), unspecified, info, e.Backend, "it has no connection, and is at work")
	case event.LogUnbounded:
		return record(e.Name(), wire.EventKind_RESOURCE_PRESSURE, warning, event.Backend{}, e.Log+": "+e.Problem)
	case event.Exited:
		return w.judgeExit(e)
	case event.Left:
		delete(w.letGo, e.Backend.PID)
		return record(e.Name(), unspecified, info, e.Backend, "closed its channel, and lives on")
	case event.ChannelEnded:
		if e.Fault == "" {
			return nil
		}
		return record(e.Name(), unspecified, failure, event.Backend{PID: e.PID}, e.Fault)
	}
	return nil
}

const unspecified = wire.EventKind_EVENT_KIND_UNSPECIFIED

// judgeExit says of an end no more than is known.
func (w *Writer) judgeExit(e event.Exited) *wire.LifecycleEvent {
	why := w.letGo[e.Backend.PID]
	delete(w.letGo, e.Backend.PID)
	switch {
	case e.Exit != "" && !e.Clean:
		return record(e.Name(), wire.EventKind_DIED_CRASH, warning, e.Backend, e.Exit)
	case why == event.Idle:
		return record(e.Name(), wire.EventKind_DIED_IDLE, info, e.Backend, join("it was idle", e.Exit))
	case why == event.Replaced:
		return record(e.Name(), wire.EventKind_REPLACED_BY_NEWER, info, e.Backend, join("it was replaced", e.Exit))
	case e.Exit == "" && why == "": // another's child
		return record(e.Name(), unspecified, info, e.Backend, "ended; how is not known")
	}
	return record(e.Name(), wire.EventKind_DIED_SHUTDOWN, info, e.Backend, join(why, e.Exit))
}

// judgeBroker is about the broker itself.
func (w *Writer) judgeBroker(e event.Event) (r *wire.LifecycleEvent) {
	self := event.Backend{PID: w.pid}
	switch e := e.(type) {
	case event.Serving:
		return record(e.Name(), unspecified, info, self, "at "+e.Socket)
	case event.Draining:
		r = record(e.Name(), unspecified, info, self, e.Cause)
		add(r, extraConnections, strconv.Itoa(e.Connections))
	case event.Stays:
		r = record(e.Name(), unspecified, info, self, "connections are joined to programs through it")
		add(r, extraConnections, strconv.Itoa(e.Connections))
	case event.DrainTimeout:
		r = record(e.Name(), unspecified, warning, self, "connections closed without a verdict")
		add(r, extraConnections, strconv.Itoa(e.Connections))
	case event.Stopped:
		return record(e.Name(), wire.EventKind_DIED_SHUTDOWN, info, self, "")
	case event.Upgraded:
		return record(e.Name(), wire.EventKind_REPLACED_BY_NEWER, info, self, "by process "+strconv.Itoa(e.PID))
	case event.UpgradeFailed:
		return record(e.Name(), unspecified, warning, self, e.Problem)
	case event.Paused:
		return record(e.Name(), unspecified, info, event.Backend{Service: e.Service, Version: e.Version}, "")
	case event.Resumed:
		return record(e.Name(), unspecified, info, event.Backend{Service: e.Service, Version: e.Version}, fmt.Sprintf("%d waited", e.Waited))
	case event.LoopFailed:
		return record(e.Name(), unspecified, failure, self, e.Problem)
	case event.FilesHang:
		return record(e.Name(), wire.EventKind_RESOURCE_PRESSURE, warning, self, "a file system does not answer")
	case event.SocketReplaced:
		return record(e.Name(), unspecified, failure, self, e.Problem)
	case event.AcceptFailed:
		if !e.Again {
			return record(e.Name(), wire.EventKind_RESOURCE_PRESSURE, warning, self, e.Problem)
		}
	case event.Bug:
		r = record(e.Name(), unspecified, failure, self, e.Problem)
		r.ConnectionId = e.ConnectionID
	}
	return r
}

func join(parts ...string) string {
	var said []string
	for _, part := range parts {
		if part != "" {
			said = append(said, part)
		}
	}
	return strings.Join(said, ": ")
}

// encode is the event as a record. A reason that is too long is cut.
func encode(e *wire.LifecycleEvent) []byte {
	e.Reason = strings.ToValidUTF8(e.Reason, "\ufffd")
	b := wire.Marshal(e)
	if over := len(b) - maxEvent; over > 0 {
		const sign = "…"
		end := max(0, len(e.Reason)-over-len(sign))
		for end > 0 && !utf8.RuneStart(e.Reason[end]) {
			end--
		}
		e.Reason = e.Reason[:end] + sign
		b = wire.Marshal(e)
	}
	return append(binary.AppendUvarint(make([]byte, 0, maxRecord), uint64(len(b))), b...)
}

// firstTag begins every event: that of its time.
const firstTag = 1 << 3

// decode reads the record that b begins with, and says how long it is; nil where there is
// none, or not all of one.
func decode(b []byte) (e *wire.LifecycleEvent, n int) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length == 0 || length > maxEvent || len(b) < n+int(length) || b[n] != firstTag {
		return nil, 0
	}
	e = new(wire.LifecycleEvent)
	if wire.Unmarshal(b[n:n+int(length)], e) != nil {
		return nil, 0
	}
	return e, n + int(length)
}
