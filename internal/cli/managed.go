package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/systemd"
)

// managed is a broker under a service manager, or under none: then nobody passes a socket
// or is told anything.
//
//	passed by the manager (a .socket unit)  its name stays the manager's
//	kept by the manager (FDSTORE)           from a broker that has crashed, at whose name it listens
//	else                                    made here, and kept by the manager from then on
type managed struct {
	manager *systemd.Notifier
	log     *slog.Logger

	passed, kept *net.UnixListener // nil when there is none
	keeps        bool              // the manager keeps the broker's socket
	succeeded    bool              // by another broker
}

// keptName is what the manager keeps the broker's socket as.
const keptName = "usher-listener"

// newManaged takes what the service manager has passed. The caller calls close.
func newManaged(log *slog.Logger) (*managed, error) {
	m := &managed{log: log}
	var err error
	m.manager, err = systemd.NewNotifier()
	m.note(err) // the variable may be a distant ancestor's
	sockets, err := systemd.Sockets()
	for _, s := range sockets {
		err = errors.Join(err, m.sort(s))
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// sort finds out what a passed descriptor is for, and closes what is for nothing.
func (m *managed) sort(s systemd.Socket) error {
	defer s.File.Close() // net.FileListener makes a copy
	l, _ := net.FileListener(s.File)
	listener, ok := l.(*net.UnixListener)
	var place **net.UnixListener
	switch {
	case ok && s.Name == keptName:
		place = &m.kept
	case ok && listener.Addr().Network() == "unix":
		place = &m.passed
	default:
		if l != nil {
			_ = l.Close()
		}
		m.log.Warn("closed what the service manager passed: it is no Unix stream socket that listens", "name", s.Name)
		return nil
	}
	if *place != nil {
		_ = listener.Close()
		if s.Name == keptName {
			return nil
		}
		return fmt.Errorf("the service manager passes sockets at %s and %s: a broker has one; give each a unit of its own", (*place).Addr(), listener.Addr())
	}
	*place = listener
	return nil
}

// listen is broker.Listen with the manager's socket, where there is one.
func (m *managed) listen(opts broker.Options) (*broker.Broker, error) {
	opts.Supervisor = m.supervisor(opts.Socket)
	if m.passed != nil {
		if m.kept != nil {
			m.forget()
		}
		opts.Listener, opts.KeepName, m.passed = m.passed, true, nil
		b, err := broker.Listen(opts)
		if errors.Is(err, broker.ErrReplaced) {
			err = fmt.Errorf("%w: have the service manager make its socket anew, with systemctl --user restart of the socket unit", err)
		}
		return b, err
	}
	m.keeps = m.manager != nil
	if m.kept != nil {
		opts.Listener, m.kept = m.kept, nil
		b, err := broker.Listen(opts)
		if err == nil {
			m.log.Info("goes on with the socket of the broker before")
			return b, nil
		}
		var listener *endpoint.ListenerError
		if !errors.Is(err, broker.ErrReplaced) && !errors.As(err, &listener) {
			return nil, err
		}
		m.log.Warn("the socket of the broker before leads nowhere; making a new one", "error", err)
		m.forget()
		opts.Listener = nil
	}
	b, err := broker.Listen(opts)
	if err != nil {
		return nil, err
	}
	m.note(m.manager.Keep(keptName, b.Listener()))
	return b, nil
}

// supervisor tells the manager how the broker fares.
func (m *managed) supervisor(socket string) broker.Supervisor {
	if m.manager == nil {
		return broker.Supervisor{}
	}
	return broker.Supervisor{
		Serving: func() { m.note(m.manager.Say("READY=1", "STATUS=serving "+socket)) },
		Succeeded: func(pid int) {
			m.keeps, m.succeeded = false, true
			m.note(m.manager.Say(fmt.Sprintf("MAINPID=%d", pid)))
		},
		Draining: func() {
			if m.succeeded { // it is the other one's to say
				return
			}
			m.note(m.manager.Say("STOPPING=1", "STATUS=draining: connections under way get their verdict"))
			if m.keeps { // its name is gone
				m.forget()
			}
		},
		Alive:      func() { m.note(m.manager.Say("WATCHDOG=1")) },
		AliveEvery: m.manager.Watchdog() / 2,
	}
}

// forget has the manager close the socket that it keeps.
func (m *managed) forget() {
	if m.kept != nil {
		_ = m.kept.Close()
		m.kept = nil
	}
	m.note(m.manager.Forget(keptName))
}

// note logs that the manager could not be told something. The broker serves all the same.
func (m *managed) note(err error) {
	if err != nil {
		m.log.Warn("service manager not told", "error", err)
	}
}

// close closes what was passed and is not used.
func (m *managed) close() {
	for _, l := range []*net.UnixListener{m.passed, m.kept} {
		if l != nil {
			_ = l.Close()
		}
	}
	_ = m.manager.Close()
}
