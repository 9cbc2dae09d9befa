package broker_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestRegistrationRefused: whatever is wrong is said, and no channel is given.
func TestRegistrationRefused(t *testing.T) {
	s := newSite(t, nil)
	good := s.pipe("good")
	plain := filepath.Join(s.dir, "plain")
	link := filepath.Join(s.dir, "link")
	if err := errors.Join(os.WriteFile(plain, nil, 0o600), os.Symlink(good, link)); err != nil {
		t.Fatal(err)
	}
	s.write("alien.toml", `binary_path = "/bin/sh"`)
	s.write("gone.toml", `binary_path = "/nonexistent/binary"`)
	s.write("broken.toml", `binary_path = `)
	for _, c := range []struct {
		name, reason, service, version, pipe string
	}{
		{"unknown service", "service definition was not found", "nobody", demoVersion, good},
		{"broken definition", "could not be loaded", "broken", demoVersion, good},
		{"bad name", "", "../x", demoVersion, good},
		{"bad version", "", demo, "1.4", good},
		{"another executable", "it runs " + ownBinary(t) + ", but the service is defined with /bin/sh", "alien", demoVersion, good},
		{"no executable", "/nonexistent/binary", "gone", demoVersion, good},
		{"relative pipe", "no absolute path", demo, demoVersion, "good"},
		{"no pipe", "no absolute path", demo, demoVersion, ""},
		{"pipe is missing", "no such file", demo, demoVersion, good + "2"},
		{"pipe is a file", "is no socket", demo, demoVersion, plain},
		{"pipe is a symlink", "is no socket", demo, demoVersion, link},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, ch, err := register(s.Socket(), &wire.Register{ServiceName: c.service, ServiceVersion: c.version, BackendPipe: c.pipe})
			if err != nil || ch != nil || answer.Accepted {
				t.Fatalf("got %v, %v", answer, err)
			}
			if answer.Reason == "" || !strings.Contains(answer.Reason, c.reason) || answer.BrokerPid != uint32(os.Getpid()) {
				t.Errorf("got %v", answer)
			}
		})
	}
	if n := s.Backends(); n != 0 {
		t.Errorf("%d backends are registered", n)
	}
}

// TestRegistrationMalformed: no answer, and only that connection ends.
func TestRegistrationMalformed(t *testing.T) {
	s := newSite(t, nil)
	for name, spoil := range map[string]func(*wire.Frame){
		"envelope": func(f *wire.Frame) { f.EnvelopeVersion = 0 },
		"kind":     func(f *wire.Frame) { f.Kind = wire.FrameKind_FRAME_KIND_EVENT },
		"payload":  func(f *wire.Frame) { f.Payload = []byte{0x0a, 0xff} },
	} {
		t.Run(name, func(t *testing.T) {
			f := frame.RegisterRequest(&wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("p")})
			spoil(f)
			c := s.dial()
			send(t, c, bytesOf(t, f))
			if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	s.fake(demoVersion)
}

// TestRegistrationAnswerUnread: a backend that is gone before its answer, or
// reads it without taking the descriptor, is no backend for long.
func TestRegistrationAnswerUnread(t *testing.T) {
	s := newSite(t, nil)
	request := bytesOf(t, frame.RegisterRequest(&wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("p"),
	}))
	for range 10 {
		c := s.dial()
		send(t, c, request)
		_ = c.Close()
	}
	c := s.dial()
	send(t, c, request)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "no backend is left", func() bool { return s.Backends() == 0 })
}

func TestMaxBackends(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxBackends = 2 })
	first := s.fake("1.0.0")
	s.fake("2.0.0")
	full := func() *wire.Registered {
		answer, ch, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: "3.0.0", BackendPipe: s.pipe("p")})
		if err != nil {
			t.Fatal(err)
		}
		if ch != nil {
			_ = ch.Close()
		}
		return answer
	}
	if answer := full(); answer.Accepted || !strings.Contains(answer.Reason, "2 backends are registered already") {
		t.Errorf("got %v", answer)
	}
	_ = first.ch.Close()
	testutil.WaitFor(t, "one has left", func() bool { return s.Backends() == 1 })
	if answer := full(); !answer.Accepted {
		t.Errorf("got %v", answer)
	}
}

// TestRegisterAgain: a process that registers the same version again has lost
// its channel; the older one ends. Another version stays.
func TestRegisterAgain(t *testing.T) {
	s := newSite(t, nil)
	other := s.fake("2.0.0")
	older := s.fake(demoVersion)
	newer := s.fake(demoVersion)
	older.ended()
	testutil.WaitFor(t, "two are left", func() bool { return s.Backends() == 2 })
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := newer.receive()
	newer.adopt(o)
	newer.ack(o, nil)
	readHandedOver(t, c)
	_ = other.ch.Close()
	testutil.WaitFor(t, "one is left", func() bool { return s.Backends() == 1 })
}

// TestRegistrationWhileDraining: no channel is given any more. The connection
// that keeps the broker draining is the registration's own.
func TestRegistrationWhileDraining(t *testing.T) {
	s := newSite(t, nil)
	c := s.dial()
	request := bytesOf(t, frame.RegisterRequest(&wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("p"),
	}))
	send(t, c, request[:10])
	testutil.WaitFor(t, "the broker has read it", func() bool { return unsent(t, c) == 0 }) // who is silent is told otherwise
	s.stop()
	testutil.WaitFor(t, "draining", s.Draining)
	send(t, c, request[10:])
	answer, err := frame.ParseRegistered(readFrame(t, c))
	if err != nil || answer.Accepted || answer.Reason != "broker is shutting down" {
		t.Errorf("got %v, %v", answer, err)
	}
	readEnd(t, c)
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// TestBackendDies: a backend whose process ends leaves the registry. A pipe at a
// chosen path stays for its next owner to clear away, who may be there already.
func TestBackendDies(t *testing.T) {
	s := newSite(t, nil)
	pipe := filepath.Join(s.dir, "echo")
	p := s.echoProcess(pipe)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	testutil.WaitFor(t, "the backend has left", func() bool { return s.Backends() == 0 })
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED, "backend is not registered")
}

// TestOverBoundsRegistration: a registration over the bounds gets the answer of
// row 32, which a backend understands.
func TestOverBoundsRegistration(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxHandshakesPerPeer = 1 })
	var silent net.Conn = s.dial()
	testutil.WaitFor(t, "it is held", func() bool { n, _ := s.Pending(); return n == 1 })
	_, ch, err := register(s.Socket(), &wire.Register{ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("p")})
	if ch != nil || err == nil {
		t.Errorf("got %v, %v", ch, err)
	}
	_ = silent.Close()
	s.settle()
	s.fake(demoVersion)
}
