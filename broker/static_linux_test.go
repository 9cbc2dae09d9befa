package broker_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/identity"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// v1Backend is a backend that knows nothing of usher: it answers identity probes
// on its pipe, and takes connections on its handoff endpoint.
type v1Backend struct {
	tb             testing.TB
	pipe, endpoint string
	handoffs       *net.UnixListener
}

// newV1 serves probes until the test's end. lie changes what they answer.
func newV1(tb testing.TB, dir string, lie func(*wire.DaemonProcess)) *v1Backend {
	tb.Helper()
	b := &v1Backend{tb: tb, pipe: filepath.Join(dir, "v1"), endpoint: filepath.Join(dir, "v1h")}
	listen := func(path string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = l.Close() })
		return l
	}
	probes := listen(b.pipe)
	b.handoffs = listen(b.endpoint)
	go func() {
		for {
			c, err := probes.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			answerProbe(c, b.pipe, lie)
			_ = c.Close()
		}
	}()
	return b
}

func answerProbe(c net.Conn, pipe string, lie func(*wire.DaemonProcess)) {
	f, _, err := frame.Read(c, frame.MaxBody)
	if err != nil {
		return
	}
	self, legacy, err := identity.Self("shared", pipe)
	if err != nil {
		return
	}
	if lie != nil {
		lie(self)
	}
	if reply, err := identity.AnswerProbe(f, self, legacy); err == nil {
		_, _ = frame.Write(c, reply)
	}
}

// v1Offer is one connection as the handoff endpoint got it.
type v1Offer struct {
	token  []byte
	client *net.UnixConn
	broker *net.UnixConn
	offer  *wire.HandoffOffer
}

// receive accepts one handoff: 16 bytes with a descriptor, then the offer.
func (b *v1Backend) receive() *v1Offer {
	b.tb.Helper()
	_ = b.handoffs.SetDeadline(time.Now().Add(patience))
	c, err := b.handoffs.AcceptUnix()
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	o := &v1Offer{token: make([]byte, 16), broker: c}
	control := make([]byte, 256)
	n, cn, _, _, err := c.ReadMsgUnix(o.token, control)
	if err != nil || n != 16 {
		b.tb.Fatal(n, err)
	}
	o.client = connOf(b.tb, control[:cn])
	if o.offer, err = frame.ParseHandoffOffer(readFrame(b.tb, c)); err != nil {
		b.tb.Fatal(err)
	}
	if string(o.offer.Token) != string(o.token) || o.offer.ServiceName != demo {
		b.tb.Fatalf("offer %v", o.offer)
	}
	return o
}

func (o *v1Offer) ack(tb testing.TB, detail string) {
	tb.Helper()
	send(tb, o.broker, bytesOf(tb, frame.HandoffAck(&wire.HandoffAck{
		Token: o.token, Accepted: detail == "", ErrorDetail: detail, CorrelationId: o.offer.CorrelationId,
	})))
}

// staticSite is a broker with one static backend, which it has found.
func staticSite(t *testing.T, endpoint bool) (*site, *v1Backend) {
	t.Helper()
	testutil.Leaks(t)
	b := newV1(t, testutil.SocketDir(t), nil)
	s := newSite(t, func(o *options) {
		static := broker.StaticBackend{Service: demo, Version: demoVersion, Pipe: b.pipe}
		if endpoint {
			static.HandoffEndpoint = b.endpoint
		}
		o.Static = []broker.StaticBackend{static}
		o.AckDeadline = 100 * time.Millisecond
	})
	testutil.WaitFor(t, "the static backend is found", func() bool { return s.Backends() == 1 })
	return s, b
}

// TestStaticHandoff: the exchange of v1. The client has its token first, and the
// broker writes the ready event after the ACK.
func TestStaticHandoff(t *testing.T) {
	s, b := staticSite(t, true)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	g := readGrant(t, c)
	o := b.receive()
	if string(g.HandlePassedToken) != string(o.token) || g.ConnectionId != o.offer.CorrelationId || g.BackendPipe != b.pipe {
		t.Errorf("granted %v, offered %v", g, o.offer)
	}
	o.ack(t, "")
	if err := frame.ParseHandoffReady(readFrame(t, c), g.HandlePassedToken); err != nil {
		t.Fatal(err)
	}
	s.settle()
	testutil.CheckConnected(t, c, o.client)
	testutil.CheckConnected(t, o.client, c)
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
}

// TestStaticRejects: after a refusal the broker still owns the connection, and
// closes it: the client has its token and reconnects by itself.
func TestStaticRejects(t *testing.T) {
	s, b := staticSite(t, true)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readGrant(t, c)
	o := b.receive()
	_ = o.client.Close()
	o.ack(t, "handoff token expired")
	readEnd(t, c)
	checkHandoffs(t, s, handoffCounts{NotTaken: 1, Fallbacks: nacked(1)})
}

