package v1

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/handoff"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/transport"
	"github.com/seed-7265657e/usher/internal/wire"
	"github.com/seed-7265657e/usher/test/windows/fixture"
)

// stockBroker is what a stock broker does with a Go backend: this process has clients'
// connections, and gives them away.
type stockBroker struct {
	t     *testing.T
	lines *fixture.Process
	way   transport.V1
	from  *sock.Listener
	name  string
}

func newStockBroker(t *testing.T, lines *fixture.Process, endpoint string) *stockBroker {
	t.Helper()
	b := &stockBroker{t: t, lines: lines, way: transport.V1{Endpoint: endpoint, PID: lines.PID()}, name: fixture.PipeName()}
	var err error
	if b.from, err = sock.Listen(b.name, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.from.Close() })
	return b
}

// connection is one of a client, and its serving end.
func (b *stockBroker) connection() (client, served *sock.Conn) {
	b.t.Helper()
	client, err := sock.Dial(b.name)
	if err != nil {
		b.t.Fatal(err)
	}
	if served, err = accept(b.from); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _, _ = client.Close(), served.Close() })
	return client, served
}

// handOver makes a whole exchange, and a conversation.
func (b *stockBroker) handOver(request string) {
	b.t.Helper()
	client, served := b.connection()
	raw, err := served.SyscallConn()
	if err != nil {
		b.t.Fatal(err)
	}
	r := b.way.Exchange(b.t.Context(), handoff.Token{7}, handoff.Offer{Service: fixture.Service, ConnectionID: 3}, raw, fixture.Patience)
	if r.Err != nil || !r.Ack.Accepted {
		b.t.Fatalf("%+v", r)
	}
	_ = served.Close()
	b.converse(client, request)
	_ = client.Close()
}

// converse asks the backend, which has the connection.
func (b *stockBroker) converse(c *sock.Conn, request string) {
	b.t.Helper()
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		b.t.Fatal(err)
	}
	if answer, err := fixture.ReadLine(c); answer != fixture.Answer(request, b.lines.PID(), true) {
		b.t.Fatalf("answered %q, %v", answer, err)
	}
}

// dial is a connection to the backend's endpoint.
func (b *stockBroker) dial() *sock.Conn {
	b.t.Helper()
	var c *sock.Conn
	testutil.WaitFor(b.t, "the endpoint has room", func() (done bool) {
		var err error
		c, err = sock.Dial(b.way.Endpoint)
		return err == nil
	})
	_ = c.SetDeadline(time.Now().Add(fixture.Patience))
	return c
}

// offer says what is wanted, and returns the backend's answer.
func (b *stockBroker) offer(c *sock.Conn, handle uint64, token []byte) *wire.HandoffAck {
	b.t.Helper()
	offered := &wire.HandoffOffer{HandleValue: handle, Token: token, ServiceName: fixture.Service, CorrelationId: 9}
	if _, err := frame.Write(c, frame.HandoffOffer(offered)); err != nil {
		b.t.Fatal(err)
	}
	f, _, err := frame.Read(c, frame.MaxHelloBody)
	if err != nil {
		b.t.Fatal(err)
	}
	ack := new(wire.HandoffAck)
	if err := frame.Unmarshal(f.Payload, ack); err != nil || ack.CorrelationId != 9 || string(ack.Token) != string(token) {
		b.t.Fatalf("%v, %v", ack, err)
	}
	return ack
}

var token = []byte("0123456789abcdef")

