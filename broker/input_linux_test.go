package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const rejected = wire.ErrorCode_ERROR_PEER_REJECTED

// TestTruncated: wherever the stream ends inside the Hello, the client is told
// so, and no backend hears of it.
func TestTruncated(t *testing.T) {
	s := newSite(t, nil)
	s.fake(demoVersion)
	wire := helloFor(t, usherClient, nil)
	for n := range wire {
		c := s.dial()
		send(t, c, wire[:n])
		_ = c.CloseWrite()
		readRefusal(t, c, rejected, "incomplete Hello frame")
	}
	checkHandoffs(t, s, handoffCounts{})
}

// TestGone: a client that leaves in the middle, or before its answer, leaves
// nothing behind.
func TestGone(t *testing.T) {
	s := newSite(t, nil)
	wire := helloFor(t, noHandoff, nil)
	for _, n := range []int{0, 1, 5, 20, len(wire)} {
		c := s.dial()
		send(t, c, wire[:n])
		_ = c.Close()
	}
	s.settle()
}

// TestOneByteAtATime: the deadline is absolute. Bytes that go on coming don't
// move it, and nobody else waits for it.
func TestOneByteAtATime(t *testing.T) {
	const timeout = time.Second
	s := newSite(t, nil)
	backend := s.fake(demoVersion)
	s.SetHelloTimeout(timeout)
	began := time.Now()
	slow := s.dial()
	testutil.WaitFor(t, "it is accepted", func() bool { n, _ := s.Pending(); return n == 1 })
	s.SetHelloTimeout(patience)
	stop := make(chan struct{})
	fed := make(chan int, 1)
	go func() { fed <- dribble(slow, helloFor(t, noHandoff, nil), timeout/20, stop) }()
	for range 20 { // others are served meanwhile
		c := s.dial()
		send(t, c, helloFor(t, noHandoff, nil))
		readSentAway(t, c, backend.pipe)
	}
	readRefusal(t, slow, rejected, "incomplete Hello frame")
	took := time.Since(began)
	close(stop)
	if n := <-fed; n < 5 {
		t.Errorf("only %d bytes were sent: nothing is proven", n)
	}
	if took < timeout*9/10 {
		t.Errorf("ended after %v already", took)
	}
}

// dribble writes one byte per interval and returns how many went out. It never
// writes the last one.
func dribble(c net.Conn, wire []byte, interval time.Duration, stop <-chan struct{}) int {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := range wire[:len(wire)-1] {
		if _, err := c.Write(wire[n : n+1]); err != nil {
			return n
		}
		select {
		case <-tick.C:
		case <-stop:
			return n
		}
	}
	return len(wire) - 1
}

// TestPayloads: what is no Hello is refused and never more than that; what v1
// calls tolerable is served.
func TestPayloads(t *testing.T) {
	s := newSite(t, nil)
	backend := s.fake(demoVersion)
	good := hello.Request{Service: demo, Version: demoVersion}.Hello()
	payload := wire.Marshal(good)
	groups := bytes.Repeat(protowire.AppendTag(nil, 21, protowire.StartGroupType), 12000)
	unknown := protowire.AppendVarint(protowire.AppendTag(bytes.Clone(payload), 21, protowire.VarintType), 1)
	twice := append(wire.Marshal(&wire.Hello{ServiceName: "other", ClientMinProtocol: 9}), payload...)
	for _, c := range []struct {
		name, reason string // no reason: served
		payload      []byte
	}{
		{"garbage", "malformed Hello payload", []byte{0xff, 0xff, 0xff}},
		{"not UTF-8", "malformed Hello payload", []byte{0x1a, 2, 0xc3, 0x28}},
		{"endless varint", "malformed Hello payload", append([]byte{8}, bytes.Repeat([]byte{0xff}, 11)...)},
		{"length past the end", "malformed Hello payload", []byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{"deep nesting", "malformed Hello payload", groups},
		{"unknown field", "", unknown},
		{"fields twice, the last counts", "", twice},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := s.dial()
			send(t, conn, bytesOf(t, frame.Request(frame.Control, 9, c.payload)))
			if c.reason == "" {
				readSentAway(t, conn, backend.pipe)
				return
			}
			readRefusal(t, conn, rejected, c.reason)
		})
	}
	for name, body := range map[string][]byte{"groups": groups, "garbage": {0xff}} {
		t.Run("frame of "+name, func(t *testing.T) {
			conn := s.dial()
			send(t, conn, append([]byte{1, byte(len(body)), byte(len(body) >> 8), 0, 0}, body...))
			readRefusal(t, conn, rejected, "malformed broker Frame")
		})
	}
}

