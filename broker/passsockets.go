package broker

import (
	"errors"
	"net"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// This file is how the sockets of services pass to a successor, so that at no moment nobody
// listens there. It is told of them before it may begin, and accepts from then on; until then
// this broker does. Whoever is in a queue is accepted by one of the two.

// offerSockets gives the successor the sockets of services. One that can't be passed is bound
// anew there, when this broker has let it go. The error is EAGAIN when the successor has to
// take in some before the others can be sent.
func (s *server) offerSockets(next *successor) error {
	if next.can&frame.CapSockets == 0 {
		return nil
	}
	for _, p := range s.plain {
		if p.handedOn {
			continue
		}
		err := sendHandover(next.channel, &wire.Handover{
			Kind: wire.HandoverKind_HANDOVER_KIND_SOCKET,
			Path: p.binding.Path, Service: p.service, Version: p.version, Passed: p.passed,
		}, p.acceptor.Listener)
		if errors.Is(err, errno.EAGAIN) {
			return err
		}
		p.handedOn = err == nil
	}
	return nil
}

// keepSockets is for a successor that has ended, and never began.
func (s *server) keepSockets() {
	for _, p := range s.plain {
		if p.handedOn {
			p.handedOn = false
			_ = p.binding.ListenAgain() // else clients would be told its pid
			if p.passed {
				s.takeBack(p)
			}
		}
	}
	s.keepPrograms()
}

// leaveSockets leaves to the successor what it was given, and has its connections that wait
// go on there.
func (s *server) leaveSockets() {
	for path, p := range s.plain {
		if p.handedOn {
			p.acceptor.Stop()
			delete(s.plain, path)
			s.left = append(s.left, p)
			p.binding.Disown(false)
			s.jobs.wg.Go(func() { _ = p.binding.Close() })
		}
	}
}

// socketPassed takes in a socket of the predecessor. The caller closes what is left in fds.
func (s *server) socketPassed(h *wire.Handover, fds *sock.Descriptors) {
	binding, err := takeSocket(h.Path, h.Passed, fds)
	if err != nil {
		return // it is bound anew
	}
	p := &plainSocket{service: h.Service, version: h.Version, passed: h.Passed, binding: binding}
	if !s.jobs.post(func() {
		if s.begun { // it comes late, and is bound anew
			s.jobs.wg.Go(func() { _ = binding.Close() })
			return
		}
		s.given = append(s.given, p)
	}) {
		_ = binding.Close()
	}
}

// takeSocket makes a Binding of the socket in fds. One that is passed to programs stays in
// blocking mode, which is that of all who have it: a program may be waiting in accept(2).
func takeSocket(path string, passed bool, fds *sock.Descriptors) (*endpoint.Binding, error) {
	file, err := fds.Take(0).File(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file) // a copy
	if err != nil {
		return nil, err
	}
	if raw, err := file.SyscallConn(); passed && err == nil {
		_ = sock.SetNonblock(raw, false)
	}
	listener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("it is no Unix socket"), l.Close())
	}
	binding, err := endpoint.TakeOver(path, listener)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return binding, nil
}

// openSockets begins to accept from what the predecessor has given. From then on others are
// bound.
func (s *server) openSockets() {
	for _, p := range s.given {
		p.binding.Own(nil, false) // until now it was the predecessor's
		if !s.openPlain(p) {
			s.jobs.wg.Go(func() { _ = p.binding.Close() })
		}
	}
	s.given = nil
	close(s.opens)
}

// closeGiven leaves to the predecessor what it has given to a broker that never began.
func (s *server) closeGiven() {
	for _, p := range s.given {
		_ = p.binding.Close()
	}
	s.closePrograms()
}

// admitPlainPassed takes in a connection that has waited at the predecessor, where it came on
// the socket at path.
func (s *server) admitPlainPassed(c *sock.Conn, path string) {
	p := s.plain[path]
	for _, left := range s.left { // this broker has a successor itself by now
		if left.binding.Path == path {
			p = left
		}
	}
	if p == nil { // its definition is gone
		_ = c.Close()
		return
	}
	s.admitPlain(p, c)
}
