package wire

// usher's own messages.

// Offer travels broker -> backend on a channel, payload protocol 0xF001, kind
// REQUEST, with the client's connection and the claim as descriptors; with the
// connection alone when claim_generation says that the claim is in the page.
type Offer struct {
	Token           []byte // 16 random bytes that name this handoff
	HandoffId       uint64 // unique on the channel; equals the frame's request_id
	ConnectionId    uint64 // Negotiated.connection_id
	Preamble        []byte // the backend's first bytes on the connection, verbatim
	EarlyDataLen    uint32 // Hello.early_data_len: bytes that wait unread in the kernel
	Traceparent     string
	Tracestate      string
	ClaimWord       uint32 // which word of the page the claim is
	ClaimGeneration uint64 // 0: the claim is a descriptor
}

// Name implements Message.
func (*Offer) Name() string { return "Offer" }

func (m *Offer) fields(c *coder) {
	c.bytes(1, &m.Token)
	scalar(c, 2, &m.HandoffId)
	scalar(c, 3, &m.ConnectionId)
	c.bytes(4, &m.Preamble)
	scalar(c, 5, &m.EarlyDataLen)
	c.text(6, &m.Traceparent)
	c.text(7, &m.Tracestate)
	scalar(c, 8, &m.ClaimWord)
	scalar(c, 9, &m.ClaimGeneration)
}

// Ack answers an Offer, backend -> broker, kind RESPONSE. accepted = false is a
// NACK: the backend did not take the claim and closed what it received.
type Ack struct {
	Token     []byte // as presented in the offer; empty when the offer was unreadable
	HandoffId uint64 // 0 when the offer was unreadable
	Accepted  bool
	Reason    NackReason
	Detail    string
}

// Name implements Message.
func (*Ack) Name() string { return "Ack" }

func (m *Ack) fields(c *coder) {
	c.bytes(1, &m.Token)
	scalar(c, 2, &m.HandoffId)
	c.bool(3, &m.Accepted)
	scalar(c, 4, &m.Reason)
	c.text(5, &m.Detail)
}

// Register travels backend -> broker on the broker's socket, payload protocol
// 0xF002, kind REQUEST, from a backend that the broker did not start itself.
type Register struct {
	ServiceName    string
	ServiceVersion string
	BackendPipe    string // absolute path of the backend's own socket
	LibVersion     string // informational
	ClaimPage      bool   // the backend takes claims from a page
	Capabilities   uint64 // bit set of what the backend can on a channel; 0: built before it was
	OwnBuild       []byte // an OwnBuild, from a backend that was started for one
}

// Name implements Message.
func (*Register) Name() string { return "Register" }

func (m *Register) fields(c *coder) {
	c.text(1, &m.ServiceName)
	c.text(2, &m.ServiceVersion)
	c.text(3, &m.BackendPipe)
	c.text(4, &m.LibVersion)
	c.bool(5, &m.ClaimPage)
	scalar(c, 6, &m.Capabilities)
	c.bytes(7, &m.OwnBuild)
}

// OwnBuild is the wish to be served by the sender's own executable. What it says separates
// the instances of one build: two clients share one only where all of it is equal. It
// travels in Hello.OwnBuild and in Register.OwnBuild.
type OwnBuild struct {
	Key     string   // of the client's choice, such as a workspace
	Dir     string   // the instance's working directory; "/" when empty
	Env     []string // NAME=value, sorted: what the instance gets beside a login's environment
	IdleMs  uint64   // how long an instance without a connection lives
	StartMs uint64   // how long it may take until it is ready
}

// Name implements Message.
func (*OwnBuild) Name() string { return "OwnBuild" }

func (m *OwnBuild) fields(c *coder) {
	c.text(1, &m.Key)
	c.text(2, &m.Dir)
	c.texts(3, &m.Env)
	scalar(c, 4, &m.IdleMs)
	scalar(c, 5, &m.StartMs)
}

