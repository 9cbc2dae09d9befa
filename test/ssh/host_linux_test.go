package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// dial connects to a service through ssh to hostName.
func (p *place) dial(t *testing.T, service string) *client.Conn {
	t.Helper()
	c, err := client.Dial(bounded(t), p.options(service, hostName))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func (p *place) options(service, host string) client.Options {
	return client.Options{Service: service, Version: version, Broker: p.url(host)}
}

// TestHost has a client talk to a backend of another host, by every way to ask.
func TestHost(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	p.serve(t, "echo", echo)
	opts := p.options("echo", hostName)
	dialer := &client.Dialer{Options: opts}
	long := strings.Repeat("x", 1<<20)
	for _, way := range []struct {
		name  string
		route client.Route
		dial  func(context.Context) (*client.Conn, error)
		rest  string // of the request, to be written
	}{
		{"Dial", client.HandedOver, func(ctx context.Context) (*client.Conn, error) { return client.Dial(ctx, opts) }, long},
		{"DialWith", client.HandedOver, func(ctx context.Context) (*client.Conn, error) { return client.DialWith(ctx, opts, []byte(long)) }, ""},
		{"Dialer", client.HandedOver, dialer.Dial, long},
		{"Dialer, again", client.HandedOver, dialer.Dial, long},
		{"reconnect", client.Reconnected, func(ctx context.Context) (*client.Conn, error) {
			o := opts
			o.NoHandoff = true
			return client.Dial(ctx, o)
		}, long},
	} {
		c, err := way.dial(bounded(t))
		must(t, err)
		if c.Route() != way.route || c.BackendVersion() != version || c.RemoteAddr().String() != opts.Broker {
			t.Errorf("%s: %s, version %s, address %s", way.name, c.Route(), c.BackendVersion(), c.RemoteAddr())
		}
		_, err = io.WriteString(c, way.rest)
		must(t, err)
		must(t, c.CloseWrite())
		if text, err := io.ReadAll(c); err != nil || string(text) != "welcome "+strings.ToUpper(long) {
			t.Errorf("%s: read %d bytes, %v", way.name, len(text), err)
		}
		must(t, c.Close())
	}
	testutil.WaitFor(t, "every ssh is reaped", func() bool { return len(children(t, "self")) == 0 })
}

// TestHostDeadlines: they hold, and what comes later is read.
func TestHostDeadlines(t *testing.T) {
	p := newPlace(t)
	answer := make(chan struct{})
	p.serve(t, "echo", func(c net.Conn) { <-answer; echo(c) })
	c := p.dial(t, "echo")
	must(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read: %v, want a timeout", err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	close(answer)
	if _, err := io.ReadFull(c, make([]byte, len("welcome "))); err != nil {
		t.Error(err)
	}
	must(t, c.SetWriteDeadline(time.Unix(1, 0)))
	if _, err := c.Write([]byte("x")); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("write: %v, want a timeout", err)
	}
}

// TestHostClose: Close returns at once, wakes who reads, and leaves no ssh, also where the
// backend takes no notice of the end.
func TestHostClose(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	end := make(chan struct{})
	p.serve(t, "silent", func(net.Conn) { <-end })
	t.Cleanup(func() { close(end) })
	c := p.dial(t, "silent")
	if len(children(t, "self")) == 0 {
		t.Fatal("no ssh is seen")
	}
	read := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	must(t, c.Close())
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	testutil.WaitFor(t, "ssh is reaped", func() bool { return len(children(t, "self")) == 0 })
}

// TestHostTimeout: a host that does not answer costs no more than Timeout, and leaves no
// ssh either.
func TestHostTimeout(t *testing.T) {
	testutil.Leaks(t)
	p := newPlace(t)
	opts := p.options("echo", hostName)
	opts.Timeout = 10 * time.Millisecond // less than sshd takes
	if _, err := client.Dial(bounded(t), opts); !errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("dial: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Dial(ctx, p.options("echo", hostName)); !errors.Is(err, context.Canceled) {
		t.Errorf("dial: %v", err)
	}
	testutil.WaitFor(t, "ssh is reaped", func() bool { return len(children(t, "self")) == 0 })
}

// TestHostFails: an error says which side it was, and what that said.
func TestHostFails(t *testing.T) {
	notShort(t)
	p := newPlace(t)
	p.serve(t, "echo", echo)
	down := p.url(hostName)
	none := p.path("none")
	for _, test := range []struct {
		name, url string
		ssh       bool
		code      int
		says      []string
	}{
		{"nobody there", p.url("down"), true, 255, []string{"ssh to down failed", "nobody is here"}},
		{"not let in", p.url("unknown"), true, 255, []string{"ssh to unknown failed", "Permission denied"}},
		{"no usher", "ssh://" + hostName + p.socket + "?usher=" + none, false, 127, []string{"no usher can be run on " + hostName, none, "?usher=PROGRAM"}},
		{"no broker", "ssh://" + hostName + none + "?usher=" + p.usher, false, 1, []string{"usher on " + hostName + " failed (exit code 1): no broker answers at " + none}},
		{"another program", "ssh://" + hostName + "?usher=/bin/false", false, 1, []string{"usher on " + hostName + " failed", "it said nothing"}},
	} {
		opts := client.Options{Service: "echo", Version: version, Broker: test.url}
		_, err := client.DialWith(bounded(t), opts, []byte("hello"))
		var host *client.HostError
		if !errors.Is(err, client.ErrBrokerUnreachable) || !errors.As(err, &host) || host.SSH != test.ssh || host.ExitCode != test.code {
			t.Errorf("%s: %#v, %v", test.name, host, err)
			continue
		}
		for _, text := range test.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", test.name, err, text)
			}
		}
		code, _, stderr := p.run(t, "", p.usher, "status", "--broker", test.url)
		for _, text := range test.says {
			if code != 1 || !strings.Contains(stderr, text) {
				t.Errorf("%s: exit code %d, %s", test.name, code, stderr)
			}
		}
	}
	var refused *client.RefusedError
	if _, err := client.Dial(bounded(t), p.options("nobody", hostName)); !errors.As(err, &refused) || refused.Code != client.CodeServiceUnknown {
		t.Errorf("refusal: %v", err)
	}
	for _, opts := range []client.Options{
		{Broker: "ssh://"}, {Broker: "ssh://-oProxyCommand=x"}, {Broker: "ssh://u:secret@h"}, {Broker: "ssh://h?what=x"},
		{Broker: down, OwnBuild: &client.OwnBuild{}}, {Broker: down, Start: func(context.Context) error { return nil }},
	} {
		opts.Service, opts.Version = "echo", version
		if _, err := client.Dial(bounded(t), opts); err == nil {
			t.Errorf("%s: no error", opts.Broker)
		}
	}
	t.Setenv("PATH", p.dir)
	if _, err := client.Dial(bounded(t), p.options("echo", hostName)); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("without ssh: %v", err)
	}
}

