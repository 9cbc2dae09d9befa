package endpoint

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// asUser runs do with another effective user, in a thread of its own that ends
// with do. It needs root.
func asUser(t *testing.T, uid int, do func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread's user must not be met by others
		const keep = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
			done <- errno
			return
		}
		done <- do()
	}()
	return <-done
}

// TestDialRefusesAForeignListener: someone else was first at a path that anyone
// may take.
func TestDialRefusesAForeignListener(t *testing.T) {
	const stranger = 12345
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	var l net.Listener
	if err := asUser(t, stranger, func() (err error) {
		l, err = net.Listen("unix", path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, dial := range dials {
		c, err := dial(t.Context(), path)
		var foreign *ForeignListenerError
		if !errors.As(err, &foreign) || foreign.UID != stranger || foreign.Path != path || c != nil {
			t.Errorf("%s: %v, %v; want *ForeignListenerError", name, c, err)
		}
	}
}

func TestBindRefusesTheOverflowUser(t *testing.T) {
	dir := shortDir(t)
	if err := os.Chown(dir, sock.OverflowUID, -1); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	for name, bind := range map[string]func(string) (*Binding, error){"broker": Bind, "backend": BindBackend} {
		err := asUser(t, sock.OverflowUID, func() error {
			b, err := bind(filepath.Join(dir, "s.sock"))
			if err == nil {
				err = b.Close()
			}
			return err
		})
		if !errors.Is(err, ErrUnnamedUser) {
			t.Errorf("%s: error %v, want ErrUnnamedUser", name, err)
		}
	}
}

func TestDialNowDoesNotWaitForAFullBacklog(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 3 { // a backlog of 0 holds one
		c, err := DialNow(path)
		if err == nil {
			defer c.Close()
			continue
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Errorf("error %v, want EAGAIN", err)
		}
		return
	}
	t.Error("the backlog never filled")
}

// TestOtherUsersDirectoryNamesTheVariable: after su the environment may still be
// the first user's. Who may not enter, or may and must not trust it, is told which
// variable to unset.
func TestOtherUsersDirectoryNamesTheVariable(t *testing.T) {
	const owner, stranger = 12345, 12346
	run := shortDir(t)
	socket := filepath.Join(run, "running-process", "broker", "s.sock")
	if err := errors.Join(os.MkdirAll(filepath.Dir(socket), 0o700), os.Chown(run, owner, owner)); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	asks := map[string]func() error{
		"Bind":          func() error { _, err := Bind(socket); return err },
		"Dial":          func() error { _, err := Dial(t.Context(), socket); return err },
		"CheckPrivate":  func() error { return CheckPrivate(filepath.Dir(socket)) },
		"EnsurePrivate": func() error { return EnsurePrivate(filepath.Join(filepath.Dir(socket), "new")) },
	}
	for name, ask := range asks {
		t.Setenv("XDG_RUNTIME_DIR", run)
		err := asUser(t, stranger, ask)
		var variable *VariableError
		if !errors.As(err, &variable) || variable.Variable != "XDG_RUNTIME_DIR" || !strings.Contains(err.Error(), "unset it") {
			t.Errorf("%s: %v", name, err)
		}
		t.Setenv("XDG_RUNTIME_DIR", filepath.Join(run, "another"))
		if err := asUser(t, stranger, ask); err == nil || errors.As(err, &variable) {
			t.Errorf("%s at a path that no variable named: %v", name, err)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", run)
	var variable *VariableError
	if _, err := Bind(socket); !errors.As(err, &variable) {
		t.Errorf("root: %v", err)
	}
}

// TestForbiddenSocketIsNotReplaced is the same for a directory that its owner has
// closed to himself.
func TestForbiddenSocketIsNotReplaced(t *testing.T) {
	check := func() error {
		dir := filepath.Join(os.TempDir(), filepath.Base(shortDir(t))+"x")
		b, err := Bind(filepath.Join(dir, "s.sock"))
		if err != nil {
			return err
		}
		defer func() { _, _ = b.Close(), os.RemoveAll(dir) }()
		if err := os.Chmod(dir, 0); err != nil {
			return err
		}
		said := b.Check()
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		if !errors.Is(said, fs.ErrPermission) || errors.Is(said, ErrReplaced) {
			return errors.Join(errors.New("Check says"), said)
		}
		return nil
	}
	if os.Geteuid() == 0 {
		check = func(inner func() error) func() error {
			return func() error { return asUser(t, 12345, inner) }
		}(check)
	}
	if err := check(); err != nil {
		t.Error(err)
	}
}
