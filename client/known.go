package client

import (
	"sync"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/wire"
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
func (d *dialing) learn(granted *wire.Negotiated) {
	if granted.ServerCapabilities&frame.CapUsher != 0 {
		knownUsher.learn(d.key())
	} else {
		knownUsher.forget(d.key())
	}
}
