package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/event"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// A program may accept from the socket of its service by itself: the broker binds it, and
// starts the program with it when somebody comes, as systemd does (sd_listen_fds(3)). Until
// the program ends the broker does not look at the socket. usher's clients are sent there.

// wanted has the program started for those in the queue of its socket.
func (s *server) wanted(p *plainSocket) {
	p.acceptor.Stop()
	files, serving := s.files, s.jobs.serving
	s.jobs.readers.Go(func() {
		r := files.read(serving, p.service)
		s.jobs.post(func() { s.startWanted(p, r) })
	})
}

// startWanted is step 4, wait, for those who wait in the kernel.
func (s *server) startWanted(p *plainSocket, r reading) {
	d, now := r.definition, time.Now()
	if s.draining || s.plain[p.binding.Path] != p || p.handedOn { // else keepSockets looks at it again
		return
	}
	if s.isPaused(p.service, p.version) {
		return // resume looks at it again
	}
	if refusal := p.refuses(r); refusal != nil {
		s.refuseQueued(p, refusal)
		s.takeBack(p)
		return
	}
	t, refusal := s.matchTarget(d, new(wire.Frame), &wire.Hello{ServiceName: p.service, WantedVersion: p.version})
	if refusal == nil || t != nil && s.starts.pending[t.key] != nil {
		return // somebody has been faster; or one is about to end that had the socket before this one
	}
	if t != nil {
		why, retry, ok := s.starts.allow(t.key, now)
		if ok {
			_, err := s.start(t, d, now, 0)
			if err == nil {
				return
			}
			why = fmt.Sprintf("%s can't be started: %v", p.service, err)
		}
		refusal = hello.StartFailed(why, retry)
	}
	s.refuseQueued(p, refusal)
	s.takeBack(p)
}

// refuses is what those who wait in the kernel would be told by a definition that says
// nothing of how to start a program with the socket; nil where it says so.
func (p *plainSocket) refuses(r reading) *hello.Refusal {
	switch d := r.definition; {
	case r.err != nil:
		return unreadable(r.err)
	case d.startErr != nil || d.instanceErr != nil:
		return hello.ServiceUnloadable(errors.Join(d.startErr, d.instanceErr))
	case d.start == nil || d.start.Listen != p.binding.Path:
		return hello.ServiceUnloadable(fmt.Errorf("it does not name %s any more", p.binding.Path))
	}
	return nil
}

// refuseQueued closes those who wait in the queue of a socket, nil for none, that no program
// accepts from: they can't be told why. Without descriptors it is tried again soon.
func (s *server) refuseQueued(p *plainSocket, why *hello.Refusal) {
	if p == nil || s.plain[p.binding.Path] != p || p.handedOn || s.isPassed(p) {
		return
	}
	raw, err := p.binding.Listener.SyscallConn()
	if err != nil || sock.SetNonblock(raw, true) != nil { // a program may have changed it
		return
	}
	for {
		c, err := p.acceptor.Accept()
		switch {
		case err == nil:
			cred, _ := sock.PeerOf(c) // else nobody knows who it was
			s.emit(event.Refused{Code: why.Code.String(), Reason: why.Reason, Service: p.service, PID: cred.PID})
			_ = c.Close()
			continue
		case !errors.Is(err, errno.EAGAIN):
			s.emit(event.AcceptFailed{Problem: err.Error(), NoDescriptors: s.pressure.failed(err), Every: loop.AcceptBackoff, Again: p.failing})
			p.failing = true
			p.acceptor.Pause()
		}
		return
	}
}

// isPassed reports whether a program has the socket, or is about to.
func (s *server) isPassed(p *plainSocket) bool {
	for _, e := range s.backends.All() {
		if e.Handle.socket == p && !e.Handle.exited {
			return true
		}
	}
	for _, starting := range s.starts.pending {
		if starting.entry.Handle.socket == p {
			return true
		}
	}
	return false
}

// endPassed has the programs end that accept from a socket which is closed here: nobody comes
// to them any more.
func (s *server) endPassed(p *plainSocket) {
	for _, e := range s.backends.All() {
		if e.Handle.socket == p {
			s.letGo(e, event.Replaced)
		}
	}
	for _, starting := range s.starts.pending {
		if starting.entry.Handle.socket == p {
			s.stopStarting(starting)
		}
	}
}

// passedEnded judges the end of a program that accepted by itself. Those whom it has left in
// the queue want the next one; they are refused when it has failed at once, as it would again.
func (s *server) passedEnded(e *entry, exit launch.Exit, now time.Time) {
	switch lived := now.Sub(e.Since); {
	case e.Handle.socket == nil:
	case e.Handle.letGo: // which says nothing about it
	case lived >= startWindow/startsPerWindow:
		s.starts.proven(e.Key)
	case lived < sameFailure && exit.Failed():
		why := fmt.Sprintf("the daemon of %s %v", e.Service, exit)
		s.starts.failed(e.Key, why, now)
		s.refuseQueued(e.Handle.socket, hello.StartFailed(why, 0))
	default:
		s.starts.unproven(e.Key, fmt.Sprintf("the daemon of %s %v", e.Service, exit))
	}
}

// takeBack looks at a socket, nil for none, when no program accepts from it any more.
func (s *server) takeBack(p *plainSocket) {
	if p != nil && !s.draining && s.plain[p.binding.Path] == p && !p.handedOn && !s.isPassed(p) && !p.acceptor.Failing() {
		p.acceptor.Start()
	}
}

// takeBackAll is takeBack for the sockets of a service that are passed to programs.
func (s *server) takeBackAll(service string) {
	for _, p := range s.plain {
		if p.passed && p.service == service {
			s.takeBack(p)
		}
	}
}

// passedSocket is what a program is started with that accepts by itself.
type passedSocket struct {
	file *os.File
	name string
}

func (p *passedSocket) close() {
	_ = p.file.Close()
}

// passSocket takes the socket of e's service from the loop.
func (s *server) passSocket(e *entry, start *service.StartPolicy) (*passedSocket, error) {
	p := s.plain[start.Listen]
	if p == nil || !p.passed || p.service != e.Service {
		return nil, fmt.Errorf("nobody listens at %s yet", start.Listen)
	}
	file, err := p.binding.Listener.File()
	if err != nil {
		return nil, err
	}
	p.acceptor.Stop()
	e.Handle.socket, p.failing = p, false
	return &passedSocket{file: file, name: e.Service}, nil
}

// launchWith is launch for a program that accepts by itself. It is started by its path.
func (j launching) launchWith(ctx context.Context, p *program, pass *passedSocket) (launched, error) {
	defer pass.close()
	l, log, err := j.open(ctx, p)
	if err != nil {
		return l, err
	}
	defer log.Close()
	spec := j.spec(p, log)
	spec.OwnPID, spec.Inherit = "LISTEN_PID", []*os.File{pass.file}
	spec.Env = append(spec.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+pass.name)
	l.Process, err = launch.Start(spec)
	return l, err
}
