// Package frame is the outermost layer of the wire: the 5-byte framing, the
// Frame envelope, and the frames of handoff, channel and registration. It may
// import package wire only; every package above may import it. It reads and
// writes through interfaces and owns no descriptors.
package frame

// Sizes in bytes (spec 01 §1). Both caps are inclusive.
const (
	Version      = 1        // first byte of every frame
	HeaderLen    = 5        // version byte and little-endian body length
	MaxBody      = 16 << 20 // every frame body, read and written
	MaxHelloBody = 64 << 10 // the body that carries Hello
)

// envelopeVersion is the only value of Frame.envelope_version.
const envelopeVersion = 1

// Payload protocols (spec 01 §3). Channel and Register are usher's own, from
// the private-use range 0xF000-0xFFFF.
const (
	Control  uint32 = 0x0000 // Hello and HelloReply
	Admin    uint32 = 0xAD01
	Probe    uint32 = 0xB232 // endpoint identity probe
	Handoff  uint32 = 0xD0FF // v1 offer, ACK and the ready event
	Channel  uint32 = 0xF001 // usher: offer and ACK on a backend's channel
	Register uint32 = 0xF002 // usher: a backend asks for its channel
	Handover uint32 = 0xF003 // usher: a broker gives way to its successor
)

// Capability bits of Hello.client_capabilities and
// Negotiated.server_capabilities (spec 01 §4). v1 ignores bits it doesn't know.
const (
	CapHandlePassing uint64 = 1 << 0
	CapUsher         uint64 = 1 << 40 // the peer speaks usher's extensions
)

// protocolName is how the error texts of v1 call a protocol.
func protocolName(protocol uint32) string {
	switch protocol {
	case Control:
		return "control-plane"
	case Admin:
		return "admin"
	case Probe:
		return "endpoint probe"
	case Handoff:
		return "handoff"
	case Channel:
		return "channel"
	case Register:
		return "registration"
	}
	return "the expected one"
}
