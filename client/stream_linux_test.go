package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// narrow is a stream that is about to send Hello and early over a connection
// that has little room, and the other end of it.
func narrow(t *testing.T, early []byte) (s *stream, peer *sock.Conn) {
	t.Helper()
	fds := testutil.FDPair(t, syscall.SOCK_STREAM)
	if err := syscall.SetsockoptInt(fds[0], syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	peer = sock.NewConn(sock.Own(fds[1]))
	s = &stream{dialing: &dialing{by: new(Dialer), Options: Options{Service: "notes", Version: "1.2.0", Timeout: time.Minute, ReadyTimeout: time.Second}}}
	t.Cleanup(func() { _ = s.close(); _ = peer.Close() })
	x := newExchange(s, early)
	x.step, x.conn = stepSend, sock.NewConn(sock.Own(fds[0]))
	head, err := s.hello(len(early))
	if err := errors.Join(err, s.use(x.conn)); err != nil {
		t.Fatal(err)
	}
	x.head, s.x = head, x
	_ = peer.SetDeadline(time.Now().Add(time.Minute))
	return s, peer
}

// send drives s until all of the question has gone, or its deadline has passed.
func send(s *stream, by time.Duration) error {
	c := &caller{op: "write", direction: writing}
	now := time.Now()
	end := now.Add(by)
	if err := errors.Join(s.setDeadlines(nil, &end), s.take(c)); err != nil {
		return err
	}
	defer s.leave()
	return s.run(c, asked)
}

// TestPartlySentRequestIsUnknown: some of the early data has left, so a backend may
// have begun to run it. When no more than Hello has left, none has.
func TestPartlySentRequestIsUnknown(t *testing.T) {
	testutil.Leaks(t)
	s, peer := narrow(t, make([]byte, MaxEarlyData))
	for by := 10 * time.Millisecond; s.x.sent <= len(s.x.head) && by < time.Minute; by *= 4 { // which may be too short for any
		if err := send(s, by); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes fit: %v", MaxEarlyData, err)
		}
	}
	if s.x.sent <= len(s.x.head) || s.x.sent >= len(s.x.head)+MaxEarlyData {
		t.Fatalf("%d bytes have gone, of which Hello has %d", s.x.sent, len(s.x.head))
	}
	_ = peer.Close()
	_, err := s.Read(make([]byte, 1))
	if !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrBrokerUnreachable) {
		t.Error(err)
	}

	s, peer = narrow(t, nil)
	if err := send(s, time.Minute); err != nil {
		t.Fatal(err)
	}
	_ = peer.Close()
	if _, err := s.Read(make([]byte, 1)); errors.Is(err, ErrOutcomeUnknown) {
		t.Error("Hello alone:", err)
	}
}

// TestPartlySentRequestGoesOn: a deadline that passes in the middle of Hello and
// early data leaves the rest to the next call. CloseWrite holds behind all of it.
func TestPartlySentRequestGoesOn(t *testing.T) {
	testutil.Leaks(t)
	s, peer := narrow(t, make([]byte, MaxEarlyData))
	if err := send(s, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := s.closeWrite(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		f, _, err := frame.Read(peer, frame.MaxHelloBody)
		if err != nil {
			answered <- err
			return
		}
		body, err := io.ReadAll(peer)
		if len(body) != MaxEarlyData {
			err = fmt.Errorf("%d bytes behind Hello, %w", len(body), err)
		}
		token := []byte("0123456789abcdef")
		reply, _ := frame.Append(nil, hello.ReplyFrame(f, hello.Grant{BackendPipe: "/x", Token: token}.Reply()))
		reply, _ = frame.Append(reply, frame.HandoffReady(token, 1))
		_, _ = peer.Write(append(reply, "answer"...))
		answered <- err
	}()
	got := make([]byte, 6)
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "answer" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := <-answered; err != nil {
		t.Error("the peer:", err)
	}
}

// TestContextDoesNotReachSettled: the context of the call ends between the verdict
// and the call's return.
func TestContextDoesNotReachSettled(t *testing.T) {
	testutil.Leaks(t)
	s, peer := narrow(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.take(&caller{op: "dial", ctx: ctx}); err != nil {
		t.Fatal(err)
	}
	s.arm(time.Now().Add(time.Minute))
	s.settle(&opened{route: HandedOver})
	cancel()
	s.wake()
	s.leave()
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// TestConnectionMadeDuringClose is closed by who made it.
func TestConnectionMadeDuringClose(t *testing.T) {
	testutil.Leaks(t)
	s, peer := narrow(t, nil)
	s.drop()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	fds := testutil.FDPair(t, syscall.SOCK_STREAM)
	made, other := sock.NewConn(sock.Own(fds[0])), sock.NewConn(sock.Own(fds[1]))
	defer func() { _ = other.Close() }()
	_ = other.SetDeadline(time.Now().Add(time.Minute))
	if err := s.use(made); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Error("its peer reads", err)
	}
	_ = peer.Close()
}
