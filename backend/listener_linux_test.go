package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestAcceptedConn: what a *net.UnixConn can do, an accepted connection can, on
// both routes.
func TestAcceptedConn(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			c := dial(t, p, route)
			s := accept(t, ln)
			if got := string(c.Route()); got != name || s.HandedOver() != (name == string(client.HandedOver)) {
				t.Fatalf("route %s, handed over %v; want %s", got, s.HandedOver(), name)
			}

			_ = s.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read past its deadline: %v", err)
			}
			_ = s.SetDeadline(time.Now().Add(patience))
			testutil.CheckConnected(t, c, s)
			testutil.CheckConnected(t, s, c)

			if !testutil.IsOpen(testutil.FD(t, s)) {
				t.Error("SyscallConn lends no descriptor")
			}
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("after CloseWrite the client reads %d, %v", n, err)
			}
			testutil.CheckConnected(t, c, s)
		})
	}
}

// TestHalfClosingClient: the end of the request's direction is not the end of
// the connection.
func TestHalfClosingClient(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			c := dial(t, p, route)
			send(t, c, "request")
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			s := accept(t, ln)
			got, err := io.ReadAll(s)
			if err != nil || string(got) != "request" {
				t.Fatalf("read %q, %v", got, err)
			}
			send(t, s, "reply")
			_ = s.Close()
			if got, err := io.ReadAll(c); err != nil || string(got) != "reply" {
				t.Errorf("the client read %q, %v", got, err)
			}
		})
	}
}

// TestServerSpeaksFirst: no byte of the client's is waited for.
func TestServerSpeaksFirst(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			c := dial(t, p, route)
			s := accept(t, ln)
			send(t, s, "220 ready\r\n")
			wantBytes(t, c, "220 ready\r\n")
			testutil.CheckConnected(t, c, s)
		})
	}
}

// TestAcceptedSurvivesClose: what was accepted is the caller's.
func TestAcceptedSurvivesClose(t *testing.T) {
	testutil.Leaks(t)
	p, ln := registered(t)
	c := dial(t, p)
	s := accept(t, ln)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	testutil.CheckConnected(t, c, s)
}

// TestAcceptRacesClose: whichever wins, an Accept returns, and every connection
// ends.
func TestAcceptRacesClose(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t)
	startBroker(t, p)
	for range 5 {
		ln := listen(t, p)
		if err := ln.WaitRegistered(bounded(t)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
					_ = c.Close()
				}
			})
			wg.Go(func() {
				c, err := client.Dial(bounded(t), impatient(clientOptions(p)))
				if err != nil {
					return // it met a backend that was gone
				}
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(patience))
				if _, err := c.Read(make([]byte, 1)); os.IsTimeout(err) {
					t.Error("a connection was left open")
				}
			})
		}
		wg.Go(func() { _ = ln.Close() })
		wg.Go(func() { _ = ln.Close() })
		wg.Wait()
	}
}

// TestFullBacklog: who finds no place in the queue gets to the backend all the
// same, through its pipe; when the queue has room, handoffs go on.
func TestFullBacklog(t *testing.T) {
	testutil.Leaks(t)
	p, ln := registered(t, func(o *backend.Options) { o.Backlog = 2 })
	var want = []client.Route{client.HandedOver, client.HandedOver, client.Reconnected}
	for i, route := range want {
		if got := dial(t, p).Route(); got != route {
			t.Errorf("client %d: %s, want %s", i, got, route)
		}
	}
	handed := 0
	for range want {
		if accept(t, ln).HandedOver() {
			handed++
		}
	}
	if handed != 2 {
		t.Errorf("%d of 3 were handed over, want 2", handed)
	}
	if got := dial(t, p).Route(); got != client.HandedOver {
		t.Errorf("after the queue was emptied: %s", got)
	}
}

func TestClientIdentity(t *testing.T) {
	for name, route := range routes {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			dial(t, p, route)
			got := accept(t, ln).Client()
			want := backend.Client{UID: uint32(os.Geteuid()), PID: os.Getpid()}
			if !hasPeerPidfd(t) {
				want.PID = 0
			}
			if got != want {
				t.Errorf("client is %+v, want %+v", got, want)
			}
		})
	}
}

// TestClientIdentityOfTheDead: a pid that may be a stranger's by now is not
// told.
func TestClientIdentityOfTheDead(t *testing.T) {
	testutil.Leaks(t)
	p, ln := registered(t)
	helper := testutil.Helper(t, "dial and go")
	helper.Env = append(helper.Env, "USHER_TEST_SOCKET="+p.socket())
	if err := helper.Run(); err != nil {
		t.Fatal(err)
	}
	want := backend.Client{UID: uint32(os.Geteuid())}
	if got := accept(t, ln).Client(); got != want {
		t.Errorf("client is %+v, want %+v", got, want)
	}
}

// dialAndGo connects and exits at once.
func dialAndGo() error {
	_, err := client.HTTP(client.Options{
		Service: service, Version: version, Broker: os.Getenv("USHER_TEST_SOCKET"),
	})(context.Background(), "", "")
	return err
}

// TestCloseShutsDown: the client of a handed-over connection sees its end
// although somebody else still holds a descriptor of it.
func TestCloseShutsDown(t *testing.T) {
	testutil.Leaks(t)
	p, ln := registered(t)
	c := dial(t, p)
	s := accept(t, ln)
	dup, err := unix.FcntlInt(uintptr(testutil.FD(t, s)), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(dup) }()
	send(t, s, "last words")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, c, "last words")
	wantEnd(t, c)
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("the client can still write")
	}
}

// TestOverflowUser: the uid that stands for every user without a name here is
// nobody's, the backend's own included.
func TestOverflowUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user; run this test as root")
	}
	p := newPlace(t)
	helper := testutil.Helper(t, "nobody")
	helper.Env = append(helper.Env, "USHER_TEST_SOCKET="+p.socket(), "USHER_TEST_PIPE="+p.pipe("p"))
	if err := helper.Run(); err != nil {
		t.Error(err)
	}
}

// serveAsNobody is a backend that becomes the overflow user and dials itself.
func serveAsNobody() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pipe := os.Getenv("USHER_TEST_PIPE")
	ln, err := backend.Listen(ctx, backend.Options{
		Service: service, Version: version, Broker: os.Getenv("USHER_TEST_SOCKET"), Pipe: pipe,
	})
	if err != nil {
		return err
	}
	// The file modes are the first fence; the test steps over it.
	if err := errors.Join(os.Chmod(filepath.Dir(pipe), 0o711), os.Chmod(pipe, 0o666), syscall.Setuid(sock.OverflowUID)); err != nil {
		return err
	}
	c, err := net.Dial("unix", pipe)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	go func() {
		if s, err := ln.Accept(); err == nil {
			_, _ = io.WriteString(s, "served")
			_ = s.Close()
		}
	}()
	_ = c.SetDeadline(time.Now().Add(patience))
	if said, err := io.ReadAll(c); len(said) != 0 || err != nil {
		return fmt.Errorf("read %q, %v; want the end", said, err)
	}
	return nil
}

func hasPeerPidfd(t *testing.T) bool {
	t.Helper()
	if testutil.Portable {
		return false
	}
	fds := testutil.FDPair(t, unix.SOCK_STREAM)
	defer func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) }()
	fd, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
