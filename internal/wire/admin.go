package wire

// The admin verbs of v1, and usher's own from 1001 on.

// AdminRequest asks for one verb, kind REQUEST.
type AdminRequest struct {
	Verb            AdminVerb
	Json            bool
	ServiceName     string
	OutputPath      string
	DrainDeadlineMs uint64
	ServiceVersion  string // usher: of the service verbs; empty: every version
}

// Name implements Message.
func (*AdminRequest) Name() string { return "AdminRequest" }

func (m *AdminRequest) fields(c *coder) {
	scalar(c, 1, &m.Verb)
	c.bool(2, &m.Json)
	c.text(3, &m.ServiceName)
	c.text(4, &m.OutputPath)
	scalar(c, 5, &m.DrainDeadlineMs)
	c.text(100, &m.ServiceVersion)
}

// AdminReply carries the rendered answer, kind RESPONSE.
type AdminReply struct {
	Kind        AdminReplyKind
	Body        string
	ExitCode    uint32 // what a command-line caller exits with
	ContentType string
}

// Name implements Message.
func (*AdminReply) Name() string { return "AdminReply" }

func (m *AdminReply) fields(c *coder) {
	scalar(c, 1, &m.Kind)
	c.text(2, &m.Body)
	scalar(c, 3, &m.ExitCode)
	c.text(4, &m.ContentType)
}

// AdminVerb is what an administrator asks for.
type AdminVerb int32

// The values of AdminVerb.
const (
	AdminVerb_ADMIN_VERB_UNSPECIFIED    AdminVerb = 0
	AdminVerb_ADMIN_VERB_STATUS         AdminVerb = 1
	AdminVerb_ADMIN_VERB_DUMP           AdminVerb = 2
	AdminVerb_ADMIN_VERB_LIST_INSTANCES AdminVerb = 3
	AdminVerb_ADMIN_VERB_HEALTHZ        AdminVerb = 4
	AdminVerb_ADMIN_VERB_READYZ         AdminVerb = 5
	AdminVerb_ADMIN_VERB_BACKEND_HEALTH AdminVerb = 6
	AdminVerb_ADMIN_VERB_CONFIG         AdminVerb = 7
	AdminVerb_ADMIN_VERB_DIAGNOSE       AdminVerb = 8
	AdminVerb_ADMIN_VERB_METRICS        AdminVerb = 9
	AdminVerb_ADMIN_VERB_SHUTDOWN       AdminVerb = 21

	AdminVerb_ADMIN_VERB_SERVICE_RESTART AdminVerb = 1001
	AdminVerb_ADMIN_VERB_SERVICE_STOP    AdminVerb = 1002
	AdminVerb_ADMIN_VERB_SERVICE_PAUSE   AdminVerb = 1003
	AdminVerb_ADMIN_VERB_SERVICE_RESUME  AdminVerb = 1004
	AdminVerb_ADMIN_VERB_UPGRADE         AdminVerb = 1005
)

var adminVerbNames = [...]string{
	AdminVerb_ADMIN_VERB_UNSPECIFIED:    "ADMIN_VERB_UNSPECIFIED",
	AdminVerb_ADMIN_VERB_STATUS:         "ADMIN_VERB_STATUS",
	AdminVerb_ADMIN_VERB_DUMP:           "ADMIN_VERB_DUMP",
	AdminVerb_ADMIN_VERB_LIST_INSTANCES: "ADMIN_VERB_LIST_INSTANCES",
	AdminVerb_ADMIN_VERB_HEALTHZ:        "ADMIN_VERB_HEALTHZ",
	AdminVerb_ADMIN_VERB_READYZ:         "ADMIN_VERB_READYZ",
	AdminVerb_ADMIN_VERB_BACKEND_HEALTH: "ADMIN_VERB_BACKEND_HEALTH",
	AdminVerb_ADMIN_VERB_CONFIG:         "ADMIN_VERB_CONFIG",
	AdminVerb_ADMIN_VERB_DIAGNOSE:       "ADMIN_VERB_DIAGNOSE",
	AdminVerb_ADMIN_VERB_METRICS:        "ADMIN_VERB_METRICS",
	AdminVerb_ADMIN_VERB_SHUTDOWN:       "ADMIN_VERB_SHUTDOWN",
}

// serviceVerbNames begin with AdminVerb_ADMIN_VERB_SERVICE_RESTART.
var serviceVerbNames = [...]string{
	"ADMIN_VERB_SERVICE_RESTART", "ADMIN_VERB_SERVICE_STOP", "ADMIN_VERB_SERVICE_PAUSE", "ADMIN_VERB_SERVICE_RESUME", "ADMIN_VERB_UPGRADE",
}

func (v AdminVerb) String() string {
	if at := v - AdminVerb_ADMIN_VERB_SERVICE_RESTART; at >= 0 && int(at) < len(serviceVerbNames) {
		return serviceVerbNames[at]
	}
	return enumName(adminVerbNames[:], int32(v))
}

// AdminReplyKind is the format of an answer.
type AdminReplyKind int32

// The values of AdminReplyKind.
const (
	AdminReplyKind_ADMIN_REPLY_KIND_TEXT        AdminReplyKind = 0
	AdminReplyKind_ADMIN_REPLY_KIND_JSON        AdminReplyKind = 1
	AdminReplyKind_ADMIN_REPLY_KIND_OPENMETRICS AdminReplyKind = 2
)

var adminReplyKindNames = [...]string{
	AdminReplyKind_ADMIN_REPLY_KIND_TEXT:        "ADMIN_REPLY_KIND_TEXT",
	AdminReplyKind_ADMIN_REPLY_KIND_JSON:        "ADMIN_REPLY_KIND_JSON",
	AdminReplyKind_ADMIN_REPLY_KIND_OPENMETRICS: "ADMIN_REPLY_KIND_OPENMETRICS",
}

func (v AdminReplyKind) String() string { return enumName(adminReplyKindNames[:], int32(v)) }