// Handover travels between a broker and the one that takes its place, on a channel that
// the second inherits; payload protocol 0xF003, kind EVENT.
type Handover struct {
	Kind         HandoverKind
	Format       uint32 // of LISTENER: 1
	Reason       string // of FAILED
	Received     []byte // of CONNECTION: what was read from it, at most one frame
	KeepName     bool   // of LISTENER: the socket's name is a service manager's
	Backends     uint32 // of GO: how many are about to come to the second
	Capabilities uint64 // of READY: bit set of what the second can; 0: built before it was
	Backend      []byte // of BACKEND and PROGRAM: a PassedBackend
	Path         string // of SOCKET: where it listens; of CONNECTION: of the SOCKET that it came on, if any
	Service      string // of SOCKET: what those want who connect there
	Version      string // likewise
	Passed       bool   // of SOCKET: a program accepts from it
}

// Name implements Message.
func (*Handover) Name() string { return "Handover" }

func (m *Handover) fields(c *coder) {
	scalar(c, 1, &m.Kind)
	scalar(c, 2, &m.Format)
	c.text(3, &m.Reason)
	c.bytes(4, &m.Received)
	c.bool(5, &m.KeepName)
	scalar(c, 6, &m.Backends)
	scalar(c, 7, &m.Capabilities)
	c.bytes(8, &m.Backend)
	c.text(9, &m.Path)
	c.text(10, &m.Service)
	c.text(11, &m.Version)
	c.bool(12, &m.Passed)
}

// PassedBackend is what a broker knows of a backend whose channel it passes on, or of a program
// without one.
type PassedBackend struct {
	// What clients find it by.
	Instance    string
	Service     string
	Version     string
	Variant     string // of an own build
	BackendPipe string // absolute path of its own socket
	ExePath     string // what it runs
	ExeHash     []byte // 32 bytes
	SinceMs     uint64 // Unix time since when it serves
	IdleSinceMs uint64 // Unix time since when it has had no connection, where active is 0
	Active      uint64 // how many connections it has, by its own word
	// As in Register.
	Capabilities uint64
	ClaimPage    bool   // the page comes behind the channel and the process
	Generation   uint64 // the highest that a claim in the page has had
	HandoffId    uint64 // the highest that an offer has had
	OwnBuild     []byte // an OwnBuild: what it was started for
	OwnFile      []byte // 32 bytes that name the file of an own build
	Log          string // where it logs to, of one that a broker has started
	Busy         bool   // it has no connection, and is at work, by its own word
	// Of PROGRAM alone.
	Address         string // of mode relay: where it listens
	Listen          string // of mode listen-fds: the path of the SOCKET from which it accepts
	HandoffEndpoint string // of a v1 backend: where it takes its handoffs
	Alone           bool   // of modes inetd and stdio: it has one connection to itself
	Ending          bool   // it has been asked to end
	Joined          bool   // of mode stdio: the pipe comes behind the process
	Behind          bool   // its process has ended, and what that has left behind has the room: no process comes
}

// Name implements Message.
func (*PassedBackend) Name() string { return "PassedBackend" }

func (m *PassedBackend) fields(c *coder) {
	c.text(1, &m.Instance)
	c.text(2, &m.Service)
	c.text(3, &m.Version)
	c.text(4, &m.Variant)
	c.text(5, &m.BackendPipe)
	c.text(6, &m.ExePath)
	c.bytes(7, &m.ExeHash)
	scalar(c, 8, &m.SinceMs)
	scalar(c, 9, &m.IdleSinceMs)
	scalar(c, 10, &m.Active)
	scalar(c, 11, &m.Capabilities)
	c.bool(12, &m.ClaimPage)
	scalar(c, 13, &m.Generation)
	scalar(c, 14, &m.HandoffId)
	c.bytes(15, &m.OwnBuild)
	c.bytes(16, &m.OwnFile)
	c.text(17, &m.Log)
	c.bool(18, &m.Busy)
	c.text(19, &m.Address)
	c.text(20, &m.Listen)
	c.text(21, &m.HandoffEndpoint)
	c.bool(22, &m.Alone)
	c.bool(23, &m.Ending)
	c.bool(24, &m.Joined)
	c.bool(25, &m.Behind)
}

