package wire

// LifecycleEvent is one line of a broker's life, as spec 01 §5.4 has it.
type LifecycleEvent struct {
	TsMs           uint64 // Unix time
	Pid            uint32 // of the process that it is about
	ServiceName    string
	Kind           EventKind
	Reason         string
	Extra          map[string]string
	SeverityNumber uint32 // of OpenTelemetry, 1 to 24
	SeverityText   string
	RequestId      string
	ConnectionId   uint64
	BrokerInstance string
}

// Name implements Message.
func (*LifecycleEvent) Name() string { return "LifecycleEvent" }

func (m *LifecycleEvent) fields(c *coder) {
	scalar(c, 1, &m.TsMs)
	scalar(c, 2, &m.Pid)
	c.text(3, &m.ServiceName)
	scalar(c, 4, &m.Kind)
	c.text(5, &m.Reason)
	c.textMap(6, &m.Extra)
	scalar(c, 7, &m.SeverityNumber)
	c.text(8, &m.SeverityText)
	c.text(9, &m.RequestId)
	scalar(c, 10, &m.ConnectionId)
	c.text(11, &m.BrokerInstance)
}

// EventKind says what has happened. The names are those of the schema.
type EventKind int32

// The values of EventKind.
const (
	EventKind_EVENT_KIND_UNSPECIFIED    EventKind = 0
	EventKind_SPAWN_ATTEMPT             EventKind = 1
	EventKind_SPAWN                     EventKind = 2
	EventKind_DIED_IDLE                 EventKind = 3
	EventKind_DIED_SHUTDOWN             EventKind = 4
	EventKind_DIED_CRASH                EventKind = 5
	EventKind_VERSION_MISMATCH          EventKind = 6
	EventKind_REPLACED_BY_NEWER         EventKind = 7
	EventKind_HELLO_ACCEPTED            EventKind = 8
	EventKind_HELLO_REFUSED             EventKind = 9
	EventKind_SERVICE_DEF_LOADED        EventKind = 10
	EventKind_SERVICE_DEF_CHANGED       EventKind = 11
	EventKind_BROADCAST_SENT            EventKind = 12
	EventKind_BROADCAST_ACK             EventKind = 13
	EventKind_BROADCAST_TIMEOUT         EventKind = 14
	EventKind_PROTOCOL_DOWNGRADE        EventKind = 15
	EventKind_CACHE_CORRUPTION_DETECTED EventKind = 16
	EventKind_RESOURCE_PRESSURE         EventKind = 17
	EventKind_SECURITY_VIOLATION        EventKind = 18
	EventKind_TEARDOWN_HOOK_FAILED      EventKind = 19
	EventKind_MANIFEST_REWRITTEN        EventKind = 20
)

var eventKindNames = [...]string{
	EventKind_EVENT_KIND_UNSPECIFIED:    "EVENT_KIND_UNSPECIFIED",
	EventKind_SPAWN_ATTEMPT:             "SPAWN_ATTEMPT",
	EventKind_SPAWN:                     "SPAWN",
	EventKind_DIED_IDLE:                 "DIED_IDLE",
	EventKind_DIED_SHUTDOWN:             "DIED_SHUTDOWN",
	EventKind_DIED_CRASH:                "DIED_CRASH",
	EventKind_VERSION_MISMATCH:          "VERSION_MISMATCH",
	EventKind_REPLACED_BY_NEWER:         "REPLACED_BY_NEWER",
	EventKind_HELLO_ACCEPTED:            "HELLO_ACCEPTED",
	EventKind_HELLO_REFUSED:             "HELLO_REFUSED",
	EventKind_SERVICE_DEF_LOADED:        "SERVICE_DEF_LOADED",
	EventKind_SERVICE_DEF_CHANGED:       "SERVICE_DEF_CHANGED",
	EventKind_BROADCAST_SENT:            "BROADCAST_SENT",
	EventKind_BROADCAST_ACK:             "BROADCAST_ACK",
	EventKind_BROADCAST_TIMEOUT:         "BROADCAST_TIMEOUT",
	EventKind_PROTOCOL_DOWNGRADE:        "PROTOCOL_DOWNGRADE",
	EventKind_CACHE_CORRUPTION_DETECTED: "CACHE_CORRUPTION_DETECTED",
	EventKind_RESOURCE_PRESSURE:         "RESOURCE_PRESSURE",
	EventKind_SECURITY_VIOLATION:        "SECURITY_VIOLATION",
	EventKind_TEARDOWN_HOOK_FAILED:      "TEARDOWN_HOOK_FAILED",
	EventKind_MANIFEST_REWRITTEN:        "MANIFEST_REWRITTEN",
}

func (v EventKind) String() string { return enumName(eventKindNames[:], int32(v)) }
