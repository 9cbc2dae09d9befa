package backend

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestLostPipeIsBoundOnce: a name that is looked at every second, for want of a watch,
// and that an event tells is gone just when the next look is due, is bound anew once.
func TestLostPipeIsBoundOnce(t *testing.T) {
	testutil.Leaks(t)
	dir := testutil.SocketDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	l, err := Listen(context.Background(), Options{Service: "notes", Version: "1.2.0", Broker: filepath.Join(dir, "nobody")})
	if err != nil {
		t.Fatal(err)
	}
	old := l.Addr().String()
	l.loop.Post(func() {
		l.pipe.check = time.Now()
		_ = os.Remove(old)
		l.losePipe(l.binding.Load())
		l.loop.WakeAt(time.Now())
	})
	testutil.WaitFor(t, "it is bound anew", func() bool { return l.Addr().String() != old })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "running-process", "broker", "*.sock"))
	if len(left) != 0 || err != nil {
		t.Errorf("sockets are left behind: %v, %v", left, err)
	}
}
