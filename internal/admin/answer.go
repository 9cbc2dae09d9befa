package admin

import (
	"fmt"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
)

// Exit codes of a reply (spec 04 §6).
const (
	exitDone        = 0
	exitNotReady    = 1
	exitUnsupported = 2
)

// Handle answers an admin frame: envelope, payload, verb (spec 01 §12). On a
// fault there is no reply and the caller ends the connection. The caller acts on
// the verb after it has written the reply. Errors: *frame.EnvelopeError,
// *frame.DecodeError.
func Handle(f *brokerpb.Frame, s Snapshot) (reply *brokerpb.Frame, verb brokerpb.AdminVerb, err error) {
	if err := frame.Check(f, brokerpb.FrameKind_FRAME_KIND_REQUEST, frame.Admin); err != nil {
		return nil, 0, err
	}
	req := new(brokerpb.AdminRequest)
	if err := frame.Unmarshal(f.GetPayload(), req); err != nil {
		return nil, 0, err
	}
	return frame.Response(f, frame.Marshal(Answer(req, s))), req.GetVerb(), nil
}

// Answer renders the reply to one request. Fields of the request that the verb
// does not use are ignored.
func Answer(req *brokerpb.AdminRequest, s Snapshot) *brokerpb.AdminReply {
	switch req.GetVerb() {
	case brokerpb.AdminVerb_ADMIN_VERB_STATUS:
		if req.GetJson() {
			return s.json("status", s.status())
		}
		return text(exitDone, fmt.Sprintf("broker_instance: %s\naccepting_hello: %t\n", s.Instance, s.Accepting))
	case brokerpb.AdminVerb_ADMIN_VERB_LIST_INSTANCES:
		return s.json("list-instances", s.instances())
	case brokerpb.AdminVerb_ADMIN_VERB_HEALTHZ:
		return text(exitDone, "ok\n")
	case brokerpb.AdminVerb_ADMIN_VERB_READYZ:
		if s.Accepting {
			return text(exitDone, "ready\n")
		}
		return text(exitNotReady, "not ready\n")
	case brokerpb.AdminVerb_ADMIN_VERB_BACKEND_HEALTH:
		return s.json("backend-health", s.backendHealth(req.GetServiceName()))
	case brokerpb.AdminVerb_ADMIN_VERB_CONFIG:
		return s.json("config", object{"values": s.config()})
	case brokerpb.AdminVerb_ADMIN_VERB_DUMP:
		return s.json("dump", s.dump())
	case brokerpb.AdminVerb_ADMIN_VERB_DIAGNOSE:
		return s.json("diagnose", s.diagnose(req.GetOutputPath()))
	case brokerpb.AdminVerb_ADMIN_VERB_METRICS:
		return s.metrics()
	case brokerpb.AdminVerb_ADMIN_VERB_SHUTDOWN:
		return text(exitDone, "broker shutting down\n")
	}
	return text(exitUnsupported, "unsupported admin verb\n")
}

func text(exit uint32, body string) *brokerpb.AdminReply {
	return &brokerpb.AdminReply{
		Kind:        brokerpb.AdminReplyKind_ADMIN_REPLY_KIND_TEXT,
		Body:        body,
		ExitCode:    exit,
		ContentType: "text/plain",
	}
}
