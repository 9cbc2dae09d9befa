package peer_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{"waits": func() error {
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}})
}

// TestProcessHandle: a process is alive until it has ended, is what it runs, and keeps its
// pid for as long as the handle is open.
func TestProcessHandle(t *testing.T) {
	child := testutil.Helper(t, "waits")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := peer.OpenPID(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path, _, err := p.Executable()
	if err != nil || !strings.EqualFold(path, own) {
		t.Errorf("runs %q, %v; want %q", path, err, own)
	}
	if !p.Alive() || p.Confirm(path) != nil {
		t.Error("it lives")
	}
	if p.Confirm(path+"x") == nil {
		t.Error("it does not run that")
	}
	ended := make(chan error)
	go func() { ended <- p.Wait(context.Background()) }()
	_ = in.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if p.Alive() || !errors.Is(p.Confirm(path), os.ErrProcessDone) {
		t.Error("it has ended")
	}
}

func TestNoSuchProcess(t *testing.T) {
	const never = 0x7ffffff1 // pids are multiples of four
	if p, err := peer.OpenPID(never); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("%v, %v", p, err)
	}
}
