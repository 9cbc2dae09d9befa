package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Outcome is what a service verb came to.
type Outcome struct {
	Done  []Change
	Lines []string // what else there is to say, for people
	// Failed says that something of it was not done, and is the exit code 1.
	Failed bool
}

// Change is what became of one instance.
type Change struct {
	Service, Version, Variant string
	PID                       int
	// Result is one of those below.
	Result string
	// Connections are those that it still serves; −1: it does not tell.
	Connections int64
	Text        string // for people
}

// The results of a Change.
const (
	Started = "started" // in place of others
	Drains  = "drains"  // gets no clients any more, and serves those that it has
	Ended   = "ended"
	Kept    = "kept" // it was not touched
)

// Request is the admin request that f holds; nil where f holds no sound one.
func Request(f *wire.Frame) *wire.AdminRequest {
	req := new(wire.AdminRequest)
	if frame.Check(f, wire.FrameKind_FRAME_KIND_REQUEST, frame.Admin) != nil || frame.Unmarshal(f.Payload, req) != nil {
		return nil
	}
	return req
}

// OfService reports whether a verb is about a service's instances.
func OfService(verb wire.AdminVerb) bool { return verbWords[verb] != "" }

var verbWords = map[wire.AdminVerb]string{
	wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART: "service-restart",
	wire.AdminVerb_ADMIN_VERB_SERVICE_STOP:    "service-stop",
	wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE:   "service-pause",
	wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME:  "service-resume",
}

// Answer renders the reply to a service verb.
func (o *Outcome) Answer(f *wire.Frame, req *wire.AdminRequest, now time.Time) *wire.Frame {
	exit := uint32(exitDone)
	if o.Failed {
		exit = exitNotDone
	}
	var lines []string
	instances := []object{}
	for _, c := range o.Done {
		lines = append(lines, c.line())
		var connections any
		if c.Connections >= 0 {
			connections = c.Connections
		}
		instances = append(instances, object{
			"service_name": c.Service, "service_version": c.Version, "variant": c.Variant, "pid": c.PID,
			"result": c.Result, "connections": connections, "text": c.Text,
		})
	}
	lines = append(lines, o.Lines...)
	reply := text(exit, strings.Join(lines, "\n")+"\n")
	if req.Json {
		s := Snapshot{Now: now}
		reply = s.json(verbWords[req.Verb], object{
			"service_name": req.ServiceName, "service_version": req.ServiceVersion,
			"done": !o.Failed, "instances": instances, "text": append([]string{}, o.Lines...),
		})
		reply.ExitCode = exit
	}
	return frame.Response(f, wire.Marshal(reply))
}

func (c *Change) line() string {
	text := fmt.Sprintf("%s@%s, pid %d: %s", c.Service, c.Version, c.PID, c.Result)
	if c.Text != "" {
		text += ", " + c.Text
	}
	return text
}
