package backend_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// stranger is a user who is neither root nor the one without a name.
const stranger = 54321

// TestForeignClient: a connection whose other end is another user's is not adopted,
// though the broker offers it, and is closed unread when it comes to the pipe.
func TestForeignClient(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can have another user connect; run this test as root")
	}
	testutil.Leaks(t)
	ln, w, _ := behindFake(t)

	pipe := ln.Addr().String()
	if n, err := foreign(t, pipe, nil); n != 0 || err != nil {
		t.Errorf("on the pipe the stranger reads %d bytes, %v", n, err)
	}

	own, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(filepath.Dir(pipe), "x"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	n, err := foreign(t, own.Addr().String(), func() {
		c, err := own.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		l := newLoad(t)
		w.offer(t, offer(1), testutil.FD(t, c), l.claimFD())
		if ack := w.ack(t); ack.Accepted || ack.Reason != descriptors {
			t.Errorf("answer %v", ack)
		}
		if won, err := l.claim.Take(); !won || err != nil {
			t.Errorf("claim: %v, %v", won, err)
		}
		_ = c.Close()
	})
	if n != 0 || err != nil {
		t.Errorf("handed over the stranger reads %d bytes, %v", n, err)
	}
	w.works(t, ln, 2)
}

// foreign has another user connect to path, calls meanwhile, if any, once he has, and
// returns what he reads until the end.
func foreign(t *testing.T, path string, meanwhile func()) (n int, err error) {
	t.Helper()
	// The file modes are the first fence; the test steps over it.
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o711), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	helper := testutil.Helper(t, "stranger")
	helper.Env = append(helper.Env, "USHER_TEST_PIPE="+path)
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(out); err != nil { // connected
		return 0, err
	}
	if meanwhile != nil {
		meanwhile()
	}
	if _, err := fmt.Fscanln(out, &n); err != nil {
		return 0, err
	}
	return n, helper.Wait()
}

func connectAsStranger() error {
	if err := syscall.Setuid(stranger); err != nil {
		return err
	}
	c, err := net.Dial("unix", os.Getenv("USHER_TEST_PIPE"))
	if err != nil {
		return err
	}
	fmt.Println()
	_ = c.SetDeadline(time.Now().Add(patience))
	said, err := io.ReadAll(c)
	fmt.Println(len(said))
	return err
}
