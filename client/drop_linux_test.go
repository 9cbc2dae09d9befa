package client_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestDroppedConnCloses: who drops a connection without Close leaves no descriptor
// behind, and its peer does not wait forever. One whose verdict is outstanding is
// no exception.
func TestDroppedConnCloses(t *testing.T) {
	for name, use := range map[string]func(testing.TB, *client.Dialer){
		"settled": func(t testing.TB, d *client.Dialer) {
			c, err := client.Dial(bounded(t), d.Options)
			if err != nil {
				t.Fatal(err)
			}
			send(t, c, "x")
		},
		"verdict outstanding": func(t testing.TB, d *client.Dialer) {
			c, err := d.Dial(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			send(t, c, "x")
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = c.Read(make([]byte, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			testutil.Leaks(t)
			end := make(chan error, 1)
			d := usherThen(t, func(c *net.UnixConn, f *wire.Frame) {
				if name == "settled" {
					handOver(c, f)
				}
				_, err := io.Copy(io.Discard, c)
				end <- err
			})
			use(t, d)
			for ended, until := false, time.Now().Add(patience/2); !ended; {
				runtime.GC()
				select {
				case err := <-end:
					if ended = true; err != nil {
						t.Errorf("the peer reads %v", err)
					}
				case <-time.After(time.Millisecond):
					if time.Now().After(until) {
						t.Fatal("the peer still waits")
					}
				}
			}
		})
	}
}

// TestHeldConnStays: neither a call under way nor a raw connection loses the
// descriptor to the collector.
func TestHeldConnStays(t *testing.T) {
	testutil.Leaks(t)
	speak := make(chan struct{})
	socket := handing(t, func(c *net.UnixConn) {
		<-speak
		_, _ = io.WriteString(c, "x")
		hold(c)
	})
	open := func() *client.Conn {
		c, err := client.Dial(bounded(t), options(socket))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read := make(chan error, 1)
	go func(c *client.Conn) { // its last use
		_, err := c.Read(make([]byte, 1))
		read <- err
	}(open())
	raw, err := open().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		runtime.GC()
		if err := raw.Control(func(uintptr) {}); err != nil {
			t.Fatal("raw:", err)
		}
	}
	held := testutil.OpenDescriptors(t)
	close(speak)
	if err := <-read; err != nil {
		t.Error("read:", err)
	}
	runtime.KeepAlive(raw)
	testutil.WaitFor(t, "both are closed once nobody holds them", func() bool {
		runtime.GC()
		return testutil.OpenDescriptors(t) <= held-4 // and so are the peer's two
	})
}
