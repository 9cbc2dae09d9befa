package backend

import (
	"context"
	"time"

	"github.com/seed-7265657e/usher/internal/loglimit"
)

// acceptGrace is how long what was claimed waits for Accept after Close. A server's
// Accept loop takes it at once; one that has ended never will.
const acceptGrace = 2 * time.Second

// Close stops listening. It leaves the broker, so that nothing more is handed over, and
// removes the pipe, so that nobody more can dial it; what has been claimed, and
// what waits in the kernel's queue of the pipe, stays available to Accept, which returns
// it and then net.ErrClosed. What nobody accepts within two seconds is closed, with a
// line in the log. Connections that were answered inline and say nothing are closed.
//
// Close does not wait for the application, but for an inline answer that is being
// written, for a second at most. Accepted connections live on. It may be called again.
func (l *Listener) Close() error {
	l.closed.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Listener) close() error {
	l.cancel()
	l.loop.Post(l.endWaits)
	l.loop.Stop()
	<-l.loopDone
	l.tellLeft()
	l.wg.Wait()
	err := l.unbind()
	l.loop.Close()
	l.queue.end(acceptGrace, l.abandon)
	if lines, limited := l.opts.Logger.Handler().(*loglimit.Handler); limited {
		lines.Flush(context.Background())
	}
	return err
}

// Done is closed when the Listener closes: by Close, or because its broker lets an idle
// backend go.
func (l *Listener) Done() <-chan struct{} { return l.ctx.Done() }

// abandon closes what nobody has accepted.
func (l *Listener) abandon(conns []*Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
	l.opts.Logger.Warn("closed connections that the application never accepted, and so never read", "connections", len(conns))
}

// endWaits gives everything that waits in the loop to Accept, but for connections that
// were answered and idle. Those whose ACK is pending come before the end of the channel, on
// which it may have to travel.
func (l *Listener) endWaits() {
	l.closing = true
	l.resumeWaits()
	l.tellActive()
	l.leave()
	for s := range l.channels {
		if s.brokerChannel == l.letGoBy {
			l.keepChannel(s)
		} else {
			l.endChannel(s)
		}
	}
	l.closeV1()
	l.emptyPipe()
	l.closePipe()
	for _, r := range l.replies {
		_ = r.conn.sock.Flush()
	}
	l.replies = nil
}

// resumeWaits has every waiting connection go on. None waits again.
func (l *Listener) resumeWaits() {
	for conn, p := range l.waiting {
		l.endWait(conn)
		p.then(conn)
	}
}

// endChannel takes in what came before the channel's end, and leaves its claims alone:
// the broker gives those connections to somebody else.
func (l *Listener) endChannel(s *served) {
	s.End() // what it reads now ends
	for l.channels[s] {
		l.receive(s)
	}
}
