package broker

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/loop"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// offloaded is a served broker with one connection that waits for a job.
type offloaded struct {
	*Broker
	client  net.Conn
	release func()     // lets the job return
	second  bool       // another job could begin meanwhile
	resumed chan bool  // the job's result came back to the connection
	dropped chan bool  // it found the connection closed
	end     func()     // Serve's context
	ended   chan error // Serve's result
}

func offloadOne(t *testing.T, readsFiles bool) *offloaded {
	t.Helper()
	testutil.Leaks(t)
	dir := testutil.SocketDir(t)
	b, err := Listen(Options{Socket: filepath.Join(dir, "b.sock"), DefinitionDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	o := &offloaded{Broker: b, end: end, ended: make(chan error, 1), resumed: make(chan bool, 1), dropped: make(chan bool, 1)}
	go func() { o.ended <- b.Serve(ctx) }()
	if o.client, err = net.Dial("unix", b.Socket()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.client.Close() })
	testutil.WaitFor(t, "it is accepted", func() bool { n, _ := b.Pending(); return n == 1 })
	released := make(chan struct{})
	o.release = func() { close(released) }
	o.second = ask(b, func(s *server) bool {
		c := s.conns.oldest
		c.stopReading()
		c.enter(phaseResolving, c.deadline)
		begin := func() bool {
			return offload(c, readsFiles, func(context.Context) bool { <-released; return true },
				func(bool) { o.resumed <- true; c.refuseAndClose(nil, hello.ServiceNotFound()) },
				func(bool) { o.dropped <- true })
		}
		return !begin() || begin()
	})
	return o
}

// check judges how the connection ended: with a verdict, its descriptor closed, and
// counted nowhere any more.
func (o *offloaded) check(t *testing.T, code wire.ErrorCode) {
	t.Helper()
	if err := <-o.ended; err != nil {
		t.Error(err)
	}
	_ = o.client.SetDeadline(time.Now().Add(10 * time.Second))
	reply, err := io.ReadAll(o.client)
	if err != nil || len(reply) == 0 {
		t.Errorf("the client read %q, %v", reply, err)
	}
	s := o.server
	if s.conns.open != 0 || s.admission.all != 0 || s.counters.refused[code.String()] != 1 {
		t.Errorf("%d open, %d admitted, refused %v", s.conns.open, s.admission.all, s.counters.refused)
	}
	if o.second {
		t.Error("gone to two jobs at once")
	}
}

// TestBackToAnEndedLoop: a connection whose job returns when the event loop has ended
// has its verdict all the same.
func TestBackToAnEndedLoop(t *testing.T) {
	o := offloadOne(t, false)
	o.StopLoop()
	o.end()
	o.release()
	o.check(t, wire.ErrorCode_ERROR_SERVICE_UNKNOWN)
	if len(o.resumed) != 1 || len(o.dropped) != 0 {
		t.Errorf("resumed %d times, dropped %d times", len(o.resumed), len(o.dropped))
	}
}

// TestJobOfALateResult: what comes back behind the loop's end may begin a job, which is waited for
// like any other.
func TestJobOfALateResult(t *testing.T) {
	testutil.Leaks(t)
	l, err := loop.New(func(time.Time) (none time.Time) { return none }, func() {})
	if err != nil {
		t.Fatal(err)
	}
	l.Stop()
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 100 {
		j := newJobs(l)
		var ended atomic.Bool
		j.wg.Go(func() {
			j.post(func() {
				for range 100 { // time enough for who has brought it to be gone
					runtime.Gosched()
				}
				j.wg.Go(func() { runtime.Gosched(); ended.Store(true) })
			})
		})
		j.finish(func() {})
		if !ended.Load() {
			t.Fatal("it is not waited for")
		}
	}
}

// TestBackToNobody: one whose job returns when Serve has ended was closed with a verdict
// before, and what the job brings is dropped.
func TestBackToNobody(t *testing.T) {
	o := offloadOne(t, true)
	ask(o.Broker, func(s *server) bool { s.opts.DrainTimeout = time.Millisecond; return true })
	o.end()
	o.check(t, wire.ErrorCode_ERROR_SHUTTING_DOWN)
	o.release()
	<-o.dropped
	if len(o.resumed) != 0 {
		t.Error("resumed")
	}
}

// TestPhases: what follows what, and that nothing follows the end.
func TestPhases(t *testing.T) {
	if len(follows) != int(phaseClosed)+1 || len(follows[phaseClosed]) != 0 {
		t.Fatalf("%v", follows)
	}
	for p, next := range follows[:phaseClosed] {
		closes := false
		for _, n := range next {
			closes = closes || n == phaseClosed
		}
		if !closes {
			t.Errorf("a connection in phase %d can't be closed", p)
		}
	}
	o := offloadOne(t, false)
	ask(o.Broker, func(s *server) bool {
		c := s.conns.oldest
		c.enter(phaseReading, time.Time{})
		if c.phase != phaseResolving || c.deadline.IsZero() {
			t.Errorf("in phase %d", c.phase)
		}
		return true
	})
	o.release()
	o.end()
	o.check(t, wire.ErrorCode_ERROR_SERVICE_UNKNOWN)
}
