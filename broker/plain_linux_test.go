package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// awaitSocket dials path as soon as somebody listens there.
func (s *site) awaitSocket(path string) (c *net.UnixConn) {
	s.tb.Helper()
	testutil.WaitFor(s.tb, "somebody listens at "+path, func() bool {
		var err error
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		return err == nil
	})
	s.tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		s.tb.Fatal(err)
	}
	return c
}

// TestPlainSocket: who connects to the socket of a service gets it, live, without a Hello,
// and nothing but what the program says. The socket comes, moves and goes with the
// definition, is the user's alone, and takes the place of one that nobody serves.
func TestPlainSocket(t *testing.T) {
	s := inetd(t, "", nil)
	first, second := filepath.Join(s.dir, "first"), filepath.Join(s.dir, "second")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: first, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	for _, path := range []string{first, second} {
		s.defineInetd(ownBinary(t), fmt.Sprintf("listen = %q", path))
		c := s.awaitSocket(path)
		if _, err := c.Write([]byte("request\n")); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if who, rest, _ := strings.Cut(string(got), "\n"); err != nil || word(who, "peer") != fmt.Sprint(os.Getpid()) || rest != "request\n" {
			t.Errorf("got %q, %v", got, err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", fi, err)
		}
	}
	testutil.WaitFor(t, "the first has gone", func() bool { _, err := os.Lstat(first); return errors.Is(err, fs.ErrNotExist) })

	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	s.awaitSocket(second) // is made anew

	// Clients that want to reconnect are sent there.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Service: demo, Version: demoVersion, Broker: s.Socket(), NoHandoff: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if who, err := bufio.NewReader(c).ReadString('\n'); word(who, "peer") != fmt.Sprint(os.Getpid()) || err != nil || c.Route() != client.Reconnected {
		t.Errorf("got %q, %v by %v", who, err, c.Route())
	}
	_ = c.Close()

	s.defineInetd(ownBinary(t), "")
	testutil.WaitFor(t, "the second has gone", func() bool { _, err := os.Lstat(second); return errors.Is(err, fs.ErrNotExist) })
}

// TestPlainRefusal: what can't be served is closed without a byte, and whoever waits for
// room gets it.
func TestPlainRefusal(t *testing.T) {
	s := inetd(t, "", func(o *options) { o.BackendWait = 500 * time.Millisecond })
	path := filepath.Join(s.dir, "plain")
	s.defineInetd(ownBinary(t), fmt.Sprintf("listen = %q\nmax_instances = 1", path))
	first := s.awaitSocket(path)
	if _, err := bufio.NewReader(first).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	testutil.WaitFor(t, "its process has ended", func() bool { return s.Processes() == 0 })
	busy := dial(t, path)
	if _, err := bufio.NewReader(busy).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(dial(t, path)); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_ = busy.Close()
	testutil.WaitFor(t, "its process has ended", func() bool { return s.Processes() == 0 })
	if who, err := bufio.NewReader(dial(t, path)).ReadString('\n'); err != nil {
		t.Errorf("got %q, %v", who, err)
	}
}

// TestPlainSocketEnds with the broker, which serves those in its queue.
func TestPlainSocketEnds(t *testing.T) {
	s := inetd(t, "", nil)
	path := filepath.Join(s.dir, "plain")
	s.defineInetd(ownBinary(t), fmt.Sprintf("listen = %q", path))
	_ = s.awaitSocket(path).Close()
	testutil.WaitFor(t, "its definition need not be read again", func() bool { _ = dial(t, path).Close(); return s.Known(demo) })
	release := s.HoldLoop()
	c := dial(t, path)
	s.stop()
	release()
	if who, err := bufio.NewReader(c).ReadString('\n'); word(who, "peer") != fmt.Sprint(os.Getpid()) || err != nil {
		t.Errorf("got %q, %v", who, err)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's name: %v", err)
	}
}