// TestV1StockBroker hands over to a Go backend.
func TestV1StockBroker(t *testing.T) {
	r, lines := v1Backend(t, role{})
	b := newStockBroker(t, lines, r.Endpoint)
	for i := range 20 {
		b.handOver(fmt.Sprint("request", i))
	}
	const rounds = 60
	settles(t, lines, rounds, func() {
		for range rounds {
			b.handOver("again")
		}
	})
	for want, token := range map[string][]byte{
		"handoff token is missing":                       nil,
		"handoff token length was 15 bytes; expected 16": token[:15],
		"handoff token length was 17 bytes; expected 16": append(token[:16:16], 0),
	} {
		given, served := b.connection()
		c := b.dial()
		there := b.give(c, served)
		_ = served.Close()
		if ack := b.offer(c, there, token); ack.Accepted || ack.ErrorDetail != want {
			t.Errorf("answered %v, not %q", ack, want)
		}
		_ = given.SetDeadline(time.Now().Add(fixture.Patience))
		if n, err := given.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("rejected, and not closed: %d, %v", n, err)
		}
		_ = c.Close()
	}
	b.handOver("last")
}

// TestV1ReadyByOthers: the reference writes its ready event by a call that fails once the file
// behind the pipe is bound to a completion port, which the backend leaves until the client has
// spoken.
func TestV1ReadyByOthers(t *testing.T) {
	r, lines := v1Backend(t, role{})
	b := newStockBroker(t, lines, r.Endpoint)
	client, served := b.connection()
	c := b.dial()
	if ack := b.offer(c, b.give(c, served), token); !ack.Accepted {
		t.Fatal(ack)
	}
	_ = c.Close()
	for range 3 { // the backend has had time to do what it should not
		other, err := sock.Dial(r.Pipe)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(other, "other\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := fixture.ReadLine(other); answer != fixture.Answer("other", lines.PID(), false) {
			t.Fatalf("%q, %v", answer, err)
		}
		_ = other.Close()
	}
	if err := writeExtended(served, "ready\n"); err != nil {
		t.Errorf("the event can't be written: %v", err)
	}
	_ = served.Close()
	if got, err := fixture.ReadLine(client); got != "ready" {
		t.Errorf("the client got %q, %v", got, err)
	}
	b.converse(client, "first")
	b.converse(client, "second")
}

var (
	kernel32    = windows.NewLazySystemDLL("kernel32.dll")
	writeFileEx = kernel32.NewProc("WriteFileEx")
	written     = make(chan uintptr, 1)
	noteWritten = windows.NewCallback(func(code, _ uintptr, _ *windows.Overlapped) uintptr {
		written <- code
		return 0
	})
)

// writeExtended writes as the reference does: the end is told by a procedure call.
func writeExtended(c *sock.Conn, text string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, _ := sock.Borrow(c)
	defer sock.Return(c)
	var call windows.Overlapped
	if ok, _, err := writeFileEx.Call(uintptr(fd), uintptr(unsafe.Pointer(unsafe.StringData(text))), uintptr(len(text)), uintptr(unsafe.Pointer(&call)), noteWritten); ok == 0 {
		return err
	}
	for {
		windows.SleepEx(10, true)
		select {
		case code := <-written:
			if code != 0 {
				return syscall.Errno(code)
			}
			return nil
		default:
		}
	}
}

// give duplicates a connection into the backend.
func (b *stockBroker) give(c, served *sock.Conn) uint64 {
	b.t.Helper()
	raw, err := served.SyscallConn()
	if err != nil {
		b.t.Fatal(err)
	}
	given, err := sock.Transfer(c, b.way.PID, nil, raw)
	if err != nil {
		b.t.Fatal(err)
	}
	given.Close()
	return given.Handle
}

// TestV1FaultyOffers get no answer, and their connection ends (spec 02 §8).
func TestV1FaultyOffers(t *testing.T) {
	var vectors struct {
		Offers []struct {
			Name string
			Wire string `json:"wire_hex"`
		} `json:"handoff_offer_frames"`
	}
	testutil.Vectors(t, "invalid.json", &vectors)
	if len(vectors.Offers) == 0 {
		t.Fatal("no vectors")
	}
	r, lines := v1Backend(t, role{})
	b := newStockBroker(t, lines, r.Endpoint)
	for _, v := range vectors.Offers {
		c := b.dial()
		if _, err := c.Write(testutil.Hex(t, v.Wire)); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); len(answer) > 0 || err != nil {
			t.Errorf("%s: answered %x, %v", v.Name, answer, err)
		}
		_ = c.Close()
	}
	b.handOver("last")
}

