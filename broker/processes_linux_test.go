package broker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/backend"
	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// What a helper process is told through its environment.
const (
	envSocket = "BROKERTEST_SOCKET"
	envPipe   = "BROKERTEST_PIPE"
	envMode   = "BROKERTEST_MODE"
)

// process is a helper process. It says lines, and ends when its input ends.
type process struct {
	*exec.Cmd
	tb    testing.TB
	stdin io.WriteCloser
	lines *bufio.Reader
}

// start runs a helper of this binary, and waits until it has said "ready".
func start(tb testing.TB, name string, env ...string) *process {
	tb.Helper()
	cmd := testutil.Helper(tb, name)
	cmd.Env = append(cmd.Env, env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p := &process{Cmd: cmd, tb: tb, stdin: stdin, lines: bufio.NewReader(stdout)}
	tb.Cleanup(func() { _ = stdin.Close() })
	p.says("ready")
	return p
}

// says waits for the helper's next line, which must begin with word, and returns
// the rest of it.
func (p *process) says(word string) string {
	p.tb.Helper()
	line, err := p.lines.ReadString('\n')
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), word)
	if !ok {
		p.tb.Fatalf("helper said %q, %v; want %q", line, err, word)
	}
	return strings.TrimSpace(rest)
}

// end lets the helper end by itself and reaps it.
func (p *process) end() {
	p.tb.Helper()
	_ = p.stdin.Close()
	rest, _ := io.ReadAll(p.lines)
	if err := p.Wait(); err != nil {
		p.tb.Errorf("helper: %v, last words %q", err, rest)
	}
}

func say(words ...any) { fmt.Println(words...) }

func untilInputEnds() { _, _ = io.Copy(io.Discard, os.Stdin) }

// echoProcess runs a good backend of demo in a process of its own.
func (s *site) echoProcess(pipe string) *process {
	s.tb.Helper()
	return start(s.tb, "backend", envSocket+"="+s.Socket(), envPipe+"="+pipe, envMode+"=echo")
}

// refusingProcess runs a backend of demo that refuses every offer, and says
// "offer" for each.
func (s *site) refusingProcess(pipe string) *process {
	s.tb.Helper()
	return start(s.tb, "backend", envSocket+"="+s.Socket(), envPipe+"="+filepath.Join(s.dir, pipe), envMode+"=refuse")
}

func backendProcess() error {
	if os.Getenv(envMode) == "refuse" {
		return refuseAll()
	}
	l, err := backend.Listen(context.Background(), backend.Options{
		Service: demo, Version: demoVersion, Broker: os.Getenv(envSocket), Pipe: os.Getenv(envPipe),
	})
	if err != nil {
		return err
	}
	if err := l.WaitRegistered(context.Background()); err != nil {
		return err
	}
	go echo(l)
	say("ready")
	if os.Getenv(envMode) == "heir" {
		if err := leaveHeir(); err != nil {
			return err
		}
	}
	untilInputEnds()
	return l.Close()
}

func refuseAll() error {
	l, err := net.Listen("unix", os.Getenv(envPipe))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	answer, ch, err := register(os.Getenv(envSocket), &wire.Register{
		ServiceName: demo, ServiceVersion: demoVersion, BackendPipe: os.Getenv(envPipe),
	})
	if err != nil || !answer.Accepted {
		return fmt.Errorf("%v: %w", answer, err)
	}
	go func() {
		for {
			o, err := receiveOffer(ch)
			if err != nil {
				return
			}
			say("offer")
			o.fds.Close()
			_ = sendAck(ch, o, asNack)
		}
	}()
	say("ready")
	untilInputEnds()
	return ch.Close()
}

// clientProcess dials demo once per line of its input, which says in what time, and says what
// came of it.
func clientProcess() error {
	say("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		timeout, err := time.ParseDuration(in.Text())
		if err != nil {
			return err
		}
		c, err := client.Dial(context.Background(), client.Options{
			Service: demo, Version: demoVersion, Broker: os.Getenv(envSocket), Timeout: timeout, Eager: true,
		})
		var refused *client.RefusedError
		switch {
		case err == nil:
			say("got", c.Route())
			_ = c.Close()
		case errors.As(err, &refused):
			say("got", refused.Code)
		default:
			return err
		}
	}
	return nil
}

// dials makes the helper dial once, as long as it takes.
func (p *process) dials() string { p.tb.Helper(); return p.dialsFor(patience) }

// dialsFor makes the helper dial for so long: it asks again where it may come again.
func (p *process) dialsFor(timeout time.Duration) string {
	p.tb.Helper()
	if _, err := fmt.Fprintln(p.stdin, timeout); err != nil {
		p.tb.Fatal(err)
	}
	return p.says("got")
}