// HandoverKind says what a Handover is about.
type HandoverKind int32

// The values of HandoverKind.
const (
	HandoverKind_HANDOVER_KIND_UNSPECIFIED HandoverKind = 0
	HandoverKind_HANDOVER_KIND_LISTENER    HandoverKind = 1 // first to second, with the listening socket
	HandoverKind_HANDOVER_KIND_READY       HandoverKind = 2 // second to first: it could serve
	HandoverKind_HANDOVER_KIND_FAILED      HandoverKind = 3 // second to first: it can't
	HandoverKind_HANDOVER_KIND_CONNECTION  HandoverKind = 4 // first to second, with a client's connection that waits
	HandoverKind_HANDOVER_KIND_GO          HandoverKind = 5 // first to second, with the lock beside the socket: it may begin
	HandoverKind_HANDOVER_KIND_TAKEN       HandoverKind = 6 // second to first: it begins
	HandoverKind_HANDOVER_KIND_BACKEND     HandoverKind = 7 // first to second, with a backend's channel, its process and its page
	HandoverKind_HANDOVER_KIND_SOCKET      HandoverKind = 8 // first to second, before GO, with a socket of a service alone
	HandoverKind_HANDOVER_KIND_PROGRAM     HandoverKind = 9 // first to second, before GO, with the process of a program without a channel
)

var handoverKindNames = [...]string{
	HandoverKind_HANDOVER_KIND_UNSPECIFIED: "HANDOVER_KIND_UNSPECIFIED",
	HandoverKind_HANDOVER_KIND_LISTENER:    "HANDOVER_KIND_LISTENER",
	HandoverKind_HANDOVER_KIND_READY:       "HANDOVER_KIND_READY",
	HandoverKind_HANDOVER_KIND_FAILED:      "HANDOVER_KIND_FAILED",
	HandoverKind_HANDOVER_KIND_CONNECTION:  "HANDOVER_KIND_CONNECTION",
	HandoverKind_HANDOVER_KIND_GO:          "HANDOVER_KIND_GO",
	HandoverKind_HANDOVER_KIND_TAKEN:       "HANDOVER_KIND_TAKEN",
	HandoverKind_HANDOVER_KIND_BACKEND:     "HANDOVER_KIND_BACKEND",
	HandoverKind_HANDOVER_KIND_SOCKET:      "HANDOVER_KIND_SOCKET",
	HandoverKind_HANDOVER_KIND_PROGRAM:     "HANDOVER_KIND_PROGRAM",
}

func (v HandoverKind) String() string { return enumName(handoverKindNames[:], int32(v)) }

// Note travels on a channel in both directions, payload protocol 0xF001, kind EVENT. Who
// does not know its kind ignores it.
type Note struct {
	Kind        NoteKind
	BackendPipe string // of READY: the backend's own socket
	Active      uint64 // of ACTIVE: how many connections the backend has
}

// Name implements Message.
func (*Note) Name() string { return "Note" }

func (m *Note) fields(c *coder) {
	scalar(c, 1, &m.Kind)
	c.text(2, &m.BackendPipe)
	scalar(c, 3, &m.Active)
}

// NoteKind says what a Note is about.
type NoteKind int32

// The values of NoteKind.
const (
	NoteKind_NOTE_KIND_UNSPECIFIED NoteKind = 0
	NoteKind_NOTE_KIND_READY       NoteKind = 1 // backend: it serves; sent on a channel that it inherited
	NoteKind_NOTE_KIND_IDLE        NoteKind = 2 // backend: it has had no connection for its time, and would go
	NoteKind_NOTE_KIND_DRAIN       NoteKind = 3 // broker: nothing more comes; serve what there is, and end
	NoteKind_NOTE_KIND_ACTIVE      NoteKind = 4 // backend: how many connections it has, when that has changed
	NoteKind_NOTE_KIND_BUSY        NoteKind = 5 // backend: it has had no connection for its time, and is at work
)

