package backend

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/hello"
	"github.com/seed-7265657e/usher/internal/wire"
)

// TestRetries: a broker that doesn't know registrations is asked once a minute in the
// end; one that may take the backend in any moment, every second.
func TestRetries(t *testing.T) {
	_, unknown := hello.Open(frame.RegisterRequest(&wire.Register{}), 100, nil) // what a v1 broker says
	_, foreign := hello.ParseReply(hello.ReplyFrame(frame.RegisterRequest(&wire.Register{}), unknown.Reply()))
	busy := &hello.Refusal{Code: foreign.(*hello.Refusal).Code, RetryAfter: time.Second}
	for name, c := range map[string]struct {
		refusal error
		want    time.Duration
	}{
		"plain v1":   {errors.Join(ErrNotRegistered, foreign), time.Minute},
		"for now":    {errors.Join(ErrNotRegistered, busy), time.Second},
		"not there":  {io.EOF, time.Second},
		"undefined":  {ErrNotRegistered, time.Second},
		"plain text": {bytes.ErrTooLarge, time.Second},
	} {
		delay := firstRetry
		for range 20 {
			delay = nextRetry(delay, c.refusal, false)
		}
		if delay != c.want {
			t.Errorf("%s: asked every %v, want %v", name, delay, c.want)
		}
	}
	// Where a broker that comes is seen, it is asked for a while all the same, and then once
	// a minute.
	delay, asked := firstRetry, 0
	for ; delay < time.Minute; asked++ {
		delay = nextRetry(delay, syscall.ENOENT, true)
	}
	if asked != 7 {
		t.Errorf("asked %d times before it is left to the watch", asked)
	}
	if got := nextRetry(time.Minute, io.EOF, true); got != time.Second {
		t.Errorf("when the v1 broker has gone: asked again in %v", got)
	}
}
