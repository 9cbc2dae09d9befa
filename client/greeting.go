package client

import (
	"sync"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
)

const maxGreetings = 256

// greeting is what a Hello is made of.
type greeting struct {
	service, version, ownVersion string
	capabilities                 uint64
	early                        int
	ownBuild                     string // the message
}

// greetings keeps the framed Hellos: encoding one takes half a microsecond, looking it up
// a twentieth of that. A full cache starts over.
var greetings struct {
	mu     sync.RWMutex
	frames map[greeting][]byte
}

// hello returns the framed Hello that announces early bytes, not to be changed. It
// names no pid: the kernel's word is what counts, and in another pid namespace the
// own idea of it is another.
func (d *dialing) hello(early int) ([]byte, error) {
	g := greeting{d.Service, d.Version, d.OwnVersion, frame.CapUsher | frame.CapHandlePassing, early, string(d.ownBuild)}
	switch {
	case d.NoHandoff:
		g.capabilities = 0
	case early > 0: // else a v1 broker could hand an unread request to a backend without a claim
		g.capabilities = frame.CapUsher
	}
	greetings.mu.RLock()
	framed, known := greetings.frames[g]
	greetings.mu.RUnlock()
	if known {
		return framed, nil
	}
	f, err := hello.Request{
		Service:       g.service,
		Version:       g.version,
		ClientVersion: g.ownVersion,
		Capabilities:  g.capabilities,
		EarlyDataLen:  uint32(early),
		OwnBuild:      d.ownBuild,
	}.Frame()
	if err != nil {
		return nil, err
	}
	if framed, err = frame.Append(nil, f); err != nil {
		return nil, err
	}
	greetings.mu.Lock()
	defer greetings.mu.Unlock()
	if greetings.frames == nil || len(greetings.frames) >= maxGreetings {
		greetings.frames = make(map[greeting][]byte)
	}
	greetings.frames[g] = framed
	return framed, nil
}
