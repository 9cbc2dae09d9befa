package endpoint

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

func freshPipe() string {
	var random [8]byte
	_, _ = rand.Read(random[:])
	return `\\.\pipe\usher-test-` + hex.EncodeToString(random[:])
}

func mustBind(t *testing.T, path string) *Binding {
	t.Helper()
	b, err := Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// served is a connection to b, and its serving end.
func served(t *testing.T, b *Binding) (dialled, accepted *sock.Conn) {
	t.Helper()
	dialled, err := DialNow(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	from, err := b.Accepting()
	if err != nil {
		t.Fatal(err)
	}
	testutil.WaitFor(t, "the connection is there", func() bool {
		accepted, err = from.Accept()
		return !errors.Is(err, syscall.EAGAIN)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close(); _ = accepted.Close() })
	return dialled, accepted
}

// TestOneOwner of a name at a time; who comes late is told who has it.
func TestOneOwner(t *testing.T) {
	path := freshPipe()
	b := mustBind(t, path)
	var used *InUseError
	if second, err := Bind(path); !errors.As(err, &used) || used.PID != os.Getpid() {
		t.Errorf("bound twice: %v, %v", second, err)
	}
	if err := CheckServedBy(path, os.Getpid()); err != nil {
		t.Error(err)
	}
	var other *OtherListenerError
	if err := CheckServedBy(path, 4); !errors.As(err, &other) {
		t.Errorf("served by another: %v", err)
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	mustBind(t, path)
}

// TestConnectionOutlivesItsBroker: one that was handed over keeps the pipe's name in use,
// and the next broker binds it all the same.
func TestConnectionOutlivesItsBroker(t *testing.T) {
	path := freshPipe()
	b := mustBind(t, path)
	dialled, accepted := served(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustBind(t, path)
	served(t, again)
	if n, err := accepted.TryWrite([]byte("x")); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	_ = dialled.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := dialled.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// TestUnlinkKeepsTheQueue: nobody connects any more, and who has is served.
func TestUnlinkKeepsTheQueue(t *testing.T) {
	b := mustBind(t, freshPipe())
	dialled, err := DialNow(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dialled.Close() }()
	if err := b.Unlink(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if c, err := Dial(ctx, b.Path); err == nil {
		_ = c.Close()
		t.Error("connected behind Unlink")
	}
	from, _ := b.Accepting()
	c, err := from.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestNoPipeForAChild(t *testing.T) {
	if b, f, err := BindForChild(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, %v, %v", b, f, err)
	}
}

func TestPrivateLists(t *testing.T) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]bool{
		privateDACL: true,
		"D:(A;;FA;;;" + user.User.Sid.String() + ")(A;;FA;;;SY)": true,
		"D:P(D;;FA;;;WD)(A;;FA;;;OW)":                            true,
		"D:P(A;OICI;FA;;;OW)(A;;FR;;;WD)":                        false,
		"D:P(A;;FA;;;BA)":                                        false,
	} {
		sd, err := windows.SecurityDescriptorFromString(list)
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		if got, err := letsNobodyElseIn(sd); got != want || err != nil {
			t.Errorf("%s: private %v, %v", list, got, err)
		}
	}
}

// TestNoListIsNotPrivate: without a list everybody is let in.
func TestNoListIsNotPrivate(t *testing.T) {
	sd, err := windows.NewSecurityDescriptor()
	if err != nil {
		t.Fatal(err)
	}
	if err := sd.SetDACL(nil, true, false); err != nil {
		t.Fatal(err)
	}
	if got, err := letsNobodyElseIn(sd); got || err != nil {
		t.Errorf("private %v, %v", got, err)
	}
}

func TestEnsurePrivate(t *testing.T) {
	above, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(above, "services")
	t.Cleanup(func() { _ = os.Remove(dir); _ = os.Remove(above) })
	if err := EnsurePrivate(dir); err != nil {
		t.Fatal(err)
	}
	if err := CheckPrivate(dir); err != nil {
		t.Error(err)
	}
}
