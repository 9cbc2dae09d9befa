package broker_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestRegisterAndHangUp: processes that register and are gone before their answer,
// while clients come. The broker lives, every client has its verdict, and the next
// backend serves.
func TestRegisterAndHangUp(t *testing.T) {
	s := newSite(t, func(o *options) { o.HelloRate = 1 << 20 })
	request := bytesOf(t, frame.RegisterRequest(&wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("p"), ClaimPage: true,
	}))
	raw := helloFor(t, usherClient, nil)
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			for range 200 {
				c, err := net.Dial("unix", s.Socket())
				if err == nil {
					_, err = c.Write(request)
					_ = c.Close()
				}
				for range 3 { // clients come while that registration is judged
					if err == nil {
						err = ask(s.Socket(), raw)
					}
				}
				if err != nil {
					t.Errorf("no verdict: %v", err)
					return
				}
			}
		})
	}
	both.Wait()
	testutil.WaitFor(t, "none of them is left", func() bool { return s.Backends() == 0 })
	s.settle()
	s.listen(demoVersion)
	c := s.dial()
	send(t, c, raw)
	readHandedOver(t, c)
}

// ask sends a request on a connection of its own, and reads one frame.
func ask(socket string, request []byte) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(request); err != nil {
		return err
	}
	_, _, err = frame.Read(c, frame.MaxBody)
	return err
}

// TestEvictedAndGoneAtOnce: silent connections that are evicted and end by themselves
// in the same moment are counted once, so that the bound holds and draining does not
// wait for nobody.
func TestEvictedAndGoneAtOnce(t *testing.T) {
	s := newSite(t, func(o *options) { o.MaxHandshakes, o.MaxHandshakesPerPeer = 4, 1<<20 })
	for range 100 {
		var crowd []net.Conn
		for range 12 {
			c, err := net.Dial("unix", s.Socket())
			if err != nil {
				t.Fatal(err)
			}
			crowd = append(crowd, c)
		}
		for _, c := range crowd {
			_ = c.Close()
		}
	}
	testutil.WaitFor(t, "none is counted any more", func() bool {
		n, _ := s.Pending()
		return n == 0 && s.Handshakes() == 0
	})
	silent := []net.Conn{s.dial(), s.dial(), s.dial(), s.dial()}
	testutil.WaitFor(t, "the bound counts them", func() bool { n, _ := s.Pending(); return n == len(silent) })
	if got := s.Handshakes(); got != len(silent) {
		t.Errorf("%d handshakes are counted, %d are open", got, len(silent))
	}
	began := time.Now()
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("draining took %v", took)
	}
}

// TestServeEndsWithoutItsLoop: should the event loop fail, Serve ends all the same, and
// who is connected is told.
func TestServeEndsWithoutItsLoop(t *testing.T) {
	s := newSite(t, func(o *options) { o.AckDeadline = time.Minute })
	b := s.fake(demoVersion)
	silent, offered := s.dial(), s.dial()
	send(t, offered, helloFor(t, usherClient, nil))
	b.receive()
	testutil.WaitFor(t, "both are there", func() bool { n, _ := s.Pending(); return n == 2 })
	s.StopLoop()
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	readRefusal(t, silent, wire.ErrorCode_ERROR_SHUTTING_DOWN, "")
	readPipe(t, offered, b.pipe)
}