// TestHostLost: a connection that ssh loses ends with an error, never with an end of
// stream that looks like the backend's.
func TestHostLost(t *testing.T) {
	p := newPlace(t)
	p.serve(t, "echo", echo)
	c := p.dial(t, "echo")
	if _, err := io.ReadFull(c, make([]byte, len("welcome "))); err != nil {
		t.Fatal(err)
	}
	killSSHD(t)
	_, err := c.Read(make([]byte, 1))
	var host *client.HostError
	if !errors.As(err, &host) || !host.SSH || !strings.Contains(err.Error(), "the connection is lost: ssh to "+hostName) {
		t.Errorf("read: %v", err)
	}
}

// killSSHD kills what ssh of this process talks to, from sshd downward.
func killSSHD(t *testing.T) {
	t.Helper()
	for _, ssh := range children(t, "self") {
		sshd := children(t, ssh)
		for i := 0; i < len(sshd); i++ {
			sshd = append(sshd, children(t, sshd[i])...)
		}
		if len(sshd) == 0 {
			t.Fatal("ssh has no proxy command")
		}
		_ = exec.Command("kill", append([]string{"-KILL"}, sshd...)...).Run() // fails where one ended with its parent
	}
}

// TestHostVerbs: usher's verbs ask another host's broker as they ask this one's.
func TestHostVerbs(t *testing.T) {
	notShort(t)
	p := newPlace(t)
	p.serve(t, "echo", echo)
	url := p.url(hostName)
	check := func(wantCode int, want, stdin string, words ...string) {
		t.Helper()
		code, stdout, stderr := p.run(t, stdin, words...)
		if code != wantCode || !strings.Contains(stdout, want) {
			t.Errorf("%v: exit code %d, %q, %q; want %d, %q", words, code, stdout, stderr, wantCode, want)
		}
	}
	check(0, "accepting", "", p.usher, "status", "--broker", url)
	check(0, "ready", "", p.usher, "readyz", "--broker", url)
	check(0, "welcome HELLO", "hello", p.usher, "connect", "echo", "--broker", url)
	if !testutil.Portable { // descriptor 3 can't be given
		check(7, "welcome ", "", p.usher, "run", "--broker", url, "echo", "--", "sh", "-c", "head -c 8 <&3; exit 7")
	}
	check(2, "", "", p.usher, "status", "--broker", "ssh://")
	check(1, "", "", p.usher, "serve", "--broker", url)
	check(2, "", "", p.usher, "connect", "--raw", "--fdpass")
}

// TestHostHalfClose: of the two ends of a direction, the client's own arrives, and the
// backend's is seen only when the backend closes: ssh keeps its standard output open as
// long as it runs.
func TestHostHalfClose(t *testing.T) {
	p := newPlace(t)
	heard := make(chan string, 1)
	p.serve(t, "echo", func(c net.Conn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		text, _ := io.ReadAll(c)
		heard <- string(text)
	})
	c := p.dial(t, "echo")
	buf := make([]byte, 8)
	if n, err := io.ReadFull(c, buf[:3]); err != nil || string(buf[:n]) != "bye" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v; docs/beyond-one-host.md says that an end is not seen yet", n, err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(c, "late")
	must(t, err)
	must(t, c.CloseWrite())
	if got := <-heard; got != "late" {
		t.Errorf("the backend heard %q", got)
	}
	if n, err := c.Read(buf); err != io.EOF {
		t.Errorf("read %d, %v; want the end", n, err)
	}
}
