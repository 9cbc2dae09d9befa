package broker_test

import (
	"encoding/binary"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestUnknownMessages: what a backend says beside answers is ignored and counted, also
// after its channel has ended, and the channel goes on.
func TestUnknownMessages(t *testing.T) {
	s := newSite(t, nil)
	b := s.fake(demoVersion)
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := sock.Own(null)
	defer fd.Close()
	before := nulls(t)
	unknown := bytesOf(t, frame.Event(0xF0AB, 1, []byte("idle")))
	for n := range 3 {
		if err := b.ch.Send(unknown, []sock.Lender{fd, fd}[:n]...); err != nil {
			t.Fatal(err)
		}
	}
	b.raw(bytesOf(t, frame.ChannelOffer(&wire.Offer{HandoffId: 1})))
	counted := func() bool { return readStatus(t, s).Handoffs.UnknownMessages == 4 }
	testutil.WaitFor(t, "all are counted", counted)
	testutil.WaitFor(t, "their descriptors are closed", func() bool { return nulls(t) == before })

	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	served := b.adopt(o)
	b.ack(o, nil)
	readHandedOver(t, c)
	testutil.CheckConnected(t, c, served)
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
	_ = b.ch.Close()
	testutil.WaitFor(t, "the backend has left", func() bool { return s.Backends() == 0 })
	if !counted() {
		t.Error("the count ended with the channel")
	}
}

// nulls counts the descriptors of this process that lead to the null device.
func nulls(t *testing.T) (n int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + d.Name()); to == os.DevNull {
			n++
		}
	}
	return n
}

// TestBackendFromBefore is a backend that was built before capabilities, byte for byte.
func TestBackendFromBefore(t *testing.T) {
	s := newSite(t, nil)
	pipe := s.pipe("before")
	old := []byte{0x0a, byte(len(demo))} // 1 service_name
	old = append(old, demo...)
	old = append(old, 0x12, byte(len(demoVersion))) // 2 service_version
	old = append(old, demoVersion...)
	old = append(old, 0x1a, byte(len(pipe))) // 3 backend_pipe
	old = append(old, pipe...)
	answer, ch := exchange(t, s, frame.Request(frame.Register, 1, old))
	if !answer.Accepted || answer.Capabilities&frame.CapUnknownMessages == 0 {
		t.Fatalf("answer %v", answer)
	}
	b := &fake{tb: t, ch: ch, pipe: pipe}
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	o := b.receive()
	served := b.adopt(o)
	ack := append([]byte{0x0a, 16}, o.Token...)                          // 1 token
	ack = binary.AppendUvarint(append(ack, 0x10), o.HandoffId)           // 2 handoff_id
	ack = append(ack, 0x18, 1)                                           // 3 accepted
	body := binary.AppendUvarint([]byte{0x08, 1, 0x10, 1, 0x18}, 0xF001) // envelope, kind, protocol
	body = append(append(body, 0x22, byte(len(ack))), ack...)
	body = binary.AppendUvarint(append(body, 0x28), o.HandoffId) // 5 request_id
	b.raw(append(binary.LittleEndian.AppendUint32([]byte{1}, uint32(len(body))), body...))
	readHandedOver(t, c)
	testutil.CheckConnected(t, c, served)
	checkHandoffs(t, s, handoffCounts{Adopted: 1})
}

// TestUnknownCapabilities: bits and fields that the broker does not know mean nothing.
func TestUnknownCapabilities(t *testing.T) {
	s := newSite(t, nil)
	request := wire.Marshal(&wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: s.pipe("later"), Capabilities: ^uint64(0),
	})
	request = append(request, 0xba, 0x06, 1, 'x') // field 103
	if answer, _ := exchange(t, s, frame.Request(frame.Register, 1, request)); !answer.Accepted {
		t.Errorf("answer %v", answer)
	}
}

// exchange registers with the bytes of f, and must be accepted.
func exchange(t *testing.T, s *site, f *wire.Frame) (*wire.Registered, *sock.Channel) {
	t.Helper()
	c, err := sock.Dial(s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, bytesOf(t, f))
	msg, err := sock.ReceiveFramed(c)
	if err != nil {
		t.Fatal(err)
	}
	defer msg.FDs.Close()
	answer, err := msg.Frame()
	if err != nil {
		t.Fatal(err)
	}
	registered, err := frame.ParseRegistered(answer)
	if err != nil || msg.FDs.Len() != 1 {
		t.Fatalf("%v, %d descriptors, %v", registered, msg.FDs.Len(), err)
	}
	ch := sock.NewChannel(msg.FDs.Take(0))
	s.later = append(s.later, func() { _ = ch.Close() })
	return registered, ch
}
