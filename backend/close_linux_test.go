package backend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// wantClosed fails the test unless Accept says at once that ln is closed.
func wantClosed(t *testing.T, ln *backend.Listener) {
	t.Helper()
	if c, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, %v", c, err)
	}
}

// TestAcceptAfterClose: what the Listener has when it is closed is accepted after that,
// and served; then Accept says that it is closed.
func TestAcceptAfterClose(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			a, b := dial(t, p, route), dial(t, p, route)
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := ln.Close(); err != nil {
					t.Errorf("Close again: %v", err)
				}
			}
			if err := ln.WaitRegistered(bounded(t)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("WaitRegistered after Close: %v", err)
			}
			send(t, a, "a")
			send(t, b, "b")
			for range 2 {
				s := accept(t, ln)
				got := make([]byte, 1)
				if _, err := s.Read(got); err != nil {
					t.Fatal(err)
				}
				send(t, s, string(got)+"!")
			}
			wantBytes(t, a, "a!")
			wantBytes(t, b, "b!")
			wantClosed(t, ln)
		})
	}
}

// TestCloseGivesWhatWaits: also connections that wait in the loop, for a place, or in
// the kernel's queue are accepted after Close.
func TestCloseGivesWhatWaits(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*backend.Options)
		open   func(t *testing.T, w session, ln *backend.Listener, id uint64) net.Conn
	}{
		"early bytes have not come": {nil, func(t *testing.T, w session, _ *backend.Listener, id uint64) net.Conn {
			l := newLoad(t)
			w.offer(t, offer(id, declared), l.conn, l.claimFD())
			w.offer(t, offer(0), l.conn) // which is answered: the other is waiting
			_ = w.ack(t)
			l.drop()
			return &behindFirst{l.client, preamble}
		}},
		"Inline waits for the first bytes": {answerPing, func(t *testing.T, w session, _ *backend.Listener, id uint64) net.Conn {
			l := newLoad(t)
			w.offer(t, offer(id), l.conn, l.claimFD())
			_ = w.ack(t)
			l.drop()
			return &behindFirst{l.client, preamble}
		}},
		"Inline waits, dialled": {answerPing, func(t *testing.T, _ session, ln *backend.Listener, _ uint64) net.Conn {
			return dialPipe(t, ln.Addr().String())
		}},
		"more than the queue takes": {func(o *backend.Options) { o.Backlog = 1 }, func(t *testing.T, _ session, ln *backend.Listener, _ uint64) net.Conn {
			return dialPipe(t, ln.Addr().String())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			backend.SetReplyTimeout(t, patience)
			p := newPlace(t)
			wires := fakeBroker(t, p)
			var change []func(*backend.Options)
			if c.change != nil {
				change = append(change, c.change)
			}
			ln := listen(t, p, change...)
			w := next(t, wires)
			const clients = 40
			var conns []net.Conn
			for id := range uint64(clients) {
				conns = append(conns, c.open(t, w, ln, id+1))
			}
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
			for i, c := range conns {
				send(t, c, fmt.Sprintf("%02d", i))
			}
			for range conns {
				s := accept(t, ln)
				got := make([]byte, 2)
				if _, err := s.Read(got); err != nil {
					t.Fatal(err)
				}
				send(t, s, "to "+string(got))
			}
			for i, c := range conns {
				wantBytes(t, c, fmt.Sprintf("to %02d", i))
			}
			wantClosed(t, ln)
		})
	}
}

// TestCloseEndsTheIdle: a connection that was answered inline and says nothing ends with
// the Listener, and is not accepted.
func TestCloseEndsTheIdle(t *testing.T) {
	testutil.Leaks(t)
	ln := listen(t, newPlace(t), answerPing)
	idle := dialPipe(t, ln.Addr().String())
	send(t, idle, "ping")
	wantBytes(t, idle, "pong")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, ln)
	wantEnd(t, idle)
}

