//go:build unix

package endpoint

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// passed is a socket that listens at path, as a service manager passes it.
func passed(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestAdopt(t *testing.T) {
	for name, keep := range map[string]bool{"the manager's name": true, "its own name": false} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s.sock")
			l := passed(t, path)
			waiting, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Close()
			b, err := Adopt(path, l, keep)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
			}
			var used *InUseError
			if _, err := Bind(path); !errors.As(err, &used) || used.PID != os.Getpid() {
				t.Errorf("a second owner: %v", err)
			}
			if _, err := waiting.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			c, err := b.Listener.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if n, err := c.Read(make([]byte, 2)); n != 1 || err != nil {
				t.Errorf("who connected before reads as %d bytes, %v", n, err)
			}
			if err := errors.Join(b.Check(), b.Unlink(), b.Close()); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) == keep {
				t.Errorf("at the end the name: %v", err)
			}
		})
	}
}

func TestAdoptLooksAfterTheName(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	b, err := Adopt(path, passed(t, path), true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("Check says %v", err)
	}
}

// TestAdoptRefuses: and lets go of the lock.
func TestAdoptRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string, l *net.UnixListener) *net.UnixListener
		want  func(error) bool
	}{
		"another path": {
			func(t *testing.T, path string, _ *net.UnixListener) *net.UnixListener { return passed(t, path+"2") },
			saying("is bound to"),
		},
		"a name that is gone": {
			func(t *testing.T, path string, l *net.UnixListener) *net.UnixListener { _ = os.Remove(path); return l },
			func(err error) bool { return errors.Is(err, ErrReplaced) },
		},
		"a name of a dead socket": {
			func(t *testing.T, path string, l *net.UnixListener) *net.UnixListener {
				_ = os.Remove(path)
				makeStale(t, path)
				return l
			},
			func(err error) bool { return errors.Is(err, ErrReplaced) },
		},
		"a name that is a file": {
			func(t *testing.T, path string, l *net.UnixListener) *net.UnixListener {
				_ = os.Remove(path)
				_ = os.WriteFile(path, nil, 0o600)
				return l
			},
			func(err error) bool { var not *NotSocketError; return errors.As(err, &not) },
		},
		"a directory open to others": {
			func(t *testing.T, path string, l *net.UnixListener) *net.UnixListener {
				_ = os.Chmod(filepath.Dir(path), 0o755)
				return l
			},
			func(err error) bool { var dir *InsecureDirError; return errors.As(err, &dir) },
		},
		"datagrams": {
			func(t *testing.T, path string, _ *net.UnixListener) *net.UnixListener {
				_ = os.Remove(path)
				return listenerOf(t, "unixgram", path)
			},
			saying("is no stream socket"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s.sock")
			l := c.spoil(t, path, passed(t, path))
			b, err := Adopt(path, l, true)
			if err == nil {
				_ = b.Close()
			}
			if err == nil || !c.want(err) {
				t.Fatalf("Adopt says %v", err)
			}
			if l.Close() != nil {
				t.Error("the listener is closed")
			}
			_ = os.Chmod(filepath.Dir(path), 0o700)
			lock, err := takeLock(path+".lock", path)
			if err != nil {
				t.Fatal(err)
			}
			_ = lock.release()
		})
	}
}

func saying(text string) func(error) bool {
	return func(err error) bool {
		var listener *ListenerError
		return errors.As(err, &listener) && strings.Contains(err.Error(), text)
	}
}

// listenerOf has package net take a datagram socket for a listener, as it does with what
// is passed by mistake.
func listenerOf(t *testing.T, network, path string) *net.UnixListener {
	t.Helper()
	c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.UnixListener)
}
