package testutil

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Background runs serve, whose error is the test's, until stop or the test's end.
func Background(t testing.TB, serve func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// AcceptEach gives the connections of ln to use, one after the other, and closes each
// afterwards. The test's end closes ln.
func AcceptEach(t testing.TB, ln net.Listener, use func(net.Conn)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			use(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
}
