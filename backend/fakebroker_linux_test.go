package backend_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/claim"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// answering listens on p's socket and gives every connection, with the frame
// that came on it, to answer, one after the other, until the test's end.
func answering(t testing.TB, p place, answer func(*net.UnixConn, *wire.Frame)) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	testutil.AcceptEach(t, ln, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(patience))
		if f, _, err := frame.Read(c, frame.MaxHelloBody); err == nil {
			answer(c.(*net.UnixConn), f)
		}
	})
}

// session is the near end of a channel, with its descriptor for messages that a
// sock.Channel would not send.
type session struct {
	*sock.Channel
	fd   int
	page *claim.Page // nil without one
}

// fakeBroker takes every backend in and yields the near ends of the channels. Claims
// are descriptors.
func fakeBroker(t testing.TB, p place) <-chan session {
	t.Helper()
	return takingIn(t, p, nil)
}

// takingIn is fakeBroker with a page of claims, and its descriptor, from newPage.
func takingIn(t testing.TB, p place, newPage func() (*claim.Page, *sock.FD, error)) <-chan session {
	t.Helper()
	wires := make(chan session, 16)
	t.Cleanup(func() { // after that of answering, behind which nobody sends any more
		close(wires)
		for w := range wires {
			w.end()
		}
	})
	answering(t, p, func(c *net.UnixConn, f *wire.Frame) {
		near, far, err := newWire(t)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = unix.Close(far) }()
		fds := []int{far}
		if newPage != nil {
			page, fd, err := newPage()
			switch {
			case err == nil:
				defer fd.Close()
				fds, near.page = append(fds, sock.Number(fd)), page
			case !testutil.Portable:
				t.Error(err)
				return
			}
		}
		reply(t, c, frame.Registered(f, &wire.Registered{Accepted: true, Channel: sock.ChannelKind, ClaimPage: near.page != nil}), fds...)
		wires <- near
	})
	return wires
}

// Send sends one message with fds, which it borrows.
func (w session) Send(msg []byte, fds ...int) error {
	_, err := testutil.SendFDs(w.fd, msg, fds...)
	return err
}

// end closes the broker's side.
func (w session) end() {
	_ = w.Close()
	if w.page != nil {
		w.page.Close()
	}
}

// onStream is that channels are streams here.
const onStream = sock.ChannelKind == wire.ChannelKind_CHANNEL_KIND_STREAM

func newWire(t testing.TB) (near session, far int, err error) {
	sotype := unix.SOCK_SEQPACKET
	if onStream {
		sotype = unix.SOCK_STREAM
	}
	fds := testutil.FDPair(t, sotype)
	ch := sock.NewChannel(sock.Own(fds[0]))
	_ = ch.SetDeadline(time.Now().Add(patience))
	return session{Channel: ch, fd: fds[0]}, fds[1], nil
}

// reply sends f with fds beside it. A backend that is being closed may be gone.
func reply(t testing.TB, c *net.UnixConn, f *wire.Frame, fds ...int) {
	t.Helper()
	_, err := testutil.SendFDs(testutil.FD(t, c), framed(t, f), fds...)
	if err != nil && !errors.Is(err, unix.EPIPE) {
		t.Error(err)
	}
}

func framed(t testing.TB, f *wire.Frame) []byte {
	t.Helper()
	b, err := frame.Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// next returns the channel that the backend takes at its next registration.
func next(t testing.TB, wires <-chan session) session {
	t.Helper()
	select {
	case w := <-wires:
		t.Cleanup(w.end)
		return w
	case <-time.After(patience):
		t.Fatal("the backend did not register")
		return session{}
	}
}

// behindFake is a backend with its channel in the hands of the test.
func behindFake(t testing.TB, change ...func(*backend.Options)) (*backend.Listener, session, <-chan session) {
	t.Helper()
	p := newPlace(t)
	wires := fakeBroker(t, p)
	ln := listen(t, p, change...)
	return ln, next(t, wires), wires
}

// ack reads the next answer, which must carry no descriptor.
func (w session) ack(t testing.TB) *wire.Ack {
	t.Helper()
	msg, err := w.Recv()
	if err != nil {
		t.Fatalf("no answer on the channel: %v", err)
	}
	defer msg.FDs.Close()
	f, err := msg.Frame()
	if err != nil || msg.FDs.Len() != 0 {
		t.Fatalf("answer with %d descriptors, %v", msg.FDs.Len(), err)
	}
	ack, err := frame.ParseChannelAck(f)
	if err != nil {
		t.Fatal(err)
	}
	return ack
}

const preamble = "preamble:"

var token = []byte("0123456789abcdef")

// offer is a good one, changed by change.
func offer(id uint64, change ...func(*wire.Offer)) *wire.Offer {
	o := &wire.Offer{Token: token, HandoffId: id, ConnectionId: id, Preamble: []byte(preamble)}
	for _, f := range change {
		f(o)
	}
	return o
}

// load is what travels beside an offer. The test owns both ends of the
// connection, and the claim.
type load struct {
	client *net.UnixConn
	conn   int
	claim  *claim.Claim
}

func newLoad(t testing.TB) *load {
	t.Helper()
	client, broker := testutil.SocketPair(t)
	_ = client.SetDeadline(time.Now().Add(patience))
	c, err := claim.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	fd, err := unix.FcntlInt(uintptr(testutil.FD(t, broker)), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = broker.Close()
	l := &load{client, fd, c}
	t.Cleanup(l.drop)
	return l
}

func (l *load) claimFD() int { return sock.Number(l.claim.Descriptor()) }

// drop closes the broker's copies, as after a verdict. It may be called again.
func (l *load) drop() {
	if l.conn >= 0 {
		_ = unix.Close(l.conn)
	}
	l.conn = -1
	l.claim.Close()
}

// works hands one good connection over and uses it.
func (w session) works(t testing.TB, ln *backend.Listener, id uint64) {
	t.Helper()
	l := newLoad(t)
	if err := w.Send(framed(t, frame.ChannelOffer(offer(id))), l.conn, l.claimFD()); err != nil {
		t.Fatal(err)
	}
	if ack := w.ack(t); !ack.Accepted || ack.HandoffId != id || string(ack.Token) != string(token) {
		t.Fatalf("answer to a good offer %d: %v", id, ack)
	}
	l.drop()
	c := accept(t, ln)
	wantBytes(t, l.client, preamble)
	testutil.CheckConnected(t, l.client, c)
	if !c.HandedOver() {
		t.Error("not known as handed over")
	}
	_ = c.Close()
	wantEnd(t, l.client)
}

// alive reports whether the backend still has its end.
func (w session) alive(t testing.TB) bool {
	t.Helper()
	l := newLoad(t)
	err := w.Send(framed(t, frame.ChannelOffer(offer(9, func(o *wire.Offer) { o.Token = nil }))), l.conn, l.claimFD())
	if err != nil {
		return false
	}
	msg, err := w.Recv()
	msg.FDs.Close()
	return err == nil
}

// inPage makes a claim in the page, and an offer that names it.
func (w session) inPage(t testing.TB, id uint64) (*claim.Claim, *wire.Offer) {
	t.Helper()
	c, err := w.page.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	word, generation, _ := c.InPage()
	return c, offer(id, func(o *wire.Offer) { o.ClaimWord, o.ClaimGeneration = word, generation })
}

func (w session) offer(t testing.TB, o *wire.Offer, fds ...int) {
	t.Helper()
	if err := w.Send(framed(t, frame.ChannelOffer(o)), fds...); err != nil {
		t.Fatal(err)
	}
}
