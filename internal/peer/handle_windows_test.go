package peer

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestCloseEndsWait(t *testing.T) {
	p, err := OpenPID(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- p.Wait(context.Background()) }()
	h := p.handle.(*processHandle)
	testutil.WaitFor(t, "it waits", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.stop != 0
	})
	p.Close()
	p.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if p.Alive() {
		t.Error("alive behind Close")
	}
}
