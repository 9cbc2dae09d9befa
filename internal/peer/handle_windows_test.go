package peer

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
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

// TestSharedHandle: another handle of the same process, which keeps its pid.
func TestSharedHandle(t *testing.T) {
	p, err := OpenPID(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	fd, err := p.Share()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	again, err := Resume(fd)
	if err != nil {
		t.Fatal(err)
	}
	if again.PID() != os.Getpid() || !again.Alive() {
		t.Errorf("process %d, alive %t", again.PID(), again.Alive())
	}
	again.Close()
	if _, err := p.Share(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("behind Close: %v", err)
	}
	event, err := windows.CreateEvent(nil, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Resume(sock.Own(int(event))); err == nil {
		t.Errorf("an event is process %d", p.PID())
	}
}
