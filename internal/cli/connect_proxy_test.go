//go:build unix

package cli

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// TestConnectHalfClose has the service end its direction first, and hear what comes
// later all the same.
func TestConnectHalfClose(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	heard := make(chan string, 1)
	p.startBackend(t, "notes", "1.2.0", func(c net.Conn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		text, _ := io.ReadAll(c)
		heard <- string(text)
	})
	stdin, input := io.Pipe()
	output, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	done := make(chan int, 1)
	go func() {
		done <- Run(t.Context(), []string{"connect", "notes@1.2.0"}, stdin, stdout, io.Discard)
	}()
	if text, err := io.ReadAll(output); err != nil || string(text) != "bye" {
		t.Errorf("read %q, %v", text, err)
	}
	_, _ = io.WriteString(input, "late")
	_ = input.Close()
	if got := <-heard; got != "late" {
		t.Errorf("the service heard %q", got)
	}
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestConnectSharedSocket has one socket as standard input and output, as inetd gives it.
func TestConnectSharedSocket(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", func(c net.Conn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	near, far, err := sock.StreamPair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	done := make(chan int, 1)
	go func() { done <- Run(t.Context(), []string{"connect", "notes@1.2.0"}, far, far, io.Discard) }()
	if text, err := io.ReadAll(near); err != nil || string(text) != "bye" {
		t.Errorf("read %q, %v", text, err)
	}
	_ = near.CloseWrite()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestConnectPasses has a service that speaks first: not a byte of it may stay with usher.
func TestConnectPasses(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.define(t, "notes")
	p.startBroker(t)
	p.startBackend(t, "notes", "1.2.0", func(c net.Conn) {
		_, _ = io.WriteString(c, "welcome ")
		echo(c)
	})
	for _, args := range [][]string{{}, {"--no-handoff"}} {
		near, far, err := sock.StreamPair()
		if err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		code := Run(t.Context(), append([]string{"connect", "--fdpass", "notes"}, args...), strings.NewReader(""), far, &stderr)
		_ = far.Close()
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		got, err := sock.Receive(near, make([]byte, 2))
		_ = near.Close()
		if err != nil || got.N != 1 || got.FDs.Len() != 1 {
			t.Fatalf("received %+v, %v; want one byte and one descriptor", got, err)
		}
		conn := got.FDs.TakeConn(0)
		_, _ = io.WriteString(conn, "hello")
		_ = conn.CloseWrite()
		if text, err := io.ReadAll(conn); err != nil || string(text) != "welcome HELLO" {
			t.Errorf("%v: read %q, %v", args, text, err)
		}
		_ = conn.Close()
	}
	run(t, "connect", "--fdpass", "notes").want(t, exitFailed, "", "standard output is not a socket")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if code := Run(t.Context(), []string{"connect", "--fdpass", "notes"}, strings.NewReader(""), w, io.Discard); code != exitFailed {
		t.Errorf("through a pipe: exit code %d", code)
	}
}
