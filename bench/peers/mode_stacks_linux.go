package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-7265657e/usher/internal/world"
)

// A mode is how a connection reaches a program that knows nothing of usher. Of each, the
// client and the program are the same in every stack: for inetd cat, for the others the
// echo of this command. All clients dial a Unix socket and say nothing but their request.

var (
	inetdStacks = []stack{
		{mode: "inetd", name: "usher", note: "mode inetd", start: (*site).broker, first: dialled(path(inetdSocket)), alone: true, wait: true},
		{mode: "inetd", name: "s6-ipcserver", note: "", start: startS6Cat, first: dialled(path("s6.sock")), alone: true, wait: true},
		{mode: "inetd", name: "systemd", note: "systemd-socket-activate --inetd -a, as Accept=yes", start: startActivateInetd, first: dialled(path("activate.sock")), alone: true, wait: true},
	}
	// In each round the socket is a new one, which nobody has connected to, and the
	// connection that is measured starts the program.
	listenStacks = []stack{
		{mode: "listen-fds", name: "usher", note: "starts the program", start: (*site).broker, fresh: nextService, first: dialFresh, alone: true, over: quit},
		{mode: "listen-fds", name: "systemd", note: "systemd-socket-activate, becomes the program", start: findActivate, fresh: startActivate, first: dialFresh, alone: true, over: quit},
	}
	// A client of a relay says no more and waits for the other end, which is to be passed on
	// (half-close), or just closes.
	relayStacks = slices.Concat(relays("relay", true), relays("relay-close", false))
)

func relays(mode string, wait bool) []stack {
	return []stack{
		{mode: mode, name: "usher", note: "mode relay, splice", start: (*site).broker, first: dialled(path(relaySocket)), alone: true, wait: wait},
		{mode: mode, name: "socat", note: "a process per connection", start: once("socat", startSocat), first: dialled(path("socat.sock")), wait: wait},
		{mode: mode, name: "socket-proxyd", note: "systemd-socket-proxyd, splice, ends both directions at once", start: once("socket-proxyd", startProxyd), first: dialled(path("proxyd.sock")), wait: wait},
		{mode: mode, name: "haproxy", note: "", start: once("haproxy", startHAProxy), first: dialled(path("haproxy.sock")), wait: wait},
	}
}

// once starts what two modes have together.
func once(name string, start func(*site) ([]*world.Process, error)) func(*site) ([]*world.Process, error) {
	return func(s *site) (p []*world.Process, err error) {
		if s.shared[name] == nil {
			p, err = start(s)
			s.shared[name] = p
		}
		return s.shared[name], err
	}
}

const (
	inetdSocket = "inetd.sock"
	relaySocket = "relay.sock"
	inetdEcho   = "/bin/cat" // starts quicker than what there is in Go
)

func listenSocket(round int) string { return fmt.Sprintf("fds-%d.sock", round) }

// define writes the definitions of all modes: for listen-fds a service a round, which has
// run before, for its log is there: how long a disk takes to make one is not the question.
func (s *site) define(rounds int) error {
	logs := s.Path("running-process/shared")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return err
	}
	definitions := map[string]string{
		"inetd": fmt.Sprintf("binary_path = %q\n[start]\nmode = \"inetd\"\nlisten = %q\n", inetdEcho, s.Path(inetdSocket)),
		"relay": fmt.Sprintf("binary_path = %q\n[start]\nmode = \"relay\"\nargs = [\"role\", \"listen\", %q]\naddress = %q\nlisten = %q\n",
			s.self, s.Path("own.sock"), s.Path("own.sock"), s.Path(relaySocket)),
	}
	for round := range rounds {
		if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("fds-%d.log", round)), nil, 0o600); err != nil {
			return err
		}
		definitions[fmt.Sprintf("fds-%d", round)] = fmt.Sprintf("binary_path = %q\n[start]\nmode = \"listen-fds\"\nargs = [\"role\", \"listen\"]\nlisten = %q\n",
			s.self, s.Path(listenSocket(round)))
	}
	for name, text := range definitions {
		if err := os.WriteFile(s.Path("services/"+name+".toml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func startS6Cat(s *site) ([]*world.Process, error) {
	program, err := find("s6-ipcserver")
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, "-c", "1000", "-C", "1000", "-b", "128", s.Path("s6.sock"), inetdEcho)
}

const activate = "systemd-socket-activate"

func startActivateInetd(s *site) ([]*world.Process, error) {
	program, err := find(activate)
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, "--inetd", "-a", "-l", s.Path("activate.sock"), inetdEcho)
}

func findActivate(*site) ([]*world.Process, error) {
	_, err := find(activate)
	return nil, err
}

// nextService is usher's part of a round of listen-fds.
func nextService(ctx context.Context, s *site, round int) ([]*world.Process, error) {
	s.fresh = s.Path(listenSocket(round))
	return s.brokers, world.Until(ctx, "the broker listens", func() (bool, error) {
		_, err := os.Stat(s.fresh)
		return err == nil, nil
	})
}

// startActivate is systemd's; it says when it listens.
func startActivate(ctx context.Context, s *site, round int) ([]*world.Process, error) {
	program, err := find(activate)
	if err != nil {
		return nil, err
	}
	s.fresh = s.Path(fmt.Sprintf("activate-%d.sock", round))
	p, err := s.start(nil, program, "-l", s.fresh, s.self, "role", "listen")
	if err != nil {
		return nil, err
	}
	return p, world.Until(ctx, activate+" listens", func() (bool, error) {
		return strings.Contains(p[0].LastWords(), "Listening on"), nil
	})
}

func dialFresh(ctx context.Context, s *site) (net.Conn, error) {
	return dialled(func(*site) string { return s.fresh })(ctx, s)
}

// quit ends the program of a round: it closes its listener, and this its last connection.
func quit(e *entry) error {
	_, err := e.conn.Write([]byte{quitByte})
	return cmp.Or(err, end(e.conn, true))
}