// TestStaticSaysNothing: without a claim a lost ACK is unknown. The broker says
// nothing more on the connection, and the client downgrades.
func TestStaticSaysNothing(t *testing.T) {
	for name, fail := range map[string]func(*v1Offer){
		"no answer":             func(*v1Offer) {},
		"hangs up":              func(o *v1Offer) { _ = o.broker.Close() },
		"another token":         func(o *v1Offer) { o.token[0]++; o.ack(t, "") },
		"rejects another token": func(o *v1Offer) { o.token[0]++; o.ack(t, "no") },
	} {
		t.Run(name, func(t *testing.T) {
			s, b := staticSite(t, true)
			c := s.dial()
			send(t, c, helloFor(t, usherClient, nil))
			readGrant(t, c)
			o := b.receive()
			fail(o)
			checkUnknown(t, s)
			_ = o.client.Close()
			readEnd(t, c) // no ready event has come
		})
	}
}

func checkUnknown(t *testing.T, s *site) {
	t.Helper()
	testutil.WaitFor(t, "the handoff is over", func() bool { return readStatus(t, s).Handoffs.Unknown == 1 })
	checkHandoffs(t, s, handoffCounts{Unknown: 1, Fallbacks: noAnswer(1)})
}

// TestStockClientOfAFrozenV1Backend: the reply of a stock v1 client is there before anything
// is asked of the backend, and the broker gives up with it, after 2 s.
func TestStockClientOfAFrozenV1Backend(t *testing.T) {
	testutil.Leaks(t)
	b := newV1(t, testutil.SocketDir(t), nil)
	s := newSite(t, func(o *options) {
		o.Static = []broker.StaticBackend{{Service: demo, Version: demoVersion, Pipe: b.pipe, HandoffEndpoint: b.endpoint}}
	})
	s.define(demo, `labels = {"handoff.enabled" = "true"}`)
	testutil.WaitFor(t, "the static backend is found", func() bool { return s.Backends() == 1 })
	began := time.Now()
	c := s.dial()
	send(t, c, helloFor(t, v1Client, nil))
	g := readGrant(t, c)
	if len(g.HandlePassedToken) == 0 || g.BackendPipe != b.pipe || readStatus(t, s).Handoffs.Unknown > 0 {
		t.Errorf("granted %v, %+v", g, readStatus(t, s).Handoffs)
	}
	o := b.receive() // and it does nothing more
	checkUnknown(t, s)
	if took := time.Since(began); took < 2*time.Second || took > 4*time.Second { // before usher's clients would, on a busy machine too
		t.Errorf("the broker gave up after %v", took)
	}
	_ = o.client.Close()
	readEnd(t, c) // the broker holds it no longer
}

// TestStaticWithoutEndpoint: its clients reconnect, and so do those of a backend
// whose endpoint nobody serves.
func TestStaticWithoutEndpoint(t *testing.T) {
	s, b := staticSite(t, false)
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readSentAway(t, c, b.pipe)
	checkHandoffs(t, s, handoffCounts{})
}

// TestStaticEndpointDead: the token is out already, so the connection ends and
// the client reconnects.
func TestStaticEndpointDead(t *testing.T) {
	s, b := staticSite(t, true)
	_ = b.handoffs.Close()
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readGrant(t, c)
	readEnd(t, c)
	checkHandoffs(t, s, handoffCounts{NotTaken: 1, Fallbacks: []fallbackCount{
		{string(handoff.StageTransfer), string(handoff.BackendAckTimeout), 1},
	}})
}

// TestStaticEarlyData: a backend without a claim gets no connection with early
// data, because nothing could prove that it was not read.
func TestStaticEarlyData(t *testing.T) {
	s, b := staticSite(t, true)
	c := s.dial()
	send(t, c, append(earlyHello(t), early...))
	readSentAway(t, c, b.pipe)
	checkHandoffs(t, s, handoffCounts{})
}

// TestStaticLiar: an endpoint that claims to be another process, or to run
// something else, is nobody's backend.
func TestStaticLiar(t *testing.T) {
	for name, lie := range map[string]func(*wire.DaemonProcess){
		"pid":        func(p *wire.DaemonProcess) { p.Pid = 1 },
		"executable": func(p *wire.DaemonProcess) { p.ExeHash[0]++ },
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			asked := make(chan struct{}, 100)
			b := newV1(t, testutil.SocketDir(t), func(p *wire.DaemonProcess) { lie(p); asked <- struct{}{} })
			s := newSite(t, func(o *options) {
				o.Static = []broker.StaticBackend{{Service: demo, Version: demoVersion, Pipe: b.pipe}}
			})
			<-asked
			<-asked // the first answer has been judged
			s.checkRefused(notRegistered, "backend is not registered")
		})
	}
}

// connOf makes a connection of the one descriptor in a control message.
func connOf(tb testing.TB, control []byte) *net.UnixConn {
	tb.Helper()
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		tb.Fatalf("control messages %v, %v", messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		tb.Fatalf("descriptors %v, %v", fds, err)
	}
	return fileConn(tb, sock.Own(fds[0]))
}

// fileConn makes a connection of fd, which it owns, until the test's end.
func fileConn(tb testing.TB, fd *sock.FD) *net.UnixConn {
	tb.Helper()
	file, err := fd.File("client")
	if err != nil {
		tb.Fatal(err)
	}
	c, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.UnixConn)
}