// TestNames: a bad name is refused before anything on disk is looked at.
func TestNames(t *testing.T) {
	s := newSite(t, nil)
	secret := filepath.Join(s.dir, "x.toml") // what ../x would name
	if err := syscall.Mkfifo(secret, 0o600); err != nil {
		t.Fatal(err) // opening it would block
	}
	for _, name := range []string{"../x", "..", "/etc", "a/b", "UPPER", "a\x00b", "a\n", "ü", strings.Repeat("a", 65), ""} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			c := s.dial()
			send(t, c, helloFor(t, usherClient, func(r *hello.Request) { r.Service = name }))
			readRefusal(t, c, rejected, "invalid service_name")
		})
	}
	for _, version := range []string{"", "1", "1.0.0.0", "../1.0.0", "1.0.0\x00", strings.Repeat("1", 60) + ".0.00"} {
		t.Run(fmt.Sprintf("version %q", version), func(t *testing.T) {
			c := s.dial()
			send(t, c, helloFor(t, usherClient, func(r *hello.Request) { r.Version = version }))
			readRefusal(t, c, rejected, "invalid wanted_version")
		})
	}
}

// TestOutOfBand: the byte vanishes from the stream, so the Hello is not what it
// was and the connection is refused.
func TestOutOfBand(t *testing.T) {
	s := newSite(t, nil)
	s.fake(demoVersion)
	wire := helloFor(t, usherClient, nil)
	c := s.dial()
	at := len(wire) / 2
	send(t, c, wire[:at])
	var sendErr error
	if err := testutil.Raw(t, c).Control(func(fd uintptr) {
		_, sendErr = unix.SendmsgN(int(fd), wire[at:at+1], nil, nil, unix.MSG_OOB)
	}); err != nil || sendErr != nil {
		t.Skip("no out-of-band data on Unix sockets here: ", sendErr)
	}
	send(t, c, wire[at+1:])
	_ = c.CloseWrite()
	_, reply := readReply(t, c)
	if testutil.Refused(reply).Code != rejected {
		t.Errorf("got %v", reply)
	}
	readEnd(t, c)
	checkHandoffs(t, s, handoffCounts{})
}

// TestDescriptorsFromClient: the kernel refuses what a client attaches, and an
// older one has a plain read discard it. Leaks judges that.
func TestDescriptorsFromClient(t *testing.T) {
	for name, older := range map[string]bool{"refused": false, "discarded": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			if older {
				s.PassDescriptors()
			} else {
				testutil.Needs(t, "SO_PASSRIGHTS")
				probe, _ := testutil.SocketPair(t)
				if _, err := unix.GetsockoptInt(testutil.FD(t, probe), unix.SOL_SOCKET, unix.SO_PASSRIGHTS); err != nil {
					t.Skipf("this kernel can't refuse descriptors: %v", err)
				}
			}
			s.fake(demoVersion)
			for _, n := range []int{1, 2, 3, sock.MaxDescriptors} {
				attach(t, s, n, !older)
				s.settle()
			}
		})
	}
}

// attach says Hello with n descriptors. When they are refused, nothing has been
// sent, and the same Hello without them is served.
func attach(t *testing.T, s *site, n int, refused bool) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	fds := make([]int, n)
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	wire := helloFor(t, noHandoff, nil)
	c := s.dial()
	defer func() { _ = c.Close() }()
	before := nulls(t)
	sent, err := testutil.SendFDs(testutil.FD(t, c), wire, fds...)
	if refused {
		if sent != 0 || !errors.Is(err, unix.EPERM) {
			t.Errorf("sending %d descriptors: %d bytes, %v; want EPERM", n, sent, err)
		}
		send(t, c, wire)
	} else if sent != len(wire) || err != nil {
		t.Fatal(sent, err)
	}
	readSentAway(t, c, filepath.Join(s.dir, "fake-"+demoVersion))
	testutil.WaitFor(t, fmt.Sprintf("all %d that were sent are closed", n), func() bool { return nulls(t) == before })
}