// TestCloseBesideAccept: an Accept that waits when Close comes returns.
func TestCloseBesideAccept(t *testing.T) {
	testutil.Leaks(t)
	ln := listen(t, newPlace(t))
	var accepts sync.WaitGroup
	for range 4 {
		accepts.Go(func() { wantClosed(t, ln) })
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	accepts.Wait()
}

// TestNeverAccepted: what nobody accepts ends soon after Close, and is told.
func TestNeverAccepted(t *testing.T) {
	testutil.Leaks(t)
	log := new(lines)
	p, ln := registered(t, func(o *backend.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	a, b := dial(t, p), dial(t, p, reconnect)
	began := time.Now()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second/2 { // what nobody accepts has 2 s
		t.Errorf("Close took %v", took)
	}
	wantEnd(t, a)
	wantEnd(t, b)
	wantClosed(t, ln)
	testutil.WaitFor(t, "it is told", func() bool { return strings.Contains(log.String(), "connections=2") })
	if n := strings.Count(log.String(), "never accepted"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestCloseLeavesUnclaimed: an offer that is in the channel when the Listener closes is
// refused, or its claim is left to the broker.
func TestCloseLeavesUnclaimed(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	wires := fakeBroker(t, p)
	reading, hold := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(hold) })
	ln := listen(t, p, func(o *backend.Options) {
		o.Inline = func(answer, _ []byte) ([]byte, bool) { close(reading); <-hold; return answer, false }
	})
	t.Cleanup(goOn)
	w := next(t, wires)
	send(t, dialPipe(t, ln.Addr().String()), "x")
	<-reading
	l := newLoad(t)
	w.offer(t, offer(1), l.conn, l.claimFD())
	closed := make(chan error, 1)
	go func() { closed <- ln.Close() }()
	testutil.WaitFor(t, "Close has begun", func() bool { return ln.WaitRegistered(bounded(t)) != nil })
	goOn()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if won, err := l.claim.Take(); !won || err != nil {
		t.Errorf("the claim: %v, %v", won, err)
	}
	if n, _, err := unix.Recvfrom(l.conn, make([]byte, 1), unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the connection reads %d, %v", n, err)
	}
	_ = accept(t, ln).Close()
	wantClosed(t, ln)
}

// closing waits until Close has begun.
func closing(t *testing.T, ln *backend.Listener) {
	t.Helper()
	testutil.WaitFor(t, "the Listener closes", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return errors.Is(ln.WaitRegistered(ctx), net.ErrClosed)
	})
}

// TestSecondRequestAtClose: what a connection that was answered inline has sent when the
// Listener closes reaches the application.
func TestSecondRequestAtClose(t *testing.T) {
	testutil.Leaks(t)
	entered, goOn := make(chan struct{}), make(chan struct{})
	ln := listen(t, newPlace(t), func(o *backend.Options) {
		o.Inline = func(answer, request []byte) ([]byte, bool) {
			if bytes.HasPrefix(request, []byte("ping")) {
				entered <- struct{}{}
				<-goOn
				return append(answer, "pong"...), true
			}
			return answer, false
		}
	})
	other := dialPipe(t, ln.Addr().String())
	c := dialPipe(t, ln.Addr().String())
	send(t, c, "ping")
	<-entered // the loop is busy; other waits in its set
	closed := make(chan error)
	go func() { closed <- ln.Close() }()
	closing(t, ln)
	send(t, other, "ping")
	goOn <- struct{}{} // c's answer
	<-entered          // other's first request, in endWaits
	send(t, other, "else")
	goOn <- struct{}{}
	<-closed
	wantBytes(t, other, "pong")
	if s, err := ln.Accept(); err != nil {
		t.Errorf("the second request, sent and there before the listener dropped it, reaches nobody: %v", err)
	} else {
		wantBytes(t, s, "else")
	}
}

// TestRestOfAnswerAtClose: a request behind one whose inline answer is still being
// written when the Listener closes reaches the application.
func TestRestOfAnswerAtClose(t *testing.T) {
	testutil.Leaks(t)
	const big = 2 << 20
	ln := listen(t, newPlace(t), func(o *backend.Options) {
		o.Inline = func(answer, request []byte) ([]byte, bool) {
			return append(answer, make([]byte, big)...), bytes.HasPrefix(request, []byte("ping"))
		}
	})
	c := dialPipe(t, ln.Addr().String())
	send(t, c, "ping")
	if _, err := io.CopyN(io.Discard, c, 1); err != nil { // the loop has written what it could
		t.Fatal(err)
	}
	send(t, c, "else")
	closed := make(chan error)
	go func() { closed <- ln.Close() }()
	closing(t, ln)
	if _, err := io.CopyN(io.Discard, c, big-1); err != nil {
		t.Fatal(err)
	}
	<-closed
	wantBytes(t, accept(t, ln), "else")
}
