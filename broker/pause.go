package broker

import (
	"fmt"
	"time"

	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/wire"
)

// A paused service takes no Hello further than step 3: they wait in the one place to wait
// (wait.go), until it is resumed, each for its own time and as many as there is room for.
// What was under way when the pause came goes on. A pause is forgotten with its broker.

const maxPaused = 1024

// pause has the clients of a service wait.
func (s *server) pause(service, version string) (string, error) {
	key := pauseKey(service, version)
	if since, paused := s.paused[key]; paused {
		return fmt.Sprintf("%s has been paused for %v", named(service, version), time.Since(since).Round(time.Second)), nil
	}
	if len(s.paused) >= maxPaused {
		return "", fmt.Errorf("%d services are paused already", maxPaused)
	}
	s.paused[key] = time.Now()
	s.emit(event.Paused{Service: service, Version: version})
	return fmt.Sprintf("%s is paused: its clients wait, at most %d of them and each for its own time; %s under way",
		named(service, version), s.waiting.most, plural(int64(s.inFlight[service]), "handoff")), nil
}

// resume has them go on. Without a version it ends every pause of the service.
func (s *server) resume(service, version string) (string, error) {
	waited, paused := 0, false
	for key := range s.paused {
		if key.Service == service && (version == "" || key.Version == version) {
			paused = true
			waited += len(s.waiting.connections[key])
			delete(s.paused, key)
			s.emit(event.Resumed{Service: service, Version: key.Version, Waited: len(s.waiting.connections[key])})
			s.ready(key)
		}
	}
	s.takeBackAll(service)
	if !paused {
		return named(service, version) + " is not paused", nil
	}
	return fmt.Sprintf("%s goes on: %s had waited", named(service, version), plural(int64(waited), "client")), nil
}

// pauseKey is under which those wait whose service is paused. It names no instance, as no
// other key does.
func pauseKey(service, version string) registry.Key {
	return registry.Key{Service: service, Version: version}
}

func (s *server) isPaused(service, version string) bool {
	_, all := s.paused[pauseKey(service, "")]
	_, one := s.paused[pauseKey(service, version)]
	return all || one
}

func named(service, version string) string {
	if version == "" {
		return service
	}
	return service + "@" + version
}

// held has the connection wait, or refuses it, where its service is paused, and reports
// whether it is.
func (c *connection) held(f *wire.Frame, h *wire.Hello) bool {
	s := c.server
	if len(s.paused) == 0 {
		return false
	}
	key := pauseKey(h.ServiceName, "")
	if _, all := s.paused[key]; !all {
		key.Version = h.WantedVersion
		if !s.isPaused(h.ServiceName, h.WantedVersion) {
			return false
		}
	}
	w := waiter{target: &target{request: f, hello: h, key: key}, paused: true}
	if s.draining || len(s.waiting.connections[key]) >= s.waiting.most {
		c.refuseAndClose(f, w.refusal())
		return true
	}
	c.waitUntil(c.deadline, w)
	return true
}
