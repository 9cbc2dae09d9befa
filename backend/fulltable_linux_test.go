package backend_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestFullDescriptorTable: a backend that can take no descriptor in says so at
// once (faults row 9), and works again when it has room.
func TestFullDescriptorTable(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	wires := fakeBroker(t, p)
	helper := testutil.Helper(t, "full table")
	helper.Env = append(helper.Env, "USHER_TEST_SOCKET="+p.socket(), "USHER_TEST_PIPE="+p.pipe("p"))
	control, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	w := next(t, wires)
	wantBytes(t, said, "full\n")
	for _, room := range []int{0, 1} { // none, and one of the two
		l := newLoad(t)
		begin := time.Now()
		if err := w.Send(framed(t, frame.ChannelOffer(offer(uint64(room)+1))), l.conn, l.claimFD()); err != nil {
			t.Fatal(err)
		}
		ack := w.ack(t)
		if ack.Accepted || ack.Reason != descriptors {
			t.Errorf("room for %d descriptors: answer %v", room, ack)
		}
		if took := time.Since(begin); took > patience/2 {
			t.Errorf("room for %d descriptors: answered after %v", room, took)
		}
		if won, err := l.claim.Take(); !won || err != nil {
			t.Errorf("room for %d descriptors: claim %v, %v", room, won, err)
		}
		l.drop()
		wantEnd(t, l.client)
		send(t, control, "1")
		wantBytes(t, said, "ok\n")
	}
	l := newLoad(t)
	if err := w.Send(framed(t, frame.ChannelOffer(offer(9))), l.conn, l.claimFD()); err != nil {
		t.Fatal(err)
	}
	if ack := w.ack(t); !ack.Accepted {
		t.Errorf("with room again: answer %v", ack)
	}
	_ = control.Close()
	if err := helper.Wait(); err != nil {
		t.Error(err)
	}
}

// serveWithFullTable is a backend whose descriptor table is full; every byte on
// its standard input makes room for one descriptor.
func serveWithFullTable() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ln, err := backend.Listen(ctx, backend.Options{
		Service: service, Version: version, Broker: os.Getenv("USHER_TEST_SOCKET"), Pipe: os.Getenv("USHER_TEST_PIPE"),
	})
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		return err
	}
	var filler []int
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			return err
		}
		filler = append(filler, fd)
	}
	fmt.Println("full")
	var b [1]byte
	for _, fd := range filler {
		if n, _ := os.Stdin.Read(b[:]); n == 0 {
			return nil
		}
		_ = unix.Close(fd)
		fmt.Println("ok")
	}
	return nil
}
