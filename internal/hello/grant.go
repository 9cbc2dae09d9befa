package hello

import (
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
)

// DefaultKeepalive is what a client gets that asked for nothing, in seconds.
const DefaultKeepalive = 1800

// Grant is a Hello's success (spec 01 §8).
type Grant struct {
	Version            string // of the backend, not of the broker
	BackendPipe        string // the backend's own endpoint, verbatim
	ServerCapabilities uint64 // the backend's bits; handle passing is added with a token
	Keepalive          uint64 // Hello.client_keepalive_secs; 0 takes DefaultKeepalive
	Token              []byte // 16 bytes, or empty when no handoff is on offer
	ConnectionID       uint64 // unique for the broker's life, from 1
}

// Reply is the grant as a message. It announces handle passing exactly when it
// carries a token.
func (g Grant) Reply() *wire.HelloReply {
	capabilities := g.ServerCapabilities &^ frame.CapHandlePassing
	if len(g.Token) > 0 {
		capabilities |= frame.CapHandlePassing
	}
	keepalive := g.Keepalive
	if keepalive == 0 {
		keepalive = DefaultKeepalive
	}
	return &wire.HelloReply{Negotiated: &wire.Negotiated{
		NegotiatedProtocol:    protocolVersion,
		DaemonVersion:         g.Version,
		BackendPipe:           g.BackendPipe,
		ServerCapabilities:    capabilities,
		KeepaliveIntervalSecs: keepalive,
		HandlePassedToken:     g.Token,
		ConnectionId:          g.ConnectionID,
	}}
}
