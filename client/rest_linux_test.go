package client_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestLongRequestIsUnknownAfterEnd: a request that was too long to go along with Hello
// may have been run, too, when the connection ends before its answer.
func TestLongRequestIsUnknownAfterEnd(t *testing.T) {
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) { handOver(c, f); early(c, client.MaxEarlyData+1) })
	c, err := client.DialWith(bounded(t), options(socket), make([]byte, client.MaxEarlyData+1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Error(err)
	}
}

// TestRestHonoursPastDeadline: what came along with the verdict is no exception.
func TestRestHonoursPastDeadline(t *testing.T) {
	socket := fakeBroker(t, func(c *net.UnixConn, f *wire.Frame) {
		early(c, 7)
		_, _ = c.Write(append(handedOver(f), "answer"...))
		hold(c)
	})
	c, err := client.DialWith(bounded(t), options(socket), []byte("request"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	n, err := c.Read(make([]byte, 1))
	wantTimeout(t, "past deadline", err)
	if n != 0 {
		t.Error(n)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if got := early(c, 6); got != "answer" {
		t.Error(got)
	}
}
