package admin

import (
	"fmt"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Exit codes of a reply (spec 04 §6).
const (
	exitDone        = 0
	exitNotReady    = 1
	exitUnsupported = 2

	exitNotDone = 1 // of a service verb
)

// Handle answers an admin frame: envelope, payload, verb (spec 01 §12). On a
// fault there is no reply and the caller ends the connection. The caller acts on
// the verb after it has written the reply. Errors: *frame.EnvelopeError,
// *frame.DecodeError.
func Handle(f *wire.Frame, s Snapshot) (reply *wire.Frame, verb wire.AdminVerb, err error) {
	if err := frame.Check(f, wire.FrameKind_FRAME_KIND_REQUEST, frame.Admin); err != nil {
		return nil, 0, err
	}
	req := new(wire.AdminRequest)
	if err := frame.Unmarshal(f.Payload, req); err != nil {
		return nil, 0, err
	}
	return frame.Response(f, wire.Marshal(Answer(req, s))), req.Verb, nil
}

// Answer renders the reply to one request. Fields of the request that the verb
// does not use are ignored.
func Answer(req *wire.AdminRequest, s Snapshot) *wire.AdminReply {
	switch req.Verb {
	case wire.AdminVerb_ADMIN_VERB_STATUS:
		if req.Json {
			return s.json("status", s.status())
		}
		return text(exitDone, fmt.Sprintf("broker_instance: %s\naccepting_hello: %t\n", s.Instance, s.Accepting))
	case wire.AdminVerb_ADMIN_VERB_LIST_INSTANCES:
		return s.json("list-instances", s.instances())
	case wire.AdminVerb_ADMIN_VERB_HEALTHZ:
		return text(exitDone, "ok\n")
	case wire.AdminVerb_ADMIN_VERB_READYZ:
		if s.Accepting {
			return text(exitDone, "ready\n")
		}
		return text(exitNotReady, "not ready\n")
	case wire.AdminVerb_ADMIN_VERB_BACKEND_HEALTH:
		return s.json("backend-health", s.backendHealth(req.ServiceName))
	case wire.AdminVerb_ADMIN_VERB_CONFIG:
		return s.json("config", object{"values": s.config()})
	case wire.AdminVerb_ADMIN_VERB_DUMP:
		return s.json("dump", s.dump())
	case wire.AdminVerb_ADMIN_VERB_DIAGNOSE:
		return s.json("diagnose", s.diagnose(req.OutputPath))
	case wire.AdminVerb_ADMIN_VERB_METRICS:
		return s.metrics()
	case wire.AdminVerb_ADMIN_VERB_SHUTDOWN:
		return text(exitDone, "broker shutting down\n")
	}
	return text(exitUnsupported, "unsupported admin verb\n")
}

// Upgraded is the answer to UPGRADE.
func Upgraded(pid int, err error) *wire.AdminReply {
	if err != nil {
		return text(exitNotReady, err.Error()+"\n")
	}
	return text(exitDone, fmt.Sprintf("broker %d serves\n", pid))
}

func text(exit uint32, body string) *wire.AdminReply {
	return &wire.AdminReply{
		Kind:        wire.AdminReplyKind_ADMIN_REPLY_KIND_TEXT,
		Body:        body,
		ExitCode:    exit,
		ContentType: "text/plain",
	}
}
