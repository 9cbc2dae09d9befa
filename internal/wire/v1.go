package wire

// The v1 envelope, the Hello exchange and handle passing.

// Frame is the body of every framed message.
type Frame struct {
	EnvelopeVersion uint32 // always 1
	Kind            FrameKind
	PayloadProtocol uint32 // which protocol the payload belongs to
	Payload         []byte
	RequestId       uint64          // correlation, echoed in the response
	PayloadEncoding PayloadEncoding // NONE everywhere in v1
	DeadlineUnixMs  uint64          // written as 0, never read
	Traceparent     string          // W3C trace context, echoed
	Tracestate      string          // echoed
}

// Name implements Message.
func (*Frame) Name() string { return "Frame" }

func (m *Frame) fields(c *coder) {
	scalar(c, 1, &m.EnvelopeVersion)
	scalar(c, 2, &m.Kind)
	scalar(c, 3, &m.PayloadProtocol)
	c.bytes(4, &m.Payload)
	scalar(c, 5, &m.RequestId)
	scalar(c, 6, &m.PayloadEncoding)
	scalar(c, 7, &m.DeadlineUnixMs)
	c.text(8, &m.Traceparent)
	c.text(9, &m.Tracestate)
}

// Hello is the client's first message, payload protocol 0x0000, kind REQUEST.
type Hello struct {
	ClientMinProtocol    uint32 // lowest protocol version the client speaks
	ClientMaxProtocol    uint32 // highest
	ServiceName          string
	WantedVersion        string
	ClientVersion        string // informational
	ClientCapabilities   uint64 // bit 0: handle passing; bit 40: usher
	AuthToken            []byte // session token, dormant in v1
	RequestId            string // informational, not echoed
	ConnectionId         uint64 // 0 in Hello, not read
	PeerPid              uint32 // the sender's own pid; 0 = do not check
	ClientLibName        string // telemetry
	ClientLibVersion     string // telemetry
	PeerAttestationNonce []byte // unused
	CapabilityToken      []byte // unused
	ClientKeepaliveSecs  uint64 // 0 = take the default
	// usher: how many bytes the client sent behind this Hello before it read a
	// reply. The number lies above the reserved range, so v1 will not give it
	// another meaning, and a v1 broker skips the unknown field. The client leaves
	// capability bit 0 clear, so a v1 broker hands the connection to nobody and
	// the early bytes stay unread; the missing bit 40 in its reply says so.
	EarlyDataLen uint32
	// usher: an OwnBuild, when the client wants to be served by its own build, which
	// the broker is to start where none runs. A v1 broker skips the field and looks
	// for a definition of the service, as it would without it.
	OwnBuild []byte
}

// Name implements Message.
func (*Hello) Name() string { return "Hello" }

func (m *Hello) fields(c *coder) {
	scalar(c, 1, &m.ClientMinProtocol)
	scalar(c, 2, &m.ClientMaxProtocol)
	c.text(3, &m.ServiceName)
	c.text(4, &m.WantedVersion)
	c.text(5, &m.ClientVersion)
	scalar(c, 6, &m.ClientCapabilities)
	c.bytes(7, &m.AuthToken)
	c.text(8, &m.RequestId)
	scalar(c, 9, &m.ConnectionId)
	scalar(c, 10, &m.PeerPid)
	c.text(11, &m.ClientLibName)
	c.text(12, &m.ClientLibVersion)
	c.bytes(13, &m.PeerAttestationNonce)
	c.bytes(14, &m.CapabilityToken)
	scalar(c, 15, &m.ClientKeepaliveSecs)
	scalar(c, 100, &m.EarlyDataLen)
	c.bytes(101, &m.OwnBuild)
}

// HelloReply answers Hello, kind RESPONSE. It has one of the two: of both that
// arrive, the last one counts. Neither is an error.
type HelloReply struct {
	Negotiated *Negotiated
	Refused    *Refused
}

// Name implements Message.
func (*HelloReply) Name() string { return "HelloReply" }

func (m *HelloReply) fields(c *coder) {
	if message(c, 1, &m.Negotiated) {
		m.Refused = nil
	}
	if message(c, 2, &m.Refused) {
		m.Negotiated = nil
	}
}

// Negotiated grants what a Hello asked for.
type Negotiated struct {
	NegotiatedProtocol    uint32
	DaemonVersion         string // version of the backend
	BackendPipe           string // the backend's own endpoint, verbatim
	Warnings              []string
	ServerCapabilities    uint64
	KeepaliveIntervalSecs uint64
	HandlePassedToken     []byte // 16 bytes when a handoff token was issued
	ConnectionId          uint64 // per broker, from 1
}

// Name implements Message.
func (*Negotiated) Name() string { return "Negotiated" }

func (m *Negotiated) fields(c *coder) {
	scalar(c, 1, &m.NegotiatedProtocol)
	c.text(2, &m.DaemonVersion)
	c.text(3, &m.BackendPipe)
	c.texts(4, &m.Warnings)
	scalar(c, 5, &m.ServerCapabilities)
	scalar(c, 6, &m.KeepaliveIntervalSecs)
	c.bytes(7, &m.HandlePassedToken)
	scalar(c, 8, &m.ConnectionId)
}

// Refused says why there is no connection to a backend.
type Refused struct {
	Reason            string
	DaemonMinProtocol uint32
	DaemonMaxProtocol uint32
	Code              ErrorCode
	Details           map[string]string
	RetryAfterMs      uint64
}

// Name implements Message.
func (*Refused) Name() string { return "Refused" }

func (m *Refused) fields(c *coder) {
	c.text(1, &m.Reason)
	scalar(c, 2, &m.DaemonMinProtocol)
	scalar(c, 3, &m.DaemonMaxProtocol)
	scalar(c, 4, &m.Code)
	c.textMap(5, &m.Details)
	scalar(c, 6, &m.RetryAfterMs)
}

