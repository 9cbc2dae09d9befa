package backend_test

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// ended reports whether the client has been told of the end.
func ended(c interface {
	SetReadDeadline(time.Time) error
	Read([]byte) (int, error)
}) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !os.IsTimeout(err)
}

// TestDroppedWithoutClose: a connection that the application forgets is closed, on
// either route, whatever has been done with it.
func TestDroppedWithoutClose(t *testing.T) {
	for name, route := range routes {
		for what, act := range map[string]func(*backend.Conn){
			"nothing":  func(*backend.Conn) {},
			"used":     func(c *backend.Conn) { send(t, c, "x") },
			"deadline": func(c *backend.Conn) { _ = c.SetDeadline(time.Now().Add(time.Hour)) },
			"asked":    func(c *backend.Conn) { _, _ = c.Client(), c.HandedOver() },
			"raw":      func(c *backend.Conn) { _, _ = c.SyscallConn() },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				testutil.Leaks(t)
				p, ln := registered(t)
				c := dial(t, p, route)
				func() {
					s, err := ln.Accept()
					if err != nil {
						t.Fatal(err)
					}
					act(s.(*backend.Conn))
				}()
				if what == "used" {
					wantBytes(t, c, "x")
				}
				testutil.WaitFor(t, "the client sees the end", func() bool { runtime.GC(); return ended(c) })
			})
		}
	}
}

// TestKeptWhileUsed: a call that waits keeps the connection, and so does the raw one.
func TestKeptWhileUsed(t *testing.T) {
	for name, wait := range map[string]func(*backend.Conn, []byte) (int, error){
		"Read": func(c *backend.Conn, p []byte) (int, error) { return c.Read(p) },
		"raw": func(c *backend.Conn, p []byte) (n int, err error) {
			raw, err := c.SyscallConn()
			if err != nil {
				return 0, err
			}
			waitErr := raw.Read(func(fd uintptr) bool {
				n, err = syscall.Read(int(fd), p)
				return err != syscall.EAGAIN
			})
			if err == nil {
				err = waitErr
			}
			return n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			p, ln := registered(t)
			c := dial(t, p)
			read := make(chan error, 1)
			go func() {
				s, err := ln.Accept()
				if err == nil {
					_, err = wait(s.(*backend.Conn), make([]byte, 1))
				}
				read <- err
			}()
			for range 20 {
				runtime.GC()
				time.Sleep(time.Millisecond) // time for a cleanup that must not come
			}
			send(t, c, "x")
			if err := <-read; err != nil {
				t.Error(err)
			}
			testutil.WaitFor(t, "dropped now", func() bool { runtime.GC(); return ended(c) })
		})
	}
}
