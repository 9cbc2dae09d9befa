package broker_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// patientSite is a site whose clients wait for backends.
func patientSite(t *testing.T) *site {
	return newSite(t, func(o *options) { o.BackendWait = patience })
}

// clientsWait returns once the broker says that n clients have waited.
func (s *site) clientsWait(n int) {
	s.tb.Helper()
	testutil.WaitFor(s.tb, "the clients wait", func() bool { return clientCounts(s.tb, s).Waited == n })
}

// TestClientWaitsForTheFirstBackend: clients that come to a new broker before its
// backends do are served as soon as those are there, with their early data unread.
func TestClientWaitsForTheFirstBackend(t *testing.T) {
	s := patientSite(t)
	one, two := s.dial(), s.dial()
	send(t, one, append(earlyHello(t), early...))
	send(t, two, helloFor(t, usherClient, nil))
	s.clientsWait(2)
	s.listen("2.0.0") // another version: they wait on
	if n, _ := s.Pending(); n < 2 {
		t.Fatalf("%d connections wait", n)
	}
	s.listen(demoVersion)
	readHandedOver(t, one)
	readExactly(t, one, early)
	readHandedOver(t, two)
	checkEcho(t, two)
	checkHandoffs(t, s, handoffCounts{Adopted: 2})
}

// TestClientWaitsForTheNextBackend: where a backend has just left, its clients wait for
// the next one.
func TestClientWaitsForTheNextBackend(t *testing.T) {
	s := patientSite(t)
	b := s.fake(demoVersion)
	s.Age()
	_ = b.ch.Close()
	testutil.WaitFor(t, "it has left", func() bool { return s.Backends() == 0 })
	before := clientCounts(t, s).Waited
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	s.clientsWait(before + 1)
	s.listen(demoVersion)
	readHandedOver(t, c)
	checkEcho(t, c)
}

// TestClientOfADyingBackendWaits: one whose Hello is read after its backend's process
// has ended, and before the broker has come to that, waits for the next one too.
func TestClientOfADyingBackendWaits(t *testing.T) {
	s := patientSite(t)
	s.Age()
	b := start(t, "adopter", envSocket+"="+s.Socket(), envPipe+"="+filepath.Join(s.dir, "adopter"), envMode+"=descriptors wait")
	testutil.WaitFor(t, "it has registered", func() bool { return s.Backends() == 1 })
	before := clientCounts(t, s).Waited
	release := s.HoldLoop()
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	_ = b.Process.Kill()
	_ = b.Wait()
	release()
	s.clientsWait(before + 1)
	s.listen(demoVersion)
	readHandedOver(t, c)
	checkEcho(t, c)
}

// TestWaitEnds: who waits in vain is refused at the end of its time, as who can't hope
// for a backend is at once; and when the broker drains.
func TestWaitEnds(t *testing.T) {
	s := newSite(t, func(o *options) { o.BackendWait = time.Second })
	s.write(demo+".toml", `binary_path = "/bin/true"`) // it is small, and soon read
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, notRegistered, "backend is not registered")
	s.settle()
	for range 3 {
		c = s.dial()
		send(t, c, helloFor(t, usherClient, nil))
		readRefusal(t, c, notRegistered, "backend is not registered")
	}
	if n := clientCounts(t, s).Waited; n != 1 {
		t.Errorf("%d clients waited", n)
	}

	drained := patientSite(t)
	c = drained.dial()
	send(t, c, helloFor(t, usherClient, nil))
	drained.clientsWait(1)
	drained.stop()
	readRefusal(t, c, wire.ErrorCode_ERROR_SHUTTING_DOWN, "")
	if err := drained.end(); err != nil {
		t.Error(err)
	}
}

// TestWaitIsBounded: a crowd of one service that waits leaves room for others.
func TestWaitIsBounded(t *testing.T) {
	s := newSite(t, func(o *options) { o.BackendWait, o.MaxHandshakes, o.MaxHandshakesPerPeer = patience, 32, 1000 })
	for range 8 {
		send(t, s.dial(), helloFor(t, usherClient, nil))
	}
	s.clientsWait(8)
	c, began := s.dial(), time.Now()
	send(t, c, helloFor(t, usherClient, nil))
	readRefusal(t, c, notRegistered, "")
	if took := time.Since(began); took > patience/2 {
		t.Errorf("one too many was refused after %v", took)
	}
	s.listen(demoVersion) // for those who wait
}
