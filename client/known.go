package client

import (
	"os"
	"sync"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
)

// What one dial learns and the next one uses. Both memories are bounded; a full
// one starts over.
const maxRemembered = 256

// service is what is asked of whom.
type service struct{ broker, name, version string }

func (d *dialing) key() service { return service{d.Broker, d.Service, d.Version} }

// knownUsher are the services for which a broker has answered as usher.
var knownUsher services

type services struct {
	mu  sync.RWMutex
	set map[service]struct{}
}

func (s *services) has(k service) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, known := s.set[k]
	return known
}

func (s *services) learn(k service) {
	if s.has(k) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil || len(s.set) >= maxRemembered {
		s.set = make(map[service]struct{})
	}
	s.set[k] = struct{}{}
}

func (s *services) forget(k service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, k)
}

// learn remembers what kind of broker has answered.
func (d *dialing) learn(granted *brokerpb.Negotiated) {
	if granted.ServerCapabilities&frame.CapUsher != 0 {
		knownUsher.learn(d.key())
	} else {
		knownUsher.forget(d.key())
	}
}

// greeting is what a Hello is made of.
type greeting struct {
	service, version, ownVersion string
	capabilities                 uint64
	early                        int
}

var greetings struct {
	mu     sync.RWMutex
	frames map[greeting][]byte
}

// hello returns the framed Hello that announces early bytes, not to be changed.
func (d *dialing) hello(early int) ([]byte, error) {
	g := greeting{d.Service, d.Version, d.OwnVersion, frame.CapUsher | frame.CapHandlePassing, early}
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
		PID:           uint32(os.Getpid()),
		EarlyDataLen:  uint32(early),
	}.Frame()
	if err != nil {
		return nil, err
	}
	if framed, err = frame.Append(nil, f); err != nil {
		return nil, err
	}
	greetings.mu.Lock()
	defer greetings.mu.Unlock()
	if greetings.frames == nil || len(greetings.frames) >= maxRemembered {
		greetings.frames = make(map[greeting][]byte)
	}
	greetings.frames[g] = framed
	return framed, nil
}