var noteKindNames = [...]string{
	NoteKind_NOTE_KIND_UNSPECIFIED: "NOTE_KIND_UNSPECIFIED",
	NoteKind_NOTE_KIND_READY:       "NOTE_KIND_READY",
	NoteKind_NOTE_KIND_IDLE:        "NOTE_KIND_IDLE",
	NoteKind_NOTE_KIND_DRAIN:       "NOTE_KIND_DRAIN",
	NoteKind_NOTE_KIND_ACTIVE:      "NOTE_KIND_ACTIVE",
	NoteKind_NOTE_KIND_BUSY:        "NOTE_KIND_BUSY",
}

func (v NoteKind) String() string { return enumName(noteKindNames[:], int32(v)) }

// Registered answers Register, kind RESPONSE. accepted = true comes with one
// descriptor, the backend's end of its channel, and behind it the page when
// claim_page says so.
type Registered struct {
	Accepted     bool
	Reason       string // why not, for people
	RetryAfterMs uint64 // 0: retrying does not help until something changes
	BrokerPid    uint32
	Channel      ChannelKind
	ClaimPage    bool   // never true unless the request's is
	Capabilities uint64 // bit set of what the broker can on a channel; 0: built before it was
}

// Name implements Message.
func (*Registered) Name() string { return "Registered" }

func (m *Registered) fields(c *coder) {
	c.bool(1, &m.Accepted)
	c.text(2, &m.Reason)
	scalar(c, 3, &m.RetryAfterMs)
	scalar(c, 4, &m.BrokerPid)
	scalar(c, 5, &m.Channel)
	c.bool(6, &m.ClaimPage)
	scalar(c, 7, &m.Capabilities)
}

// NackReason says why a backend did not take the claim.
type NackReason int32

// The values of NackReason.
const (
	NackReason_NACK_REASON_UNSPECIFIED NackReason = 0
	NackReason_NACK_REASON_REJECTED    NackReason = 1 // token or offer not acceptable; deliberately no finer
	NackReason_NACK_REASON_DESCRIPTORS NackReason = 2 // descriptors lost, too many or of the wrong kind
	NackReason_NACK_REASON_CLAIM_LOST  NackReason = 3 // the broker took the claim back first
	NackReason_NACK_REASON_BUSY        NackReason = 4 // accept queue full
	NackReason_NACK_REASON_CLOSING     NackReason = 5 // the listener is closing
	NackReason_NACK_REASON_UNSUPPORTED NackReason = 6 // no offer, but a message of a kind that the backend does not know
)

var nackReasonNames = [...]string{
	NackReason_NACK_REASON_UNSPECIFIED: "NACK_REASON_UNSPECIFIED",
	NackReason_NACK_REASON_REJECTED:    "NACK_REASON_REJECTED",
	NackReason_NACK_REASON_DESCRIPTORS: "NACK_REASON_DESCRIPTORS",
	NackReason_NACK_REASON_CLAIM_LOST:  "NACK_REASON_CLAIM_LOST",
	NackReason_NACK_REASON_BUSY:        "NACK_REASON_BUSY",
	NackReason_NACK_REASON_CLOSING:     "NACK_REASON_CLOSING",
	NackReason_NACK_REASON_UNSUPPORTED: "NACK_REASON_UNSUPPORTED",
}

func (v NackReason) String() string { return enumName(nackReasonNames[:], int32(v)) }

// ChannelKind is the socket type of a backend's channel.
type ChannelKind int32

// The values of ChannelKind.
const (
	ChannelKind_CHANNEL_KIND_SEQPACKET ChannelKind = 0 // one message, one datagram
	ChannelKind_CHANNEL_KIND_STREAM    ChannelKind = 1 // frames on a byte stream
)

var channelKindNames = [...]string{
	ChannelKind_CHANNEL_KIND_SEQPACKET: "CHANNEL_KIND_SEQPACKET",
	ChannelKind_CHANNEL_KIND_STREAM:    "CHANNEL_KIND_STREAM",
}

func (v ChannelKind) String() string { return enumName(channelKindNames[:], int32(v)) }
