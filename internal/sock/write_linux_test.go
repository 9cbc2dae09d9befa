package sock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestStandardNumbers: a connection whose descriptor has the number of standard output
// or of standard error learns that its peer is gone from an error, not from SIGPIPE.
func init() { helpers["closed standard output"] = writeWithoutStandardOutput }

func TestStandardNumbers(t *testing.T) {
	testutil.Leaks(t)
	if err := testutil.Helper(t, "closed standard output").Run(); err != nil {
		t.Error(err)
	}
}

func writeWithoutStandardOutput() error {
	for _, fd := range []int{1, 2} {
		if err := syscall.Close(fd); err != nil {
			return err
		}
	}
	for _, waits := range []bool{false, true} {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil || fds != [2]int{1, 2} {
			os.Exit(4)
		}
		out, errs := newConn(fds[0]), newConn(fds[1])
		for _, c := range []*Conn{out, errs} {
			if waits {
				_ = c.SetDeadline(time.Now().Add(patience)) // from here on the runtime's poller has it
			}
		}
		_ = out.Shutdown()
		for i, c := range []*Conn{out, errs} {
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				os.Exit(5 + i)
			}
			_ = c.Close()
		}
	}
	return nil
}

// TestPrefix: whoever sends first, and however, what must go first goes first, once.
func TestPrefix(t *testing.T) {
	for name, act := range map[string]func(c *Conn) error{
		"Write":      func(c *Conn) error { return all(c.Write([]byte("body"))) },
		"WriteParts": func(c *Conn) error { return all(c.WriteParts([]byte("bo"), []byte("d"), []byte("y"))) },
		"TryWrite":   func(c *Conn) error { return all(c.TryWrite([]byte("body"))) },
		"empty Write": func(c *Conn) error {
			_, err := c.Write(nil)
			return errors.Join(err, all(c.Write([]byte("body"))))
		},
		"Flush": func(c *Conn) error { return errors.Join(c.Flush(), c.Flush(), all(c.Write([]byte("body")))) },
		"parked": func(c *Conn) error {
			return errors.Join(c.SetDeadline(time.Now().Add(patience)), all(c.Write([]byte("body"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			a, b := connPair(t)
			a.Prefix([]byte("head:"))
			if err := act(a); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			_ = a.Close()
			n, _ := b.Read(buf)
			for more := n; more > 0; n += more {
				more, _ = b.Read(buf[n:])
			}
			if got := string(buf[:n]); got != "head:body" {
				t.Errorf("read %q", got)
			}
		})
	}
}

func all(n int, err error) error {
	if err == nil && n != len("body") {
		err = fmt.Errorf("%d bytes went", n)
	}
	return err
}

// TestFlushBesideWrite: Flush doesn't wait for a Write that waits for room.
func TestFlushBesideWrite(t *testing.T) {
	testutil.Leaks(t)
	a, b := connPair(t)
	a.Prefix([]byte("head:"))
	ended := make(chan error, 1)
	go func() { _, err := a.Write(make([]byte, 8<<20)); ended <- err }()
	head := make([]byte, 5)
	if n, err := b.Read(head); err != nil || string(head[:n]) != "head:" {
		t.Fatalf("%q %v", head[:n], err)
	}
	if err := a.Flush(); err != nil { // the Write waits, or will: nobody reads on
		t.Error(err)
	}
	_ = a.Close()
	if err := <-ended; err == nil {
		t.Error("8 MiB were written to nobody")
	}
}

// TestPastWriteDeadline holds for a Write in parts, too.
func TestPastWriteDeadline(t *testing.T) {
	testutil.Leaks(t)
	a, _ := connPair(t)
	_ = a.SetWriteDeadline(time.Unix(1, 0))
	if n, err := a.WriteParts([]byte("a"), []byte("b")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
