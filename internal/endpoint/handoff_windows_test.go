package endpoint

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/sock"
)

// noted is a context that tells when it is waited for.
type noted struct {
	context.Context
	waited chan struct{}
}

func (n noted) Done() <-chan struct{} {
	select {
	case n.waited <- struct{}{}:
	default:
	}
	return n.Context.Done()
}

// TestDialHandoffWaits while every instance of the endpoint is taken, as long as its context.
func TestDialHandoffWaits(t *testing.T) {
	b, err := BindHandoff(freshPipe())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	from, err := b.Accepting()
	if err != nil {
		t.Fatal(err)
	}
	var before []*sock.Conn
	defer func() {
		for _, c := range before {
			_ = c.Close()
		}
	}()
	for err == nil {
		var c *sock.Conn
		if c, err = sock.Dial(b.Path); err == nil {
			before = append(before, c)
		}
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waiting := noted{ctx, make(chan struct{}, 1)}
	dialled := make(chan error, 1)
	go func() {
		c, err := DialHandoff(waiting, b.Path)
		if err == nil {
			_ = c.Close()
		}
		dialled <- err
	}()
	select {
	case <-waiting.waited:
	case err := <-dialled:
		t.Fatalf("it has not waited: %v", err)
	}
	c, err := from.Accept() // which makes room for one more
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := <-dialled; err != nil {
		t.Error(err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, err := DialHandoff(ended, b.Path); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
}