// HandoffOffer travels broker -> backend beside the client's connection,
// payload protocol 0xD0FF, kind REQUEST.
type HandoffOffer struct {
	HandleValue   uint64 // Windows: the duplicated handle; 0 elsewhere
	Token         []byte
	ServiceName   string
	CorrelationId uint64
}

// Name implements Message.
func (*HandoffOffer) Name() string { return "HandoffOffer" }

func (m *HandoffOffer) fields(c *coder) {
	scalar(c, 1, &m.HandleValue)
	c.bytes(2, &m.Token)
	c.text(3, &m.ServiceName)
	scalar(c, 4, &m.CorrelationId)
}

// HandoffAck answers HandoffOffer, kind RESPONSE.
type HandoffAck struct {
	Token         []byte
	Accepted      bool
	ErrorDetail   string
	CorrelationId uint64
}

// Name implements Message.
func (*HandoffAck) Name() string { return "HandoffAck" }

func (m *HandoffAck) fields(c *coder) {
	c.bytes(1, &m.Token)
	c.bool(2, &m.Accepted)
	c.text(3, &m.ErrorDetail)
	scalar(c, 4, &m.CorrelationId)
}

// FrameKind says what a frame is to its receiver.
type FrameKind int32

// The values of FrameKind.
const (
	FrameKind_FRAME_KIND_REQUEST  FrameKind = 0
	FrameKind_FRAME_KIND_RESPONSE FrameKind = 1
	FrameKind_FRAME_KIND_EVENT    FrameKind = 2 // the handoff-ready push only
	FrameKind_FRAME_KIND_CANCEL   FrameKind = 3 // defined, unused
)

var frameKindNames = [...]string{
	FrameKind_FRAME_KIND_REQUEST:  "FRAME_KIND_REQUEST",
	FrameKind_FRAME_KIND_RESPONSE: "FRAME_KIND_RESPONSE",
	FrameKind_FRAME_KIND_EVENT:    "FRAME_KIND_EVENT",
	FrameKind_FRAME_KIND_CANCEL:   "FRAME_KIND_CANCEL",
}

func (v FrameKind) String() string { return enumName(frameKindNames[:], int32(v)) }

// PayloadEncoding: 1 to 3 are defined and always refused.
type PayloadEncoding int32

// The values of PayloadEncoding.
const (
	PayloadEncoding_PAYLOAD_ENCODING_NONE   PayloadEncoding = 0
	PayloadEncoding_PAYLOAD_ENCODING_ZSTD   PayloadEncoding = 1
	PayloadEncoding_PAYLOAD_ENCODING_SNAPPY PayloadEncoding = 2
	PayloadEncoding_PAYLOAD_ENCODING_LZ4    PayloadEncoding = 3
)

var payloadEncodingNames = [...]string{
	PayloadEncoding_PAYLOAD_ENCODING_NONE:   "PAYLOAD_ENCODING_NONE",
	PayloadEncoding_PAYLOAD_ENCODING_ZSTD:   "PAYLOAD_ENCODING_ZSTD",
	PayloadEncoding_PAYLOAD_ENCODING_SNAPPY: "PAYLOAD_ENCODING_SNAPPY",
	PayloadEncoding_PAYLOAD_ENCODING_LZ4:    "PAYLOAD_ENCODING_LZ4",
}

func (v PayloadEncoding) String() string { return enumName(payloadEncodingNames[:], int32(v)) }

// ErrorCode is the class of a refusal.
type ErrorCode int32

// The values of ErrorCode.
const (
	ErrorCode_ERROR_CODE_UNSPECIFIED     ErrorCode = 0
	ErrorCode_ERROR_VERSION_UNSUPPORTED  ErrorCode = 1
	ErrorCode_ERROR_SERVICE_UNKNOWN      ErrorCode = 2
	ErrorCode_ERROR_BACKEND_SPAWN_FAILED ErrorCode = 3
	ErrorCode_ERROR_RATE_LIMITED         ErrorCode = 4
	ErrorCode_ERROR_SHUTTING_DOWN        ErrorCode = 5
	ErrorCode_ERROR_PEER_REJECTED        ErrorCode = 6
	ErrorCode_ERROR_INTERNAL             ErrorCode = 7
	ErrorCode_ERROR_VERSION_BLOCKED      ErrorCode = 8
	ErrorCode_ERROR_FD_PRESSURE          ErrorCode = 9
)

var errorCodeNames = [...]string{
	ErrorCode_ERROR_CODE_UNSPECIFIED:     "ERROR_CODE_UNSPECIFIED",
	ErrorCode_ERROR_VERSION_UNSUPPORTED:  "ERROR_VERSION_UNSUPPORTED",
	ErrorCode_ERROR_SERVICE_UNKNOWN:      "ERROR_SERVICE_UNKNOWN",
	ErrorCode_ERROR_BACKEND_SPAWN_FAILED: "ERROR_BACKEND_SPAWN_FAILED",
	ErrorCode_ERROR_RATE_LIMITED:         "ERROR_RATE_LIMITED",
	ErrorCode_ERROR_SHUTTING_DOWN:        "ERROR_SHUTTING_DOWN",
	ErrorCode_ERROR_PEER_REJECTED:        "ERROR_PEER_REJECTED",
	ErrorCode_ERROR_INTERNAL:             "ERROR_INTERNAL",
	ErrorCode_ERROR_VERSION_BLOCKED:      "ERROR_VERSION_BLOCKED",
	ErrorCode_ERROR_FD_PRESSURE:          "ERROR_FD_PRESSURE",
}

func (v ErrorCode) String() string { return enumName(errorCodeNames[:], int32(v)) }
