//go:build unix

package endpoint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/sock"
)

// dials are both ways to connect.
var dials = map[string]func(context.Context, string) (*sock.Conn, error){
	"Dial":    Dial,
	"DialNow": func(_ context.Context, path string) (*sock.Conn, error) { return DialNow(path) },
}

func TestDialReachesTheOwnListener(t *testing.T) {
	b := mustBind(t, filepath.Join(shortDir(t), "s.sock"))
	for name, dial := range dials {
		c, err := dial(t.Context(), b.Path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.Close()
	}
}

func TestListenerOfAnotherUserIsNotTrusted(t *testing.T) {
	b := mustBind(t, filepath.Join(shortDir(t), "s.sock"))
	c, err := DialNow(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := sock.PeerOf(c); errors.Is(err, errors.ErrUnsupported) {
		if err := checkListener(c, b.Path, os.Geteuid()+1); err != nil {
			t.Errorf("a system that can't tell: %v", err)
		}
		return
	}
	var foreign *ForeignListenerError
	if err := checkListener(c, b.Path, os.Geteuid()+1); !errors.As(err, &foreign) || foreign.Path != b.Path || foreign.UID != uint32(os.Geteuid()) {
		t.Errorf("error %v, want *ForeignListenerError", err)
	}
}

func TestForeignListenerSaysWhatToDo(t *testing.T) {
	for uid, want := range map[uint32]string{1: "set XDG_RUNTIME_DIR", sock.OverflowUID: "in one user namespace"} {
		if text := (&ForeignListenerError{Path: "/s", UID: uid}).Error(); !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

func TestCheckBackendRoom(t *testing.T) {
	short := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", short)
	t.Setenv("TMPDIR", short)
	if err := CheckBackendRoom(); err != nil {
		t.Errorf("short directory: %v", err)
	}
	deep := filepath.Join(short, strings.Repeat("d", 90))
	t.Setenv("XDG_RUNTIME_DIR", deep)
	t.Setenv("TMPDIR", deep)
	err := CheckBackendRoom()
	var long *PathTooLongError
	if !errors.As(err, &long) || !strings.Contains(err.Error(), "backend.Options.Pipe") {
		t.Errorf("long directory: error %v, want *PathTooLongError naming backend.Options.Pipe", err)
	}
}