// TestV1NamesAnything: whatever number is offered, the backend neither takes nor closes what it
// has: its pipe, its channel to usher's broker, connections of clients on both ways.
func TestV1NamesAnything(t *testing.T) {
	fixture.Surroundings(t)
	fixture.Broker(t)
	_, endpoint := v1Names(t)
	lines := fixture.Start(t, "backend", role{Endpoint: endpoint})
	lines.Until("registered")
	_, byChannel, err := ask(client.Options{}, "first", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = byChannel.Close() }()
	_, dialled, err := ask(client.Options{NoHandoff: true}, "first", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dialled.Close() }()
	b := newStockBroker(t, lines, endpoint)
	own, served := b.connection()
	c := b.dial()
	there := b.give(c, served)
	if ack := b.offer(c, there, token); !ack.Accepted {
		t.Fatal(ack)
	}
	_, _ = c.Close(), served.Close()

	const most, step = 2 << 10, 4 // handles are numbered so
	if has := lines.Handles(); has > most/step/2 {
		t.Fatalf("the backend has %d handles", has)
	}
	for number := uint64(0); number < most; number += step {
		c := b.dial()
		if ack := b.offer(c, number, token); ack.Accepted {
			t.Errorf("%#x was taken", number)
		}
		_ = c.Close()
	}
	for _, number := range []uint64{^uint64(0), ^uint64(1), there + 1, there + 3, 1 << 31, 1<<32 + there, 1<<63 + there} {
		c := b.dial()
		if ack := b.offer(c, number, token); ack.Accepted || !strings.Contains(ack.ErrorDetail, "is no handle") {
			t.Errorf("%#x: %v", number, ack)
		}
		_ = c.Close()
	}
	foreign := b.foreign()
	c = b.dial()
	if ack := b.offer(c, foreign, token); ack.Accepted || !strings.Contains(ack.ErrorDetail, "offered by process") {
		t.Errorf("another's connection: %v", ack)
	}
	_ = c.Close()

	b.converse(own, "second")
	for c, handedOver := range map[*client.Conn]bool{byChannel: true, dialled: false} {
		if _, err := io.WriteString(c, "second\n"); err != nil {
			t.Error(err)
		}
		if answer, err := fixture.ReadLine(c); answer != fixture.Answer("second", lines.PID(), handedOver) {
			t.Errorf("%q, %v", answer, err)
		}
	}
	for _, o := range []client.Options{{}, {NoHandoff: true}} {
		answer, c, err := ask(o, "third", false)
		if err != nil || answer != fixture.Answer("third", lines.PID(), !o.NoHandoff) {
			t.Fatalf("%q, %v", answer, err)
		}
		_ = c.Close()
	}
	b.handOver("last")
}

// foreign gives the backend a connection that another process serves.
func (b *stockBroker) foreign() uint64 {
	b.t.Helper()
	other := fixture.Start(b.t, "server", role{Pipe: fixture.PipeName()})
	name := strings.TrimPrefix(other.Until("listens at "), "listens at ")
	c, err := sock.Dial(name)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	var number windows.Handle
	if _, err := fmt.Sscanf(other.Until("serves "), "serves %d", &number); err != nil {
		b.t.Fatal(err)
	}
	open := func(p *fixture.Process) windows.Handle {
		h, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, uint32(p.PID()))
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { _ = windows.CloseHandle(h) })
		return h
	}
	var there windows.Handle
	if err := windows.DuplicateHandle(open(other), number, open(b.lines), &there, 0, false, windows.DUPLICATE_SAME_ACCESS); err != nil {
		b.t.Fatal(err)
	}
	return uint64(there)
}
